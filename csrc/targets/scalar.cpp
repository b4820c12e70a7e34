// Compiles one kernel family (QS_FAMILY) for scalar; see qs_add_isa() in cmake/Isa.cmake.
#include "simd/vec_scalar.h"

#define QS_ISA scalar
#include "targets/family.inl.h"
