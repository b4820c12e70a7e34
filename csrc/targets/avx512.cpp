// Compiles one kernel family (QS_FAMILY) for avx512; see qs_add_isa() in cmake/Isa.cmake.
#include "simd/vec_avx512.h"

#define QS_ISA avx512
#include "targets/family.inl.h"
