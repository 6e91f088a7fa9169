/* Sums to outputs without a 64-bit multiply; the host has solved for what makes it exact: sdk/variants/thumb_scales.py.
 */
#ifndef ML_THUMB_RESCALE_H
#define ML_THUMB_RESCALE_H

#include "../dot.h"

#define ML_PART_BITS 13
#define ML_LONG_WAY 0xFF

typedef struct ml_channel {
    int32_t start; /* what the sum begins with */
    int32_t offset; /* the long way: the multiplier */
    uint32_t parts; /* of the multiplier: the low one, and the high one shifted left by 16 */
    int32_t low; /* sums below are taken for this one; shifted left by 8, with the shift (or ML_LONG_WAY) below it */
    int32_t high; /* sums above are taken for this one */
} ml_channel;

/* Two outputs of one channel, whose constants are not those of the long way. A sum may be any; where it is one that the
 * host took for impossible, so is the output. */
ML_INLINE void ml_rescale_two(const ml_channel *c, int32_t *sum0, int32_t *sum1) {
#if defined(__thumb__) && !defined(__thumb2__)
    const int32_t *constants = &c->offset;
#define ML_CLAMP(sum)      \
    "cmp " sum ", r5\n"    \
    "bge 1f\n"             \
    "movs " sum ", r5\n"   \
    "1: cmp " sum ", r6\n" \
    "ble 2f\n"             \
    "movs " sum ", r6\n"   \
    "2:\n"
#define ML_SCALE(sum)                        \
    "movs r6, " sum "\n"                     \
    "muls r6, r5, r6\n"                      \
    "asrs r6, r6, #13\n"                     \
    "adds r6, r6, r3\n"                      \
    "asrs %[constants], " sum ", #31\n"      \
    "lsls %[constants], %[constants], #13\n" \
    "adds r6, r6, %[constants]\n"            \
    "muls " sum ", r4, " sum "\n"            \
    "adds " sum ", " sum ", r6\n"            \
    "asrs " sum ", " sum ", r7\n"
    __asm__(".syntax unified\n"
            "ldmia %[constants]!, {r3, r4, r5, r6}\n"
            "uxtb r7, r5\n"
            "asrs r5, r5, #8\n" ML_CLAMP("%[sum0]") ML_CLAMP("%[sum1]") "sxth r5, r4\n"
                                                                        "lsrs r4, r4, #16\n" ML_SCALE("%[sum0]")
                                                                            ML_SCALE("%[sum1]")
            : [constants] "+l"(constants), [sum0] "+l"(*sum0), [sum1] "+l"(*sum1)
            :
            : "r3", "r4", "r5", "r6", "r7", "cc", "memory");
#else
    int32_t *sums[] = {sum0, sum1}, low_part = (int16_t)(uint16_t)c->parts;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t sum = (uint32_t)ml_clamp(*sums[i], c->low >> 8, c->high);
        uint32_t low_product = (uint32_t)((int32_t)(sum * (uint32_t)low_part) >> ML_PART_BITS);
        uint32_t sign = (uint32_t)((int32_t)sum >> 31) << ML_PART_BITS;
        sum = sum * (c->parts >> 16) + low_product + sign + (uint32_t)c->offset;
        *sums[i] = (int32_t)sum >> (c->low & 31);
    }
#endif
}

/* The long way, for channels that have no short one. */
static inline bool ml_is_long(const ml_channel *c) { return (uint8_t)c->low == ML_LONG_WAY; }

static __attribute__((noinline)) int32_t ml_rescaled_long(const ml_quantized *q, const ml_channel *c, int32_t sum) {
    int32_t scale[2] = {c->offset, c->low >> 8};
    return ml_finish(q, sum, scale);
}

#endif
