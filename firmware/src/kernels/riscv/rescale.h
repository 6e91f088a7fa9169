/* Sums to outputs, exact where sums are below 2^29: a multiplication's upper half, and one shift for both of TensorFlow
 * Lite's roundings. */
#ifndef ML_RISCV_RESCALE_H
#define ML_RISCV_RESCALE_H

#include "../dot.h"

typedef struct ml_channel {
    int32_t start; /* what the sum begins with */
    int32_t multiplier, offset, shift; /* sdk/variants/riscv.py */
} ml_channel;

/* `has_sign`: whether outputs below the zero point show; to these negative sums add something. */
ML_INLINE int32_t ml_rescaled(const ml_channel *c, uint32_t sum, bool has_sign, int32_t low, int32_t high) {
    uint32_t scaled = (uint32_t)(((int64_t)(int32_t)(sum << 2) * c->multiplier) >> 32) + (uint32_t)c->offset;
    if (has_sign) {
        scaled -= sum >> 31 << 1;
    }
    return ml_clamp((int32_t)scaled >> (c->shift & 31), low, high);
}

#endif
