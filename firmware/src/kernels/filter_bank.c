/* What an audio front end makes of a spectrum's energies: filter_bank, bands that overlap, each bin counting to two of
 * them; square_root; spectral_subtraction of an estimate of the noise, which it keeps; pcan, a gain control by that
 * estimate; filter_bank_log. All in fixed point. */
#include "bits.h"
#include "ml_kernels.h"

ml_status ml_filter_bank_check(const void *args, const ml_operand *operands) {
    const ml_filter_bank_args *a = args;
    bool fits = a->bands != 0 && ml_holds(&operands[0], 4, a->bins, 1, 1, 1) &&
                ml_holds(&operands[1], 4, a->weights, 1, 1, 1) && ml_holds(&operands[2], 4, a->bands, 1, 1, 1) &&
                ml_holds(&operands[3], 8, a->bands - 1u, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* Bands are (first bin, bins), weights (weight, unweight) for each bin of each band: a band's sum is that of its bins
 * by their weights and of the bins of the band before by their unweights. The first band serves the second alone. */
int32_t ml_filter_bank(const void *args, void *const *operands) {
    const ml_filter_bank_args *a = args;
    const int16_t *weights = operands[1];
    const uint16_t *band = operands[2];
    uint64_t *output = operands[3];
    uint32_t left = a->weights;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < a->bands; i++, band += 2) {
        const uint32_t first = band[0];
        const uint32_t bins = band[1];
        if (first > a->bins || bins > a->bins - first || bins > left) {
            return ML_ERR_INDEX;
        }
        left -= bins;
        const uint32_t *input = (const uint32_t *)operands[0] + first;
        uint64_t next = 0;
        for (uint32_t j = 0; j < bins; j++, weights += 2) {
            sum += (uint64_t)weights[0] * input[j];
            next += (uint64_t)weights[1] * input[j];
        }
        if (i != 0) {
            *output++ = sum;
        }
        sum = next;
    }
    return 0;
}

ml_status ml_square_root_u64_check(const void *args, const ml_operand *operands) {
    const ml_square_root_args *a = args;
    bool fits = ml_holds(&operands[0], 8, a->count, 1, 1, 1) && ml_holds(&operands[1], 4, 1, 1, 1, 1) &&
                ml_holds(&operands[2], 4, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* Rounded to the nearest, but not beyond 16 bits for numbers of 32. */
static uint32_t square_root(uint64_t x) {
    const uint32_t high = (uint32_t)(x >> 32);
    const uint32_t width = high != 0 ? 32u + ml_bit_width(high) : ml_bit_width((uint32_t)x | 1u);
    uint32_t root = 0;
    for (uint32_t bit = 1u << ((width - 1u) / 2u); bit != 0; bit >>= 1) {
        uint32_t trial = root | bit;
        if ((uint64_t)trial * trial <= x) {
            root = trial;
        }
    }
    const bool up = x - (uint64_t)root * root > root;
    return up && root != (high != 0 ? UINT32_MAX : UINT16_MAX) ? root + 1u : root;
}

int32_t ml_square_root_u64(const void *args, void *const *operands) {
    const ml_square_root_args *a = args;
    const uint64_t *input = operands[0];
    const uint32_t shift = *(const uint32_t *)operands[1] & 31u;
    uint32_t *output = operands[2];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = square_root(input[i]) >> shift;
    }
    return 0;
}

ml_status ml_spectral_subtraction_check(const void *args, const ml_operand *operands) {
    const ml_spectral_subtraction_args *a = args;
    if (a->smoothing_bits > 31 || a->fraction > 63) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4, a->count, 1, 1, 1) && ml_holds(&operands[1], 4, a->count, 1, 1, 1) &&
                ml_holds(&operands[2], 4, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_spectral_subtraction(const void *args, void *const *operands) {
    const ml_spectral_subtraction_args *a = args;
    const uint32_t *input = operands[0];
    uint32_t *output = operands[1];
    uint32_t *noise = operands[2];
    const uint32_t fraction = a->fraction & 63;
    const uint32_t bits = a->smoothing_bits & 31;
    for (uint32_t i = 0; i < a->count; i++) {
        const uint32_t energy = input[i];
        const uint32_t fine = energy << bits;
        const uint64_t smoothed = (uint64_t)fine * a->smoothing[i & 1u] + (uint64_t)noise[i] * a->keeping[i & 1u];
        const uint32_t estimate = (uint32_t)(smoothed >> fraction);
        const uint32_t taken = ML_MIN(estimate, fine);
        const uint32_t least = (uint32_t)(((uint64_t)energy * a->least) >> fraction);
        const uint32_t rest = (fine - taken) >> bits;
        noise[i] = a->clamping != 0 ? taken : estimate;
        output[i] = ML_MAX(rest, least);
    }
    return 0;
}

/* Of the gain's table: three numbers for each size of the noise, after those for 0, 1 and 2. */
#define GAINS 125

ml_status ml_pcan_check(const void *args, const ml_operand *operands) {
    const ml_pcan_args *a = args;
    if (a->shift > 63) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4, a->count, 1, 1, 1) && ml_holds(&operands[1], 4, a->count, 1, 1, 1) &&
                ml_holds(&operands[2], 2, GAINS, 1, 1, 1) && ml_holds(&operands[3], 4, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* A parabola for each power of two, four numbers apart, its argument the 10 bits below the highest one. */
static int16_t gain_of(const int16_t *gains, uint32_t noise) {
    if (noise <= 2) {
        return gains[noise];
    }
    const uint32_t width = ml_bit_width(noise);
    const uint32_t below = width < 11 ? noise << (11u - width) : noise >> (width - 11u);
    const int32_t x = (int32_t)(below & 0x3FFu);
    gains += 4u * width - 6u;
    int32_t value = ((gains[2] * x) >> 5) + gains[1] * 32;
    value = (value * x + (1 << 14)) >> 15;
    return (int16_t)(value + gains[0]);
}

/* x^2 / 4 below 2, x - 1 from there on, of a number with 12 bits of fraction; the result has 6. */
static uint32_t shrink(uint32_t x) { return x < 2u << 12 ? (x * x) >> 20 : (x >> 6) - (1u << 6); }

int32_t ml_pcan(const void *args, void *const *operands) {
    const ml_pcan_args *a = args;
    const uint32_t *input = operands[0];
    const uint32_t *noise = operands[1];
    uint32_t *output = operands[3];
    for (uint32_t i = 0; i < a->count; i++) {
        const uint32_t gain = (uint32_t)gain_of(operands[2], noise[i]);
        output[i] = shrink((uint32_t)(((uint64_t)input[i] * gain) >> (a->shift & 63)));
    }
    return 0;
}

/* Of the logarithm's table: what log2(1 + i / 128) exceeds i / 128 by, for i from 0 to 128. */
#define LOG_BITS 7
#define LOG_ENTRIES ((1u << LOG_BITS) + 1u)

ml_status ml_filter_bank_log_check(const void *args, const ml_operand *operands) {
    const ml_filter_bank_log_args *a = args;
    if (a->correction_bits > 31) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4, a->count, 1, 1, 1) && ml_holds(&operands[1], 2, LOG_ENTRIES, 1, 1, 1) &&
                ml_holds(&operands[2], 2, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* log2 with 16 bits of fraction, by linear interpolation; x is at least 2. */
static uint32_t log2_of(const uint16_t *table, uint32_t x) {
    const uint32_t whole = ml_bit_width(x) - 1u;
    const uint32_t rest = x - (1u << (whole & 31u));
    const uint32_t fraction = whole < 16 ? rest << (16u - whole) : rest >> (whole - 16u);
    const uint16_t *entry = table + (fraction >> (16 - LOG_BITS));
    const int32_t beyond = (int32_t)(fraction & ((1u << (16 - LOG_BITS)) - 1u));
    const int32_t bend = ((entry[1] - entry[0]) * beyond) >> 16;
    return (whole << 16) + fraction + entry[0] + (uint32_t)bend;
}

int32_t ml_filter_bank_log(const void *args, void *const *operands) {
    const ml_filter_bank_log_args *a = args;
    const uint32_t *input = operands[0];
    int16_t *output = operands[2];
    for (uint32_t i = 0; i < a->count; i++) {
        const uint32_t x = input[i] << (a->correction_bits & 31);
        uint32_t value = 0;
        if (x > 1) {
            /* ln 2 with 16 bits of fraction */
            const uint32_t natural = (uint32_t)(((uint64_t)log2_of(operands[1], x) * 45426u + (1u << 15)) >> 16);
            value = (a->scale * natural + (1u << 15)) >> 16;
        }
        output[i] = (int16_t)ML_MIN(value, (uint32_t)INT16_MAX);
    }
    return 0;
}
