/* Sums to outputs without a 64-bit multiply; the host has solved for what makes it exact: sdk/variants/thumb_scales.py.
 */
#ifndef ML_THUMB_RESCALE_H
#define ML_THUMB_RESCALE_H

#include "../dot.h"

typedef struct ml_channel {
    int32_t start; /* what the sum begins with */
    int32_t offset;
    uint32_t parts; /* of the multiplier: the low one, and the high one shifted left by 16 */
    int32_t low; /* sums below are taken for this one; shifted left by 8, with the shift below it */
    int32_t high; /* sums above are taken for this one */
} ml_channel;

#if defined(__thumb__) && !defined(__thumb2__)
/* Parts of assembly code: operands are registers. */
#define ML_CLAMP(sum, low, high) \
    "cmp " sum ", " low "\n"     \
    "bge 2f\n"                   \
    "movs " sum ", " low "\n"    \
    "2: cmp " sum ", " high "\n" \
    "ble 3f\n"                   \
    "movs " sum ", " high "\n"   \
    "3:\n"

#define ML_SCALE(sum, offset, high_part, low_part, shift, product, sign) \
    "movs " product ", " sum "\n"                                        \
    "muls " product ", " low_part ", " product "\n"                      \
    "asrs " product ", " product ", #13\n"                               \
    "adds " product ", " product ", " offset "\n"                        \
    "asrs " sign ", " sum ", #31\n"                                      \
    "lsls " sign ", " sign ", #13\n"                                     \
    "adds " product ", " product ", " sign "\n"                          \
    "muls " sum ", " high_part ", " sum "\n"                             \
    "adds " sum ", " sum ", " product "\n"                               \
    "asrs " sum ", " sum ", " shift "\n"
#endif

/* A sum may be any; where it is one that the host took for impossible, so is the output. */
static inline int8_t ml_rescaled(const ml_channel *c, int32_t sum) {
    int32_t low_part = (int16_t)(uint16_t)c->parts;
    uint32_t kept = (uint32_t)ml_clamp(sum, c->low >> 8, c->high);
    uint32_t low_product = (uint32_t)((int32_t)(kept * (uint32_t)low_part) >> 13);
    uint32_t sign = (uint32_t)((int32_t)kept >> 31) << 13;
    kept = kept * (c->parts >> 16) + low_product + sign + (uint32_t)c->offset;
    return (int8_t)((int32_t)kept >> (c->low & 31));
}

#endif
