// Compiles one kernel family (QS_FAMILY) for avx2; see qs_add_isa() in cmake/Isa.cmake.
#include "simd/vec_avx2.h"

#define QS_ISA avx2
#include "targets/family.inl.h"
