// The body of every target: the kernels of QS_FAMILY, written once on the vector trait, in an anonymous namespace, and
// the one symbol that leaves the object, the table qs_<isa>_<family>.
#include "kernels/tables.h"

#define QS_SYMBOL_(isa, family) qs_##isa##_##family
#define QS_SYMBOL(isa, family) QS_SYMBOL_(isa, family)

namespace {
using namespace qs;
}
#include QS_FAMILY_FILE

extern "C" {
#define QS_FAMILY_BEGIN(family)                                \
  extern const qs::family##_kernels QS_SYMBOL(QS_ISA, family); \
  const qs::family##_kernels QS_SYMBOL(QS_ISA, family) = {
#define QS_KERNEL(result, name, parameters) &name,
#define QS_FAMILY_END(family) \
  }                           \
  ;
#include "kernels/kernels.def"
}
