/* Preloaded into a process, hides instruction sets from it: every CPUID instruction that faults is answered here.
 *
 * Where the kernel and the CPU can make CPUID fault (arch_prctl(ARCH_SET_CPUID)), all of them do, from here on. Where
 * they cannot, whoever starts the process replaces the instructions in a copy of the library in question by
 * "int $0xa2", which is of the same length and which no user process may execute. Both end in SIGSEGV.
 *
 * QUANTSTATS_HIDE says what is hidden: "vnni" is VNNI in all its encodings and AMX; "avx512" is AVX-512 as well.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7, subleaves 0 and 1, by register. */
#define VNNI_7_0_ECX (BIT(11))                    /* AVX512_VNNI */
#define AMX_7_0_EDX (BIT(22) | BIT(24) | BIT(25)) /* AMX-BF16, AMX-TILE, AMX-INT8 */
#define VNNI_7_1_EAX (BIT(4) | BIT(21))           /* AVX-VNNI, AMX-FP16 */
#define VNNI_7_1_EDX (BIT(4) | BIT(8) | BIT(10))  /* AVX-VNNI-INT8, AMX-COMPLEX, AVX-VNNI-INT16 */
#define AVX512_7_0_EBX (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_7_0_ECX (BIT(1) | BIT(6) | BIT(12) | BIT(14)) /* VBMI, VBMI2, BITALG, VPOPCNTDQ */
#define AVX512_7_0_EDX (BIT(2) | BIT(3) | BIT(8) | BIT(23))  /* 4VNNIW, 4FMAPS, VP2INTERSECT, FP16 */
#define AVX512_7_1_EAX (BIT(5))                              /* AVX512_BF16 */
#define AVX10_7_1_EDX (BIT(19))

static struct sigaction previous;
static int faulting, hide_avx512;

static void set_faulting(int on) {
  if (faulting) syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)!on);
}

static void emulate(int number, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  const unsigned char* at = (const unsigned char*)registers[REG_RIP];
  unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX], a, b, c, d;
  /* An address that cannot be read is a fault of its own, and si_addr tells: a general protection fault has none. */
  if (info->si_code != SI_KERNEL || (at[0] != 0x0f && at[0] != 0xcd) || at[1] != 0xa2) {
    sigaction(number, &previous, NULL);
    return;
  }
  set_faulting(0);
  __cpuid_count(leaf, subleaf, a, b, c, d);
  set_faulting(1);
  if (leaf == 7 && subleaf == 0) {
    c &= ~VNNI_7_0_ECX;
    d &= ~AMX_7_0_EDX;
    if (hide_avx512) {
      b &= ~AVX512_7_0_EBX;
      c &= ~AVX512_7_0_ECX;
      d &= ~AVX512_7_0_EDX;
    }
  } else if (leaf == 7 && subleaf == 1) {
    a &= ~VNNI_7_1_EAX;
    d &= ~VNNI_7_1_EDX;
    if (hide_avx512) {
      a &= ~AVX512_7_1_EAX;
      d &= ~AVX10_7_1_EDX;
    }
  } else if (leaf == 0x1d || leaf == 0x1e || (leaf == 0x24 && hide_avx512)) { /* tiles, AVX10 */
    a = b = c = d = 0;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
  const char* hidden = getenv("QUANTSTATS_HIDE");
  struct sigaction action;
  hide_avx512 = hidden && strcmp(hidden, "avx512") == 0;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = emulate;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &previous);
  faulting = syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0ul) == 0;
}
