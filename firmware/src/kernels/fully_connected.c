/* FULLY_CONNECTED: output[row][o] = clamp(requantize(start[o] + sum_i input[row][i] * (weights[o][i] +
 * weights_offset))). Layouts: input [rows][inputs], weights [outputs][inputs], output [rows][outputs]. */
#include "dot.h"

ml_status ml_fully_connected_s8_check(const void *args, const ml_operand *operands) {
    const ml_fully_connected_s8_args *a = args;
    if (a->scale_stride > 1) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 1, a->rows, a->inputs, 1, 1) &&
                ml_holds(&operands[1], 1, a->outputs, a->inputs, 1, 1) &&
                ml_holds(&operands[2], 4, a->outputs, 1, 1, 1) &&
                ml_holds(&operands[3], 8, a->scale_stride ? a->outputs : 1, 1, 1, 1) &&
                ml_holds(&operands[4], 1, a->rows, a->outputs, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_s8(const void *args, void *const *operands) {
    const ml_fully_connected_s8_args *a = args;
    const int8_t *input = operands[0];
    const int32_t *start = operands[2];
    int8_t *output = operands[4];
    for (uint32_t row = 0; row < a->rows; row++, input += a->inputs) {
        /* Weights that have a zero point (uint8 models) add the same to every output of a row. */
        int32_t common = a->weights_offset != 0 ? a->weights_offset * ml_sum_s8(input, a->inputs) : 0;
        const int8_t *weights = operands[1];
        const int32_t *scale = operands[3];
        for (uint32_t o = 0, count; o < a->outputs; o += count) {
            /* Two at a time; where one is left over, its products are taken twice. */
            int32_t sums[2];
            count = a->outputs - o >= 2 ? 2 : 1;
            ml_dots_s8(input, weights, weights + (count - 1u) * a->inputs, a->inputs, sums);
            weights += count * a->inputs;
            for (uint32_t i = 0; i < count; i++, scale += 2u * a->scale_stride) {
                int32_t value = ml_requantize(start[o + i] + common + sums[i], scale[0], scale[1]) + a->output_offset;
                *output++ = (int8_t)ml_clamp(value, a->low, a->high);
            }
        }
    }
    return 0;
}

ml_status ml_fully_connected_s16_check(const void *args, const ml_operand *operands) {
    const ml_fully_connected_s16_args *a = args;
    bool fits =
        ml_holds(&operands[0], 2, a->rows, a->inputs, 1, 1) && ml_holds(&operands[1], 1, a->outputs, a->inputs, 1, 1) &&
        ml_holds(&operands[2], 8, a->outputs, 1, 1, 1) && ml_scales_hold(&a->quantized, &operands[3], a->outputs) &&
        ml_holds(&operands[4], 2, a->rows, a->outputs, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_s16(const void *args, void *const *operands) {
    const ml_fully_connected_s16_args *a = args;
    const int16_t *input = operands[0];
    const int64_t *start = operands[2];
    int16_t *output = operands[4];
    for (uint32_t row = 0; row < a->rows; row++, input += a->inputs) {
        const int8_t *weights = operands[1];
        const int32_t *scale = operands[3];
        for (uint32_t o = 0; o < a->outputs; o++, weights += a->inputs, scale += 2u * a->quantized.scale_stride) {
            *output++ = ml_finish_s16(&a->quantized, start[o] + ml_dot_s16(input, weights, a->inputs), scale);
        }
    }
    return 0;
}

ml_status ml_fully_connected_f32_check(const void *args, const ml_operand *operands) {
    const ml_fully_connected_f32_args *a = args;
    bool fits = ml_holds(&operands[0], 4, a->rows, a->inputs, 1, 1) &&
                ml_holds(&operands[1], 4, a->outputs, a->inputs, 1, 1) &&
                (operands[2].ref == 0 || ml_holds(&operands[2], 4, a->outputs, 1, 1, 1)) &&
                ml_holds(&operands[3], 4, a->rows, a->outputs, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_f32(const void *args, void *const *operands) {
    const ml_fully_connected_f32_args *a = args;
    const float *input = operands[0];
    const float *bias = operands[2];
    float *output = operands[3];
    for (uint32_t row = 0; row < a->rows; row++, input += a->inputs) {
        const float *weights = operands[1];
        for (uint32_t o = 0; o < a->outputs; o++, weights += a->inputs) {
            float sum = ml_dot_f32(input, weights, a->inputs) + (bias != NULL ? bias[o] : 0.0f);
            *output++ = ml_clamp_f32(sum, a->low, a->high);
        }
    }
    return 0;
}
