/* SOFTMAX over the last dimension: output = exp(beta * (x - max)) / sum of these. Layout: [rows][depth]. */
#include "elements.h"
#include "lut.h"
#include "ml_kernels.h"
#include "ml_math.h"
#include "reciprocal.h"

#define INTEGER_BITS 12 /* of the sum of exponentials: up to 4095 times 1.0 */

static bool rows_fit(const ml_operand *operand, uint32_t bytes, uint32_t rows, uint32_t depth) {
    return ml_holds(operand, bytes, rows, depth, 1, 1);
}

ML_INLINE int32_t softmax(const ml_softmax_args *a, void *const *operands, uint32_t type) {
    const int8_t *input = operands[0];
    const int32_t *table = operands[1];
    const int32_t bits = type == ML_S8 ? 8 : 16;
    const int32_t low = type == ML_S8 ? INT8_MIN : INT16_MIN;
    const int32_t high = type == ML_S8 ? INT8_MAX : INT16_MAX;
    for (uint32_t row = 0; row < a->rows; row++, input += a->depth) {
        int32_t most = INT8_MIN;
        for (uint32_t i = 0; i < a->depth; i++) {
            most = ML_MAX(most, input[i]);
        }
        int32_t sum = 0;
        for (uint32_t i = 0; i < a->depth; i++) {
            uint32_t below = (uint32_t)(most - input[i]);
            sum += below < a->entries ? ml_round_shift(table[below], INTEGER_BITS) : 0;
        }
        uint32_t zeros;
        int32_t scale = ml_reciprocal((uint32_t)sum, &zeros);
        int32_t exponent = INTEGER_BITS - (int32_t)zeros + 31 - bits;
        for (uint32_t i = 0; i < a->depth; i++) {
            uint32_t below = (uint32_t)(most - input[i]);
            int32_t share = below < a->entries ? ml_round_shift(ml_high_mul(scale, table[below]), exponent) : 0;
            ml_store_integer(operands[2], type, row * a->depth + i, ml_clamp(share + low, low, high));
        }
    }
    return 0;
}

ml_status ml_softmax_s8_check(const void *args, const ml_operand *operands) {
    const ml_softmax_args *a = args;
    bool fits = rows_fit(&operands[0], 1, a->rows, a->depth) && ml_holds(&operands[1], 4, a->entries, 1, 1, 1) &&
                rows_fit(&operands[2], 1, a->rows, a->depth);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_softmax_s8(const void *args, void *const *operands) { return softmax(args, operands, ML_S8); }

ml_status ml_softmax_s8_s16_check(const void *args, const ml_operand *operands) {
    const ml_softmax_args *a = args;
    bool fits = rows_fit(&operands[0], 1, a->rows, a->depth) && ml_holds(&operands[1], 4, a->entries, 1, 1, 1) &&
                rows_fit(&operands[2], 2, a->rows, a->depth);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_softmax_s8_s16(const void *args, void *const *operands) { return softmax(args, operands, ML_S16); }

ml_status ml_softmax_s16_check(const void *args, const ml_operand *operands) {
    const ml_softmax_s16_args *a = args;
    bool fits = rows_fit(&operands[0], 2, a->rows, a->depth) &&
                ml_holds(&operands[1], 2, ML_LUT_S16_ENTRIES, 1, 1, 1) &&
                ml_holds(&operands[2], 2, ML_LUT_S16_ENTRIES, 1, 1, 1) && rows_fit(&operands[3], 2, a->rows, a->depth);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* 1 / sum in Q0.15, for a sum of values in Q0.15, by a table of 1 / (1 + x). `zeros` are those before the sum. */
static int32_t reciprocal_by_table(int32_t sum, uint32_t zeros, const int16_t *table) {
    int32_t shifted = (int32_t)((((int64_t)sum << (zeros - 1u)) + (1 << 13)) >> 14);
    return ml_lut_s16((int16_t)ml_clamp(shifted - (1 << 15) - (1 << 16), INT16_MIN, INT16_MAX), table);
}

int32_t ml_softmax_s16(const void *args, void *const *operands) {
    const ml_softmax_s16_args *a = args;
    const int16_t *input = operands[0];
    const int16_t *exp_table = operands[1];
    int16_t *output = operands[3];
    for (uint32_t row = 0; row < a->rows; row++, input += a->depth, output += a->depth) {
        int32_t most = INT16_MIN;
        for (uint32_t i = 0; i < a->depth; i++) {
            most = ML_MAX(most, input[i]);
        }
        int32_t sum = 0;
        for (uint32_t i = 0; i < a->depth; i++) {
            int32_t x = ml_requantize(input[i] - most, a->multiplier, a->shift) + INT16_MAX;
            output[i] = ml_lut_s16((int16_t)ml_clamp(x, INT16_MIN, INT16_MAX), exp_table);
            sum += output[i];
        }
        /* At least the largest contributes 1.0; a sum that is not positive comes from a table that is no exponential.
         */
        sum = sum > 1 ? sum : 1;
        uint32_t zeros = ml_leading_zeros((uint32_t)sum);
        int32_t scale = reciprocal_by_table(sum, zeros, operands[2]);
        uint32_t shift = 31u - zeros;
        int64_t half = shift != 0 ? (int64_t)1 << (shift - 1u) : 0;
        for (uint32_t i = 0; i < a->depth; i++) {
            int32_t share = (int32_t)(((int64_t)output[i] * scale + half) >> shift);
            output[i] = (int16_t)ml_clamp(share, 0, INT16_MAX);
        }
    }
    return 0;
}

ml_status ml_softmax_f32_check(const void *args, const ml_operand *operands) {
    const ml_softmax_f32_args *a = args;
    bool fits = rows_fit(&operands[0], 4, a->rows, a->depth) && rows_fit(&operands[1], 4, a->rows, a->depth);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_softmax_f32(const void *args, void *const *operands) {
    const ml_softmax_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t row = 0; row < a->rows && a->depth != 0; row++, input += a->depth, output += a->depth) {
        float most = input[0];
        for (uint32_t i = 1; i < a->depth; i++) {
            most = ML_MAX(most, input[i]);
        }
        float sum = 0.0f;
        for (uint32_t i = 0; i < a->depth; i++) {
            output[i] = ml_exp_f32((input[i] - most) * a->beta);
            sum += output[i];
        }
        for (uint32_t i = 0; i < a->depth; i++) {
            output[i] /= sum;
        }
    }
    return 0;
}
