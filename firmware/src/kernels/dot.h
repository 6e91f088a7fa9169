/* Dot products, and what becomes of a quantized sum. */
#ifndef ML_DOT_H
#define ML_DOT_H

#include "ml_kernels.h"

static inline int32_t ml_dot_s8(const int8_t *x, const int8_t *w, uint32_t count) {
    int32_t sum = 0;
    for (; count >= 4; count -= 4, x += 4, w += 4) {
        sum += x[0] * w[0];
        sum += x[1] * w[1];
        sum += x[2] * w[2];
        sum += x[3] * w[3];
    }
    for (; count != 0; count--) {
        sum += *x++ * *w++;
    }
    return sum;
}

/* The products of x with two rows of weights, which share the loads of x. */
static inline void ml_dots_s8(const int8_t *x, const int8_t *v, const int8_t *w, uint32_t count, int32_t sums[2]) {
    int32_t sum0 = 0, sum1 = 0;
/* Not in images for size: there compilers have no high registers for it. */
#if defined(__thumb__) && !defined(__thumb2__) && !defined(__OPTIMIZE_SIZE__)
    /* One register counts and steps through all three; compilers would move three. */
    uint32_t at = 0u - count;
    int32_t a, b, c;
    if (count != 0) {
        __asm__ volatile(".syntax unified\n"
                         "1: ldrsb %[a], [%[x], %[at]]\n"
                         "ldrsb %[b], [%[v], %[at]]\n"
                         "ldrsb %[c], [%[w], %[at]]\n"
                         "muls %[b], %[a], %[b]\n"
                         "muls %[c], %[a], %[c]\n"
                         "add %[sum0], %[b]\n"
                         "add %[sum1], %[c]\n"
                         "adds %[at], %[at], #1\n"
                         "bne 1b"
                         : [at] "+l"(at), [sum0] "+h"(sum0), [sum1] "+h"(sum1), [a] "=&l"(a), [b] "=&l"(b), [c] "=&l"(c)
                         : [x] "l"(x + count), [v] "l"(v + count), [w] "l"(w + count)
                         : "cc", "memory");
    }
#else
    for (; count >= 4; count -= 4, x += 4, v += 4, w += 4) {
        sum0 += x[0] * v[0];
        sum1 += x[0] * w[0];
        sum0 += x[1] * v[1];
        sum1 += x[1] * w[1];
        sum0 += x[2] * v[2];
        sum1 += x[2] * w[2];
        sum0 += x[3] * v[3];
        sum1 += x[3] * w[3];
    }
    for (; count != 0; count--, x++) {
        sum0 += *x * *v++;
        sum1 += *x * *w++;
    }
#endif
    sums[0] = sum0;
    sums[1] = sum1;
}

static inline int32_t ml_sum_s8(const int8_t *x, uint32_t count) {
    int32_t sum = 0;
    while (count-- != 0) {
        sum += *x++;
    }
    return sum;
}

/* 256 products, each below 2^22, fit 32 bits; their sums need 64. */
static inline int64_t ml_dot_s16(const int16_t *x, const int8_t *w, uint32_t count) {
    int64_t sum = 0;
    while (count != 0) {
        int32_t part = 0;
        uint32_t left = ML_MIN(count, 256u);
        count -= left;
        while (left-- != 0) {
            part += *x++ * *w++;
        }
        sum += part;
    }
    return sum;
}

/* The products are added one after the other, as the reference does. */
static inline float ml_dot_f32(const float *x, const float *w, uint32_t count) {
    float sum = 0.0f;
    while (count-- != 0) {
        sum += *x++ * *w++;
    }
    return sum;
}

/* Clamped output of a quantized accumulator; `scale` is a (multiplier, shift) pair. */
static inline int32_t ml_finish(const ml_quantized *q, int32_t sum, const int32_t *scale) {
    return ml_clamp(ml_requantize(sum, scale[0], scale[1]) + q->output_offset, q->low, q->high);
}

/* The same for int16 activations, whose zero point is 0. Models with a bias of 32 bits add up in 32 bits too. */
static inline int16_t ml_finish_s16(const ml_quantized *q, int64_t sum, const int32_t *scale) {
    int32_t value =
        q->sums_s64 ? ml_requantize_s64(sum, scale[0], scale[1]) : ml_requantize((int32_t)sum, scale[0], scale[1]);
    return (int16_t)ml_clamp(value, q->low, q->high);
}

/* Whether `operand` holds the (multiplier, shift) pairs of `outputs` channels. */
static inline bool ml_scales_hold(const ml_quantized *q, const ml_operand *operand, uint32_t outputs) {
    return q->scale_stride <= 1 && ml_holds(operand, 8, q->scale_stride ? outputs : 1, 1, 1, 1);
}

#endif
