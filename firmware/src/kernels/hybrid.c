#include "hybrid.h"

/* A positive float as mantissa * 2^(exponent - 150), the mantissa below 2^24. */
typedef struct parts {
    uint64_t mantissa;
    int32_t exponent;
} parts;

static parts parts_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t exponent = (bits >> 23) & 255u;
    return (parts){(bits & 0x7FFFFFu) | (exponent != 0 ? 0x800000u : 0u), exponent != 0 ? (int32_t)exponent : 1};
}

/* x / 255 without a 64-bit division: x = 256 q + r = 255 q + (q + r). */
static uint64_t divided_by_255(uint64_t x, uint32_t *rest) {
    uint64_t quotient = 0;
    while (x >= 255) {
        /* x = 255 leaves nothing over, but x >> 8 does not see it. */
        uint64_t part = ML_MAX(x >> 8, 1u);
        quotient += part;
        x -= 255u * part;
    }
    *rest = (uint32_t)x;
    return quotient;
}

/* mantissa * 2^(exponent - 150) as a float, rounded to nearest even; results below the normal range become 0. */
static float float_of(uint64_t mantissa, int32_t exponent) {
    for (; mantissa < (1u << 24); mantissa <<= 1) exponent--;
    uint32_t lost = 0; /* bits shifted out: the last of them, and whether any other was set */
    for (; mantissa >= (1u << 24); mantissa >>= 1, exponent++) {
        lost = (uint32_t)((mantissa & 1u) << 1) | (lost != 0);
    }
    uint32_t rounded = (uint32_t)mantissa + (lost > 2 || (lost == 2 && (mantissa & 1u)));
    /* A carry out of the mantissa ends in the exponent, where it belongs. */
    uint32_t bits = exponent <= 0 ? 0 : ((uint32_t)exponent << 23) + rounded - (1u << 23);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint32_t log2_of(uint32_t x) {
    uint32_t log = 0;
    for (; x > 1; x >>= 1) log++;
    return log;
}

/* Which way the reference's arithmetic in double errs where 255 * part / whole is `halves` / 2 exactly: the sign of
 * what part / (whole / 255) then is away from it, if that survives an addition whose result is `sum_halves` / 2. With
 * whole / 255 rounded to the 53 bits of `scale`, `rest` / 255 of their last place too small (negative: too large), it
 * is off by rest / (255 * scale) of itself, and counts if that is more than half a place. */
static int32_t tie_error(uint32_t halves, uint32_t sum_halves, uint64_t scale, int32_t rest) {
    uint64_t quotient = halves;
    while (quotient < (1ull << 52)) quotient <<= 1;
    uint64_t size = (uint64_t)(rest < 0 ? -rest : rest);
    bool counts = 2u * quotient * size > 255u * scale && log2_of(halves) >= log2_of(sum_halves);
    return !counts ? 0 : rest < 0 ? -1 : 1;
}

/* The zero point for values that reach from -low to high (in units of one size), whose sum is `whole`; `scale` and
 * `rest` as above. The reference computes -128 + low / scale, or 127 - high / scale where that is the smaller sum, in
 * double, and rounds halves away from zero. All but exact halves are too far from one for the rounding of double to
 * matter. */
static int32_t zero_point_of(uint64_t low, uint64_t whole, uint64_t scale, int32_t rest) {
    uint64_t left = 255u * low;
    int32_t steps = 0; /* floor(255 * low / whole) */
    for (int32_t bit = 7; bit >= 0; bit--) {
        if (left >= whole << bit) {
            left -= whole << bit;
            steps += 1 << bit;
        }
    }
    if (2u * left != whole) {
        return steps - 128 + (2u * left > whole);
    }
    int32_t halves = 2 * steps + 1, sum = halves - 256; /* sum / 2: the zero point before rounding */
    uint32_t size = (uint32_t)(sum < 0 ? -sum : sum);
    int32_t error = steps < 127 ? tie_error((uint32_t)halves, size, scale, rest)
                                : -tie_error((uint32_t)(510 - halves), size, scale, rest);
    return (sum + (error != 0 ? error : sum < 0 ? -1 : 1)) / 2;
}

/* p in units of 2^(exponent - 188); what is lost below one unit leaves the last bit set. */
static uint64_t aligned(parts p, int32_t exponent) {
    uint64_t mantissa = p.mantissa << 38;
    uint32_t shift = (uint32_t)(exponent - p.exponent);
    return shift > 62 ? mantissa != 0 : mantissa >> shift | ((mantissa & ((1ull << shift) - 1u)) != 0);
}

/* The grid from -low to high, neither negative nor both zero. */
static ml_grid asymmetric_grid(float low, float high) {
    parts a = parts_of(low), b = parts_of(high);
    int32_t exponent = ML_MAX(a.exponent, b.exponent);
    uint64_t from = aligned(a, exponent), whole = from + aligned(b, exponent);
    /* The sum as a double holds it: 53 bits, rounded to nearest even; then all in units of 2^9. */
    uint32_t drop = whole >> 62 != 0 ? 10 : 9;
    uint64_t lost = whole & ((1ull << drop) - 1u), half = 1ull << (drop - 1);
    whole >>= drop;
    whole = (whole + (lost > half || (lost == half && (whole & 1u)))) << (drop - 9);
    exponent -= 29;
    uint64_t scaled = whole;
    for (; scaled < 255ull << 52; scaled <<= 1) exponent--;
    uint32_t rest;
    uint64_t scale = divided_by_255(scaled, &rest);
    bool up = rest >= 128;
    scale += up;
    return (ml_grid){float_of(scale, exponent), zero_point_of(from >> 9, whole, scale, (int32_t)rest - (up ? 255 : 0))};
}

ml_grid ml_quantize(const float *values, uint32_t count, bool asymmetric, int8_t *quantized) {
    float low = 0.0f, high = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    float range = ML_MAX(-low, high);
    if (range == 0.0f) {
        memset(quantized, 0, count);
        return (ml_grid){1.0f, 0};
    }
    ml_grid grid = asymmetric ? asymmetric_grid(-low, high) : (ml_grid){range / 127.0f, 0};
    float inverse = asymmetric ? 1.0f / grid.scale : 127.0f / range;
    for (uint32_t i = 0; i < count; i++) {
        float real = (float)grid.zero_point + values[i] * inverse;
        /* The comparisons are such that NaN does not reach the conversion. */
        real = real > -200.0f ? real : -200.0f;
        real = real < 200.0f ? real : 200.0f;
        int32_t whole = (int32_t)real;
        float part = real - (float)whole;
        whole += (part >= 0.5f) - (part <= -0.5f); /* halves away from zero */
        quantized[i] = (int8_t)ml_clamp(whole, asymmetric ? -128 : -127, 127);
    }
    return grid;
}
