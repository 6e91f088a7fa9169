#include "ml_math.h"

#include <stdbool.h>
#include <stdint.h>

typedef union bits {
    float value;
    uint32_t word;
} bits;

#define NOT_A_NUMBER ((bits){.word = 0x7FC00000u}).value
#define INFINITE ((bits){.word = 0x7F800000u}).value

/* 2^exponent for -126 <= exponent <= 127. */
static float power_of_two(int32_t exponent) { return ((bits){.word = (uint32_t)(exponent + 127) << 23}).value; }

/* `whole` with the sign of x, which decides when it is 0. */
static float signed_like(float whole, float x) {
    bits result = {.value = whole}, sign = {.value = x};
    result.word = (result.word & 0x7FFFFFFFu) | (sign.word & 0x80000000u);
    return result.value;
}

/* x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts so that r keeps its bits (Cody and Waite); e^r by a polynomial
 * fitted to (e^r - 1 - r) / r^2 by minimax, error 3e-9. */
float ml_exp_f32(float x) {
    if (!(x < 89.0f)) {
        return x != x ? x : INFINITE;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    int32_t n = (int32_t)(x * 1.44269504f + signed_like(0.5f, x));
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

float ml_exp_minus_1_f32(float x) { return ml_exp_f32(x) - 1.0f; }

float ml_logistic_f32(float x) {
    if (x > 16.619047164916992188f) {
        return 1.0f;
    }
    return x < -9.0f ? ml_exp_f32(x) : 1.0f / (1.0f + ml_exp_f32(-x));
}

/* Near 0 a polynomial in x^2, since the quotient of exponentials would lose the bits there; its error is 3e-9. */
float ml_tanh_f32(float x) {
    float magnitude = x < 0.0f ? -x : x;
    if (magnitude < 0.6f) {
        float z = x * x;
        float p = -0.00590586849f;
        p = p * z + 0.0208053850f;
        p = p * z - 0.0537866838f;
        p = p * z + 0.133319587f;
        p = p * z - 0.333332986f;
        return x + x * z * p;
    }
    float y = 1.0f - 2.0f / (ml_exp_f32(2.0f * magnitude) + 1.0f);
    return x < 0.0f ? -y : y;
}

/* x = 2^n m with sqrt(1/2) <= m < sqrt(2); with f = m - 1 and s = f / (2 + f), ln m = 2 atanh s = f - s (f - R), where
 * R is a polynomial in s^2 whose error is 8e-10. ln 2 is in two parts, as in ml_exp_f32. */
float ml_log_f32(float x) {
    bits b = {.value = x};
    if (b.word << 1 == 0) {
        return -INFINITE;
    }
    if (b.word >= 0x7F800000u) {
        return x == INFINITE || x != x ? x : NOT_A_NUMBER;
    }
    int32_t n = -127;
    if (b.word < 0x800000u) {
        b.value = x * 8388608.0f; /* 2^23, which makes it a normal number */
        n -= 23;
    }
    /* Adding 1 - sqrt(1/2) before looking at the exponent makes m lie around 1. */
    uint32_t moved = b.word + (0x3F800000u - 0x3F3504F3u);
    n += (int32_t)(moved >> 23);
    b.word = (moved & 0x7FFFFFu) + 0x3F3504F3u;
    float f = b.value - 1.0f;
    float s = f / (2.0f + f);
    float z = s * s;
    float r = z * (0.666667819f + z * (0.399770796f + z * 0.298851877f));
    float half = 0.5f * f * f;
    float scale = (float)n;
    return scale * 0.693359375f + (f - (half - (s * (half + r) - scale * 2.12194440e-4f)));
}

/* 2/pi as a binary fraction after 32 zeros: bits enough for the largest float32. */
static const uint32_t two_over_pi[] = {0x00000000u, 0xA2F9836Eu, 0x4E441529u, 0xFC2757D1u,
                                       0xF534DDC0u, 0xDB629599u, 0x3C439041u, 0xFE5163ABu};

/* x = quadrant pi/2 + *rest with |*rest| <= pi/4, for finite |x| > pi/4; the quadrant counts modulo 4. With x = m 2^e,
 * m an integer, only those bits of 2/pi matter whose product with x is below 4: 96 of them (Payne and Hanek). */
static uint32_t reduce_angle(float x, float *rest) {
    bits b = {.value = x};
    uint32_t m = (b.word & 0x7FFFFFu) | 0x800000u;
    uint32_t first = ((b.word >> 23) & 255u) - 120u; /* e - 2 + 32, e being the exponent less 127 and 23 */
    const uint32_t *word = two_over_pi + (first >> 5);
    uint32_t window[3];
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t pair = (uint64_t)word[i] << 32 | word[i + 1u];
        window[i] = (uint32_t)(pair >> (32u - (first & 31u)));
    }
    uint64_t low = (uint64_t)m * window[1] + ((uint64_t)m * window[2] >> 32);
    uint64_t turns = ((uint64_t)(m * window[0]) << 32) + low; /* in units of 2^-62 quarters of a turn */
    uint32_t quadrant = (uint32_t)((turns + ((uint64_t)1 << 61)) >> 62);
    int64_t part = (int64_t)(turns - ((uint64_t)quadrant << 62));
    uint64_t magnitude = part < 0 ? 0u - (uint64_t)part : (uint64_t)part;
    int32_t exponent = -30; /* of the upper half of `magnitude` */
    while (magnitude != 0 && magnitude >> 62 == 0) {
        magnitude <<= 1;
        exponent--;
    }
    float r = (float)(uint32_t)(magnitude >> 32) * power_of_two(exponent) * 1.57079633f;
    bool negative = (part < 0) != (b.word >> 31 != 0);
    *rest = negative ? -r : r;
    return (b.word >> 31 != 0 ? 0u - quadrant : quadrant) & 3u;
}

/* Sine, or cosine where `quadrant` is 1 more, by polynomials for |r| <= pi/4 whose errors are 4e-9 and 1e-10. */
static float sine_of_quadrants(float x, uint32_t quadrant) {
    bits b = {.value = x};
    float r = x;
    if ((b.word & 0x7FFFFFFFu) >= 0x7F800000u) {
        return NOT_A_NUMBER;
    }
    if ((b.word & 0x7FFFFFFFu) > 0x3F490FDBu) {
        quadrant += reduce_angle(x, &r);
    }
    float z = r * r;
    float sine = r + r * z * (-0.166666538f + z * (0.00833213143f + z * -0.000195108398f));
    float cosine = 1.0f - 0.5f * z + z * z * (0.0416666456f + z * (-0.00138873060f + z * 0.0000244312050f));
    float y = (quadrant & 1u) != 0 ? cosine : sine;
    return (quadrant & 2u) != 0 ? -y : y;
}

float ml_sin_f32(float x) { return sine_of_quadrants(x, 0); }

float ml_cos_f32(float x) { return sine_of_quadrants(x, 1); }

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

/* Digit by digit, as by hand, in base 2: 25 bits of the root, of which the last one rounds. */
float ml_sqrt_f32(float x) {
    bits b = {.value = x};
    if (b.word << 1 == 0 || b.word == 0x7F800000u) {
        return x;
    }
    if (b.word > 0x7F800000u) {
        return NOT_A_NUMBER;
    }
    int32_t exponent;
    uint32_t m = split(b.word, &exponent);
    exponent -= 127;
    m <<= 1 + (exponent & 1); /* an even exponent; m in [2^24, 2^26) */
    uint32_t root = 0, rest = 0;
    for (int32_t i = 0; i < 25; i++, m <<= 2) {
        rest = rest << 2 | ((m >> 24) & 3u);
        uint32_t next = root << 2 | 1u;
        root <<= 1;
        if (rest >= next) {
            rest -= next;
            root |= 1u;
        }
    }
    b.word = ((root + 1u) >> 1) + ((uint32_t)((exponent >> 1) + 126) << 23);
    return b.value;
}

/* Whether x has no fraction, being too large for one, infinite or NaN. */
static bool is_whole(float x) { return !(x < 8388608.0f && x > -8388608.0f); }

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
    return signed_like(whole + (float)((rest >= 0.5f) - (rest <= -0.5f)), x);
}

float ml_fmod_f32(float x, float y) {
    bits a = {.value = x}, b = {.value = y};
    uint32_t sign = a.word & 0x80000000u;
    a.word &= 0x7FFFFFFFu;
    b.word &= 0x7FFFFFFFu;
    if (b.word == 0 || a.word >= 0x7F800000u || b.word > 0x7F800000u) {
        return NOT_A_NUMBER;
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
