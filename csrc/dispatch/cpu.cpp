#include "dispatch/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace qs {

#if defined(__x86_64__)

Cpu detect_cpu() noexcept {
  Cpu cpu;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
  constexpr unsigned leaf1 = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B | bit_FMA |
                             bit_MOVBE | bit_F16C | bit_AVX | bit_OSXSAVE;
  if ((c & leaf1) != leaf1) return cpu;

  unsigned xcr0, upper;
  __asm__("xgetbv" : "=a"(xcr0), "=d"(upper) : "c"(0));
  constexpr unsigned ymm_state = 0x06;
  constexpr unsigned zmm_state = 0xe6;
  if ((xcr0 & ymm_state) != ymm_state) return cpu;

  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
  const unsigned leaf7 = b;
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d)) return cpu;
  constexpr unsigned lahf = 1u << 0;
  constexpr unsigned lzcnt = 1u << 5;
  constexpr unsigned extended = lahf | lzcnt;
  constexpr unsigned v3 = bit_AVX2 | bit_BMI | bit_BMI2;
  constexpr unsigned v4 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
  cpu.x86_64_v3 = (leaf7 & v3) == v3 && (c & extended) == extended;
  cpu.x86_64_v4 = cpu.x86_64_v3 && (leaf7 & v4) == v4 && (xcr0 & zmm_state) == zmm_state;
  return cpu;
}

#else

Cpu detect_cpu() noexcept { return {}; }

#endif

}  // namespace qs
