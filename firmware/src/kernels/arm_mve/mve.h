/* What the kernels for Helium (Cortex-M55, M85) share. Without Helium the same is plain C. */
#ifndef ML_MVE_H
#define ML_MVE_H

#include "../window.h"

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

/* Copies `count` bytes, `count` not 0, between places that do not overlap. */
static inline void ml_mve_copy(int8_t *to, const int8_t *from, uint32_t count) {
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile("dlstp.8 lr, %[count]\n"
                     "1: vldrb.8 q0, [%[from]], #16\n"
                     "vstrb.8 q0, [%[to]], #16\n"
                     "letp lr, 1b"
                     : [to] "+r"(to), [from] "+r"(from)
                     : [count] "r"(count)
                     : "lr", "q0", "memory");
#else
    memmove(to, from, count); /* hostile programs have scratch that overlaps */
#endif
}

/* Sets `count` bytes, `count` not 0. */
static inline void ml_mve_fill(int8_t *to, int8_t value, uint32_t count) {
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile("vdup.8 q0, %[value]\n"
                     "dlstp.8 lr, %[count]\n"
                     "1: vstrb.8 q0, [%[to]], #16\n"
                     "letp lr, 1b"
                     : [to] "+r"(to)
                     : [value] "r"(value), [count] "r"(count)
                     : "lr", "q0", "memory");
#else
    memset(to, value, count);
#endif
}

#endif
