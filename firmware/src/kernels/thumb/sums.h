/* Sums of products, two a multiply. A word holds two signed numbers, (high << 16) + low, and so does what comes of
 * multiplying it.
 *
 * Products are added up in twos before the halves are told apart: the host has seen to it that no low half of a group
 * leaves 16 bits. A sum has a word of everything, modulo 2^32, and a sum of the high halves; what is left of the first
 * without the second is the sum of the low halves. Two such sums, of two words, are computed together. */
#ifndef ML_THUMB_SUMS_H
#define ML_THUMB_SUMS_H

#include "rescale.h"

#define GROUP_TAPS 2u

#if defined(__thumb__) && !defined(__thumb2__)
/* Parts of assembly code. r0: words; r1: what they are multiplied with; r8, r9: sums of words; r6, r7: of their high
 * halves; r10: the end of r0; r11: code to skip at first, so that a whole number of rounds is left; r12: the job. */
/* clang-format off */
/* Adds the products of two words of inputs and of the weights in `w0` and `w1`. The shift leaves in the carry whether
 * the low half is negative. */
#define ADD_TWO(w0, w1, all, high)   \
    "ldmia r0!, {r2, r3}\n"          \
    "muls r2, " w0 ", r2\n"          \
    "muls r3, " w1 ", r3\n"          \
    "adds r2, r2, r3\n"              \
    "add " all ", r2\n"              \
    "asrs r2, r2, #16\n"             \
    "adcs " high ", " high ", r2\n"
#define ADD_GROUP(w0, w1) ADD_TWO(w0, w1, "r8", "r6") ADD_TWO(w0, w1, "r9", "r7")

/* A group whose factors are bytes. */
#define BYTES_GROUP(at0, at1)     \
    "ldrb r4, [r1, #" at0 "]\n"  \
    "sxtb r4, r4\n"              \
    "ldrb r5, [r1, #" at1 "]\n"  \
    "sxtb r5, r5\n"              \
    ADD_GROUP("r4", "r5")
#define BYTES_GROUPS                                 \
    "add pc, r11\n"                                 \
    "nop\n"                                         \
    "4:\n"                                          \
    BYTES_GROUP("0", "1") BYTES_GROUP("2", "3")      \
    BYTES_GROUP("4", "5") BYTES_GROUP("6", "7")      \
    "adds r1, r1, #8\n"                             \
    "cmp r0, r10\n"                                 \
    "bne 4b\n"
#define BYTES_GROUP_CODE 36u /* bytes */

/* Leaves sums of high halves in r6 and r7, of low ones in r8 and r9; r2: the block. */
#define END_SUMS                     \
    "lsls r3, r6, #16\n"             \
    "mov r0, r8\n"                   \
    "subs r0, r0, r3\n"              \
    "mov r8, r0\n"                   \
    "lsls r3, r7, #16\n"             \
    "mov r0, r9\n"                   \
    "subs r0, r0, r3\n"              \
    "mov r9, r0\n"
#define RUN(code)                                                                                                    \
    register const void *b __asm__("r0") = job;                                                                     \
    register uint32_t skip __asm__("r1") = skipped;                                                                  \
    __asm__ volatile(".syntax unified\n" code                                                                        \
                     : "+l"(b), "+l"(skip)                                                                           \
                     :                                                                                               \
                     : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")
/* clang-format on */
#else
/* Two pairs of sums: of words, and of high halves. */
typedef struct sums {
    uint32_t all[2], high[2];
} sums;

static sums started(uint32_t low, uint32_t high) {
    uint32_t all = low + (high << 16);
    return (sums){{all, all}, {high, high}};
}

static void add_group(sums *s, const uint32_t *inputs, uint32_t weight0, uint32_t weight1) {
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t group = inputs[2u * i] * weight0 + inputs[2u * i + 1u] * weight1;
        s->all[i] += group;
        s->high[i] += (uint32_t)((int32_t)group >> 16) + ((group >> 15) & 1u);
    }
}

/* Of the low halves (0) and the high ones (1) of both pairs. */
static int8_t output_of(const sums *s, uint32_t half, uint32_t pair, const ml_channel *c) {
    return ml_rescaled(c, (int32_t)(half ? s->high[pair] : s->all[pair] - (s->high[pair] << 16)));
}
#endif

/* Groups that the first of the rounds of 4 does without. */
static inline uint32_t ml_spare(uint32_t groups) { return (0u - groups) & 3u; }

#endif
