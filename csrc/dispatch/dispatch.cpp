#include "dispatch/dispatch.h"

#include <cstdlib>
#include <cstring>

#include "dispatch/cpu.h"

#define QS_TABLE_DECLARATION(isa, family) extern "C" const qs::family##_kernels qs_##isa##_##family;
#define QS_ISA(isa, runnable) QS_FOR_EACH_FAMILY(QS_TABLE_DECLARATION, isa)
#include "dispatch/isa.def"
#undef QS_ISA

namespace qs {
namespace {

constexpr int kMaxIsas = 8;

struct Registry {
  Isa isa[kMaxIsas];
  int count = 0;
};

Registry make_registry() noexcept {
  const Cpu cpu = detect_cpu();
  (void)cpu;
  Registry registry;
#define QS_TABLE_ADDRESS(isa, family) &qs_##isa##_##family,
#define QS_ISA(name, runnable) \
  registry.isa[registry.count++] = {#name, runnable, {QS_FOR_EACH_FAMILY(QS_TABLE_ADDRESS, name)}};
#include "dispatch/isa.def"
#undef QS_ISA
  return registry;
}

const Registry& registry() noexcept {
  static const Registry value = make_registry();
  return value;
}

const Isa* choose_isa() noexcept {
  const char* const wanted = std::getenv(kIsaVariable);
  if (wanted == nullptr || *wanted == '\0') return best_isa();
  const Isa* const isa = find_isa(wanted);
  return isa != nullptr && isa->runnable ? isa : nullptr;
}

}  // namespace

const Isa* isas(int* count) noexcept {
  *count = registry().count;
  return registry().isa;
}

const Isa* find_isa(const char* name) noexcept {
  for (int i = 0; i < registry().count; ++i) {
    if (std::strcmp(registry().isa[i].name, name) == 0) return &registry().isa[i];
  }
  return nullptr;
}

const Isa* best_isa() noexcept {
  const Isa* isa = registry().isa;
  while (!isa->runnable) ++isa;
  return isa;
}

const Isa* active_isa() noexcept {
  static const Isa* const chosen = choose_isa();
  return chosen;
}

}  // namespace qs
