/* Sigmoid and tanh of int16, as TensorFlow Lite's integer kernels have them: one table for both, since
 * tanh(x) = 2 sigmoid(2x) - 1, with linear interpolation. Their arguments come scaled by 3/4, that is, x in Q3.12 comes
 * as 3x, so that the table, which holds sigmoid(i / 24) in Q0.16, has a power of two between two entries. */
#ifndef ML_SIGMOID_H
#define ML_SIGMOID_H

#include "kernel.h"

#define ML_SIGMOID_ENTRIES 256u

/* sigmoid(|x|) in Q0.(16 + bits), `bits` of |x| lying between two entries of the table. */
static inline int32_t ml_sigmoid_of_magnitude(int32_t x, const uint16_t *table, uint32_t bits, int32_t beyond) {
    uint32_t magnitude = x < 0 ? 0u - (uint32_t)x : (uint32_t)x;
    uint32_t index = magnitude >> bits;
    if (index >= ML_SIGMOID_ENTRIES - 1u) {
        return beyond;
    }
    uint32_t rest = magnitude & ((1u << bits) - 1u);
    return (int32_t)(((uint32_t)table[index] << bits) + rest * (uint32_t)(table[index + 1u] - table[index]));
}

/* sigmoid in Q0.15 of x / 16384; round half up. */
static inline int32_t ml_sigmoid_s16(int32_t x, const uint16_t *table) {
    int32_t y = ml_sigmoid_of_magnitude(x, table, 9u, 0x7FFF << 10);
    return (x >= 0 ? y + (1 << 9) : (1 << 25) - y + (1 << 9) - 1) >> 10;
}

/* tanh in Q0.15 of x / 16384. */
static inline int32_t ml_tanh_s16(int32_t x, const uint16_t *table) {
    int32_t y = ml_sigmoid_of_magnitude(x, table, 8u, 0xFFFF << 8) - (1 << 23);
    return (x >= 0 ? y + (1 << 7) : -y + (1 << 7) - 1) >> 8;
}

#endif
