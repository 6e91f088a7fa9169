/* QUANTIZE and DEQUANTIZE: between float32 and integers, and between integers of different scales. */
#include "elements.h"
#include "ml_kernels.h"

static bool quantize_fits(const ml_quantize_args *a, const ml_operand *operands, uint32_t bytes) {
    return ml_holds(&operands[0], 4, a->count, 1, 1, 1) && ml_holds(&operands[1], bytes, a->count, 1, 1, 1);
}

/* clamp(round(x / scale) + offset), ties away from zero. What is not a number becomes `low`. */
static inline int32_t quantize(const ml_quantize_args *a, float x) {
    float scaled = x / a->scale;
    /* Wider than any result is, and narrow enough to convert. */
    if (!(scaled > -131072.0f)) {
        return a->low;
    }
    if (scaled > 131072.0f) {
        return a->high;
    }
    int32_t whole = (int32_t)scaled;
    float rest = scaled - (float)whole; /* exact */
    whole += (rest >= 0.5f) - (rest <= -0.5f);
    return ml_clamp(whole + a->offset, a->low, a->high);
}

ml_status ml_quantize_b8_check(const void *args, const ml_operand *operands) {
    return quantize_fits(args, operands, 1) ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_quantize_b8(const void *args, void *const *operands) {
    const ml_quantize_args *a = args;
    const float *input = operands[0];
    uint8_t *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = (uint8_t)quantize(a, input[i]);
    }
    return 0;
}

ml_status ml_quantize_s16_check(const void *args, const ml_operand *operands) {
    return quantize_fits(args, operands, 2) ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_quantize_s16(const void *args, void *const *operands) {
    const ml_quantize_args *a = args;
    const float *input = operands[0];
    int16_t *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = (int16_t)quantize(a, input[i]);
    }
    return 0;
}

ml_status ml_dequantize_b8_check(const void *args, const ml_operand *operands) {
    const ml_dequantize_args *a = args;
    bool fits = ml_holds(&operands[0], 1, a->count, 1, 1, 1) && ml_holds(&operands[1], 4, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_dequantize_b8(const void *args, void *const *operands) {
    const ml_dequantize_args *a = args;
    const uint8_t *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        /* The flip makes an int8 of a uint8; the offset knows. */
        output[i] = a->scale * (float)((int8_t)(input[i] ^ a->flip) + a->offset);
    }
    return 0;
}

ml_status ml_dequantize_s16_check(const void *args, const ml_operand *operands) {
    const ml_dequantize_args *a = args;
    bool fits = ml_holds(&operands[0], 2, a->count, 1, 1, 1) && ml_holds(&operands[1], 4, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_dequantize_s16(const void *args, void *const *operands) {
    const ml_dequantize_args *a = args;
    const int16_t *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = a->scale * (float)(input[i] + a->offset);
    }
    return 0;
}

ml_status ml_rescale_check(const void *args, const ml_operand *operands) {
    const ml_rescale_args *a = args;
    uint32_t input_bytes = ml_integer_bytes(a->input_type);
    uint32_t output_bytes = ml_integer_bytes(a->output_type);
    if (input_bytes == 0 || output_bytes == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool fits =
        ml_holds_aligned(&operands[0], input_bytes, a->count) && ml_holds_aligned(&operands[1], output_bytes, a->count);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* output[i] = clamp(requantize(input[i] + input_offset) + output_offset), between integers of any widths. */
int32_t ml_rescale(const void *args, void *const *operands) {
    const ml_rescale_args *a = args;
    for (uint32_t i = 0; i < a->count; i++) {
        int32_t x = ml_load_integer(operands[0], a->input_type, i) + a->input_offset;
        int32_t y = ml_requantize(x, a->multiplier, a->shift) + a->output_offset;
        ml_store_integer(operands[1], a->output_type, i, ml_clamp(y, a->low, a->high));
    }
    return 0;
}
