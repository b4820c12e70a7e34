// The body of every target: the kernels of QS_FAMILY, written once on the vector trait, in an anonymous namespace, and
// the one symbol that leaves the object, the table qs_<isa>_<family>.
#include "kernels/tables.h"

#define QS_SYMBOL_(isa, family) qs_##isa##_##family
#define QS_SYMBOL(isa, family) QS_SYMBOL_(isa, family)

namespace {
using namespace qs;
}
#include QS_FAMILY_FILE

namespace {

// A kernel as its callers get it: the upper halves of the vector registers are clean when it returns. Compilers forget
// that on some paths, and then every SSE instruction that the program executes later waits for the old upper half.
template <auto kernel>
struct Entry;
template <class Result, class... Arguments, Result (*kernel)(Arguments...) noexcept>
struct Entry<kernel> {
  static Result call(Arguments... arguments) noexcept {
    const CleanUpperHalves clean;
    return kernel(arguments...);
  }
};

}  // namespace

extern "C" {
#define QS_FAMILY_BEGIN(family)                                \
  extern const qs::family##_kernels QS_SYMBOL(QS_ISA, family); \
  const qs::family##_kernels QS_SYMBOL(QS_ISA, family) = {
#define QS_KERNEL(result, name, parameters) &Entry<&name>::call,
#define QS_FAMILY_END(family) \
  }                           \
  ;
#include "kernels/kernels.def"
}
