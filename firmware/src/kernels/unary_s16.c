/* Functions of one int16: straight lines on both sides of zero, sigmoid and tanh, and others by an interpolated table.
 */
#include "lut.h"
#include "ml_kernels.h"
#include "sigmoid.h"

static ml_status check(uint32_t count, const ml_operand *input, const ml_operand *output) {
    return ml_holds(input, 2, count, 1, 1, 1) && ml_holds(output, 2, count, 1, 1, 1) ? ML_OK : ML_ERR_OPERAND;
}

ml_status ml_lines_s16_check(const void *args, const ml_operand *operands) {
    const ml_lines_s16_args *a = args;
    return check(a->count, &operands[0], &operands[1]);
}

/* output = clamp(offset + requantize(input)), below zero with another multiplier and signs: RELU, LEAKY_RELU, ABS. */
int32_t ml_lines_s16(const void *args, void *const *operands) {
    const ml_lines_s16_args *a = args;
    const int16_t *input = operands[0];
    int16_t *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        int32_t x = input[i] + a->input_offset;
        int32_t y;
        if (x >= 0) {
            y = ml_requantize(x, a->multiplier, a->shift);
        } else {
            y = a->sign_after * ml_requantize(a->sign_before * x, a->multiplier_below, a->shift_below);
        }
        output[i] = (int16_t)ml_clamp(y + a->offset, a->low, a->high);
    }
    return 0;
}

ml_status ml_logistic_s16_check(const void *args, const ml_operand *operands) {
    const ml_logistic_s16_args *a = args;
    if (!ml_holds(&operands[1], 2, ML_SIGMOID_ENTRIES, 1, 1, 1)) {
        return ML_ERR_OPERAND;
    }
    return check(a->count, &operands[0], &operands[2]);
}

/* LOGISTIC, or TANH where `tanh` is set. The multiplier brings any scale to the one that the table has. */
int32_t ml_logistic_s16(const void *args, void *const *operands) {
    const ml_logistic_s16_args *a = args;
    const int16_t *input = operands[0];
    const uint16_t *table = operands[1];
    int16_t *output = operands[2];
    uint32_t shift = a->right_shift & 31u;
    int32_t half = shift != 0 ? 1 << (shift - 1u) : 0;
    for (uint32_t i = 0; i < a->count; i++) {
        int32_t x = (input[i] * a->multiplier + half) >> shift;
        output[i] = (int16_t)(a->tanh ? ml_tanh_s16(x, table) : ml_sigmoid_s16(x, table));
    }
    return 0;
}

ml_status ml_table_s16_check(const void *args, const ml_operand *operands) {
    const ml_table_s16_args *a = args;
    if (!ml_holds(&operands[1], 2, ML_LUT_S16_ENTRIES, 1, 1, 1)) {
        return ML_ERR_OPERAND;
    }
    return check(a->count, &operands[0], &operands[2]);
}

int32_t ml_table_s16(const void *args, void *const *operands) {
    const ml_table_s16_args *a = args;
    const int16_t *input = operands[0];
    int16_t *output = operands[2];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = ml_lut_s16(input[i], operands[1]);
    }
    return 0;
}
