/* Counts the bytes that a process has from malloc and its kin, and the most it had since the last reset. Loaded before
 * the C library (LD_PRELOAD) by test_scratch.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* The names by which glibc exports its own functions: dlsym() allocates, and may not be asked. */
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
extern void __libc_free(void*);

static atomic_llong live, peak;

static void* took(void* p) {
  if (p != NULL) {
    const long long now = atomic_fetch_add(&live, (long long)malloc_usable_size(p)) + (long long)malloc_usable_size(p);
    long long before = atomic_load(&peak);
    while (before < now && !atomic_compare_exchange_weak(&peak, &before, now)) {
    }
  }
  return p;
}

static void gave(void* p) {
  if (p != NULL) atomic_fetch_sub(&live, (long long)malloc_usable_size(p));
}

void* malloc(size_t n) { return took(__libc_malloc(n)); }
void* calloc(size_t n, size_t size) { return took(__libc_calloc(n, size)); }
void* memalign(size_t alignment, size_t n) { return took(__libc_memalign(alignment, n)); }
void* aligned_alloc(size_t alignment, size_t n) { return took(__libc_memalign(alignment, n)); }
int posix_memalign(void** p, size_t alignment, size_t n) {
  void* const memory = __libc_memalign(alignment, n);
  if (memory == NULL) return ENOMEM;
  *p = took(memory);
  return 0;
}
void free(void* p) {
  gave(p);
  __libc_free(p);
}
void* realloc(void* p, size_t n) {
  const long long before = p == NULL ? 0 : (long long)malloc_usable_size(p);
  void* const q = __libc_realloc(p, n);
  if (q == NULL && n != 0) return NULL;
  atomic_fetch_sub(&live, before);
  return took(q);
}

/* From here on. */
void allocations_begin(void) { atomic_store(&peak, atomic_load(&live)); }
/* How much more than at the beginning there was at once; `before` is what allocations_live() said then. */
long long allocations_live(void) { return atomic_load(&live); }
long long allocations_peak(void) { return atomic_load(&peak); }
