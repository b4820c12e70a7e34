// Compiles one kernel family (QS_FAMILY) for sse2; see qs_add_isa() in cmake/Isa.cmake.
#include "simd/vec_sse2.h"

#define QS_ISA sse2
#include "targets/family.inl.h"
