// The table of every family, and the table of tables of one instruction set. Types only: the objects of the instruction
// sets include this header, so it must hold no inline function.
#pragma once

#include "kernels/arguments.h"

namespace qs {

#define QS_FAMILY_BEGIN(family) struct family##_kernels {
#define QS_KERNEL(result, name, parameters) result(*name) parameters noexcept;
#define QS_FAMILY_END(family) \
  }                           \
  ;
#ifndef QS_FAMILY
#define QS_ALL_FAMILIES
#endif
#include "kernels/kernels.def"
#undef QS_FAMILY_BEGIN
#undef QS_KERNEL
#undef QS_FAMILY_END

}  // namespace qs
