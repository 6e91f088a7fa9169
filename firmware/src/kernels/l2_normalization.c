/* L2_NORMALIZATION over the last dimension: output = x / sqrt(sum of x^2). Layout: [rows][depth]. */
#include "ml_kernels.h"
#include "ml_math.h"
#include "reciprocal.h"

/* 1 / sqrt(x) = multiplier * 2^(shift - 31) for x > 0. x is brought to 2^27 to 2^29 by pairs of bits, then five
 * Newton-Raphson steps from 1 in Q3.28 (TensorFlow Lite's GetInvSqrtQuantizedMultiplierExp, kernels/internal/common.h).
 */
static int32_t inverse_root(int32_t x, int32_t *shift) {
    *shift = 0;
    if (x <= 1) {
        return INT32_MAX;
    }
    int32_t right = 11;
    for (; x >= 1 << 29; x /= 4) {
        right++;
    }
    int32_t pairs = (int32_t)(ml_leading_zeros((uint32_t)x) - 1u) / 2 - 1;
    right -= pairs;
    x = (int32_t)((uint32_t)x << 2 * pairs);
    const int32_t half_three = (1 << 28) + (1 << 27), half_root_two = 1518500250;
    int32_t half = ml_round_shift(x >> 1, 1);
    int32_t y = 1 << 28;
    for (int i = 0; i < 5; i++) {
        int32_t cube = ml_saturating_shift(ml_high_mul(ml_high_mul(y, y), y), 6);
        y = ml_saturating_shift(ml_high_mul(half_three, y) - ml_high_mul(half, cube), 3);
    }
    y = ml_high_mul(y, half_root_two);
    *shift = right < 0 ? 0 : -right;
    return right < 0 ? (int32_t)((uint32_t)y << -right) : y;
}

ml_status ml_l2_normalization_s8_check(const void *args, const ml_operand *operands) {
    const ml_l2_normalization_args *a = args;
    bool fits =
        ml_holds(&operands[0], 1, a->rows, a->depth, 1, 1) && ml_holds(&operands[1], 1, a->rows, a->depth, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_l2_normalization_s8(const void *args, void *const *operands) {
    const ml_l2_normalization_args *a = args;
    const int8_t *input = operands[0];
    int8_t *output = operands[1];
    uint32_t before = a->shift_before & 7u; /* 128 is the output's 1; uint8 models multiply by it first */
    for (uint32_t row = 0; row < a->rows; row++, input += a->depth, output += a->depth) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < a->depth; i++) {
            int32_t x = input[i] + a->input_offset;
            sum += x * x;
        }
        int32_t shift;
        int32_t multiplier = inverse_root(sum, &shift);
        for (uint32_t i = 0; i < a->depth; i++) {
            int32_t x = (int32_t)((uint32_t)(input[i] + a->input_offset) << before);
            int32_t y = ml_requantize(x, multiplier, shift + 7 - (int32_t)before);
            output[i] = (int8_t)ml_clamp(y, INT8_MIN, INT8_MAX);
        }
    }
    return 0;
}

ml_status ml_l2_normalization_f32_check(const void *args, const ml_operand *operands) {
    const ml_l2_normalization_args *a = args;
    bool fits =
        ml_holds(&operands[0], 4, a->rows, a->depth, 1, 1) && ml_holds(&operands[1], 4, a->rows, a->depth, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_l2_normalization_f32(const void *args, void *const *operands) {
    const ml_l2_normalization_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t row = 0; row < a->rows; row++, input += a->depth, output += a->depth) {
        float sum = 0.0f;
        for (uint32_t i = 0; i < a->depth; i++) {
            sum += input[i] * input[i];
        }
        float norm = ml_sqrt_f32(sum);
        norm = ML_MAX(norm, 1e-6f);
        for (uint32_t i = 0; i < a->depth; i++) {
            output[i] = input[i] / norm;
        }
    }
    return 0;
}
