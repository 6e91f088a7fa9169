/* What the kernels for Helium (Cortex-M55, M85) share. Without Helium the same is plain C. */
#ifndef ML_MVE_H
#define ML_MVE_H

#include "../window.h"

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

/* Copies `rows` times `count` bytes, neither 0, between places that do not overlap; steps are from row to row. */
static inline void ml_mve_copy_rows(int8_t *to, uint32_t to_step, const int8_t *from, uint32_t from_step, uint32_t rows,
                                    uint32_t count) {
#if defined(__ARM_FEATURE_MVE)
    const int8_t *source = from;
    int8_t *target = to;
    __asm__ volatile("1: dlstp.8 lr, %[count]\n"
                     "2: vldrb.8 q0, [%[source]], #16\n"
                     "vstrb.8 q0, [%[target]], #16\n"
                     "letp lr, 2b\n"
                     "add %[from], %[from], %[from_step]\n"
                     "add %[to], %[to], %[to_step]\n"
                     "mov %[source], %[from]\n"
                     "mov %[target], %[to]\n"
                     "subs %[rows], %[rows], #1\n"
                     "bne 1b"
                     : [to] "+r"(to), [from] "+r"(from), [target] "+r"(target), [source] "+r"(source), [rows] "+r"(rows)
                     : [to_step] "r"(to_step), [from_step] "r"(from_step), [count] "r"(count)
                     : "lr", "q0", "cc", "memory");
#else
    for (; rows != 0; rows--, to += to_step, from += from_step) {
        memmove(to, from, count); /* hostile programs have scratch that overlaps */
    }
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
