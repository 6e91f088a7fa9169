/* Reciprocals in fixed point. */
#ifndef ML_RECIPROCAL_H
#define ML_RECIPROCAL_H

#include "kernel.h"

static inline uint32_t ml_leading_zeros(uint32_t x) { return x == 0 ? 32u : (uint32_t)__builtin_clz(x); }

/* x * 2^exponent, clamped to int32. */
static inline int32_t ml_saturating_shift(int32_t x, uint32_t exponent) {
    int32_t limit = INT32_MAX >> exponent;
    return x > limit ? INT32_MAX : x < -limit - 1 ? INT32_MIN : (int32_t)((uint32_t)x << exponent);
}

/* 1 / (1 + x) in Q0.31 for 0 <= x < 1 in Q0.31: three Newton-Raphson steps on (1 + x) / 2, in Q2.29, as gemmlowp's
 * one_over_one_plus_x_for_x_in_0_1 takes them (fixedpoint/fixedpoint.h). */
static inline int32_t ml_reciprocal_of_one_plus(int32_t x) {
    int32_t mean = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t r = 1515870810 + ml_high_mul(mean, -1010580540); /* 48/17 - 32/17 * mean */
    for (int i = 0; i < 3; i++) {
        int32_t error = (1 << 29) - ml_high_mul(mean, r);
        r += ml_saturating_shift(ml_high_mul(r, error), 2);
    }
    return ml_saturating_shift(r, 1);
}

/* r in Q0.31 with 1 / x = r * 2^(zeros - 31); `zeros` are those before x. */
static inline int32_t ml_reciprocal(uint32_t x, uint32_t *zeros) {
    *zeros = ml_leading_zeros(x);
    int32_t rest = (int32_t)((x << (*zeros & 31u)) - (1u << 31)); /* x = 2^(31 - zeros) * (1 + rest) */
    return ml_reciprocal_of_one_plus(rest);
}

#endif
