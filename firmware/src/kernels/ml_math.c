#include "ml_math.h"

#include <stdint.h>

typedef union bits {
    float value;
    uint32_t word;
} bits;

/* 2^exponent for -126 <= exponent <= 127. */
static float power_of_two(int32_t exponent) { return ((bits){.word = (uint32_t)(exponent + 127) << 23}).value; }

/* x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts so that r keeps its bits (Cody and Waite); e^r by a polynomial
 * fitted to (e^r - 1 - r) / r^2 by minimax, error 3e-9. */
float ml_exp_f32(float x) {
    if (!(x < 89.0f)) {
        return x != x ? x : power_of_two(127) * 2.0f;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    int32_t n = (int32_t)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    float r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
    float p = 0.00139506022f;
    p = p * r + 0.00836895313f;
    p = p * r + 0.0416662060f;
    p = p * r + 0.166665182f;
    p = p * r + 0.5f;
    float e = p * r * r + r + 1.0f;
    /* In two factors, since 2^n may lie outside float32 where e^x does not. */
    int32_t half = n / 2;
    return e * power_of_two(half) * power_of_two(n - half);
}
