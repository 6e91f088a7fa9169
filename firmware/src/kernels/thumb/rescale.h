/* Sums to outputs without a 64-bit multiply; the host has solved for what makes it exact: sdk/variants/thumb_scales.py.
 */
#ifndef ML_THUMB_RESCALE_H
#define ML_THUMB_RESCALE_H

#include "../dot.h"

typedef struct ml_scale {
    int32_t offset;
    uint32_t parts; /* of the multiplier: the low one, and the high one shifted left by 16 */
    int32_t low; /* sums below are taken for this one; shifted left by 8, with the shift below it */
    int32_t high; /* sums above are taken for this one */
} ml_scale;

typedef struct ml_channel {
    int32_t start; /* what the sum begins with */
    ml_scale scale;
} ml_channel;

#if defined(__thumb__) && !defined(__thumb2__)
/* Parts of assembly code: operands are registers, of `shift` the lowest byte. */
#define ML_CLAMP(sum, low, high) \
    "cmp " sum ", " low "\n"     \
    "bge 2f\n"                   \
    "movs " sum ", " low "\n"    \
    "2: cmp " sum ", " high "\n" \
    "ble 3f\n"                   \
    "movs " sum ", " high "\n"   \
    "3:\n"

#define ML_SCALE(sum, offset, high_part, low_part, shift, product, sign_term)                        \
    "movs " product ", " sum "\n"                                                                    \
    "muls " product ", " low_part ", " product "\n"                                                  \
    "asrs " product ", " product ", #13\n"                                                           \
    "adds " product ", " product ", " offset "\n" sign_term "muls " sum ", " high_part ", " sum "\n" \
    "adds " sum ", " sum ", " product "\n"                                                           \
    "asrs " sum ", " sum ", " shift "\n"

/* What negative sums get less, where that shows; `spare` is a register. */
#define ML_SIGN(sum, product, spare)   \
    "asrs " spare ", " sum ", #31\n"   \
    "lsls " spare ", " spare ", #13\n" \
    "adds " product ", " product ", " spare "\n"
#define ML_NO_SIGN(sum, product, spare) ""
#endif

/* A sum may be any; where it is one that the host took for impossible, so is the output. `has_sign`: whether negative
 * sums get ML_SIGN. */
ML_INLINE int8_t ml_rescaled(const ml_scale *s, int32_t sum, bool has_sign) {
    int32_t low_part = (int16_t)(uint16_t)s->parts;
    uint32_t kept = (uint32_t)ml_clamp(sum, s->low >> 8, s->high);
    uint32_t low_product = (uint32_t)((int32_t)(kept * (uint32_t)low_part) >> 13);
    uint32_t sign = has_sign ? (uint32_t)((int32_t)kept >> 31) << 13 : 0;
    kept = kept * (s->parts >> 16) + low_product + sign + (uint32_t)s->offset;
    return (int8_t)((int32_t)kept >> (s->low & 31));
}

#endif
