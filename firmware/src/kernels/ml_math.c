#include "ml_math.h"

#include <stdbool.h>
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

/* Whether x has no fraction, being too large for one, infinite or NaN. */
static bool is_whole(float x) { return !(x < 8388608.0f && x > -8388608.0f); }

/* `whole` with the sign of x, which decides when it is 0. */
static float signed_like(float whole, float x) {
    bits result = {.value = whole}, sign = {.value = x};
    result.word = (result.word & 0x7FFFFFFFu) | (sign.word & 0x80000000u);
    return result.value;
}

float ml_floor_f32(float x) {
    if (is_whole(x)) {
        return x;
    }
    float whole = (float)(int32_t)x;
    return signed_like(whole > x ? whole - 1.0f : whole, x);
}

float ml_ceil_f32(float x) { return -ml_floor_f32(-x); }

float ml_round_f32(float x) {
    if (is_whole(x)) {
        return x;
    }
    float whole = (float)(int32_t)x;
    float rest = x - whole; /* exact */
    return signed_like(whole + (rest >= 0.5f ? 1.0f : rest <= -0.5f ? -1.0f : 0.0f), x);
}

/* The bits of a positive, finite number as mantissa * 2^exponent, the mantissa's upper bit being 2^23. */
static uint32_t split(uint32_t word, int32_t *exponent) {
    uint32_t mantissa = word & 0x7FFFFFu;
    *exponent = (int32_t)(word >> 23);
    if (*exponent != 0) {
        return mantissa | 0x800000u;
    }
    for (*exponent = 1; mantissa < 0x800000u; mantissa <<= 1) {
        (*exponent)--;
    }
    return mantissa;
}

float ml_fmod_f32(float x, float y) {
    bits a = {.value = x}, b = {.value = y};
    uint32_t sign = a.word & 0x80000000u;
    a.word &= 0x7FFFFFFFu;
    b.word &= 0x7FFFFFFFu;
    if (b.word == 0 || a.word >= 0x7F800000u || b.word > 0x7F800000u) {
        return ((bits){.word = 0x7FC00000u}).value;
    }
    if (a.word < b.word) {
        return x;
    }
    /* Long division, one bit of the quotient at a time. */
    int32_t exponent, least;
    uint32_t rest = split(a.word, &exponent), divisor = split(b.word, &least);
    for (;; exponent--, rest <<= 1) {
        rest -= rest >= divisor ? divisor : 0;
        if (exponent == least || rest == 0) {
            break;
        }
    }
    while (rest != 0 && rest < 0x800000u) {
        rest <<= 1;
        exponent--;
    }
    /* Below the normal numbers the mantissa gives up its lower bits, which are 0: y has no finer ones. */
    a.word = exponent > 0 ? (rest & 0x7FFFFFu) | (uint32_t)exponent << 23 : rest >> (1 - exponent);
    a.word = rest == 0 ? sign : a.word | sign;
    return a.value;
}
