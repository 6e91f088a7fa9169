/* SVDF: a layer over a window of time, factorized into filters. Each filter f makes one feature of the newest input and
 * remembers `memory` of them; unit u is the weighted sum over the windows of its `rank` filters:
 *   feature[f] = sum_i input[i] * weights_feature[f][i]          joins the window of f, whose oldest feature leaves
 *   output[u]  = start[u] + sum_{f of u} sum_t window[f][t] * weights_time[f][t]
 * Layouts: input [batches][inputs], weights_feature [units * rank][inputs], weights_time [units * rank][memory],
 * state [batches][units * rank][memory], oldest first, output [batches][units]. */
#include "ml_kernels.h"

static ml_status check_shapes(const ml_operand *operands, uint32_t batches, uint32_t inputs, uint32_t units,
                              uint32_t rank, uint32_t memory, uint32_t input_bytes, uint32_t state_bytes) {
    bool fits = memory != 0 && units != 0 && ml_holds(&operands[0], input_bytes, batches, inputs, 1, 1) &&
                ml_holds(&operands[1], input_bytes, units, rank, inputs, 1) &&
                ml_holds(&operands[2], state_bytes, units, rank, memory, 1) &&
                ml_holds(&operands[3], state_bytes, batches, units, rank, memory) &&
                ml_holds(&operands[4], input_bytes, batches, units, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static ml_status check_integer(const void *args, const ml_operand *operands, uint32_t state_bytes) {
    const ml_svdf_args *a = args;
    bool fits = ml_holds(&operands[5], 4, a->units, a->rank, 1, 1) && ml_holds(&operands[6], 4, a->units, 1, 1, 1);
    return fits ? check_shapes(operands, a->batches, a->inputs, a->units, a->rank, a->memory, 1, state_bytes)
                : ML_ERR_OPERAND;
}

/* Moves a window of `memory` features on by one, `newest` coming in; returns its weighted sum. */
static int32_t slide_s8(int8_t *window, const int8_t *weights, uint32_t memory, int32_t newest) {
    int32_t sum = 0;
    uint32_t last = memory - 1u;
    for (uint32_t t = 0; t < last; t++) {
        window[t] = window[t + 1u];
        sum += window[t] * weights[t];
    }
    window[last] = (int8_t)newest;
    return sum + window[last] * weights[last];
}

static int32_t slide_s16(int16_t *window, const int16_t *weights, uint32_t memory, int32_t newest) {
    int32_t sum = 0;
    uint32_t last = memory - 1u;
    for (uint32_t t = 0; t < last; t++) {
        window[t] = window[t + 1u];
        sum += window[t] * weights[t];
    }
    window[last] = (int16_t)newest;
    return sum + window[last] * weights[last];
}

/* `wide`: states and time weights are int16. The features' clamp comes before their zero point is added, so that one
 * with a zero point wraps as it does in TensorFlow Lite. */
static void run_integer(const ml_svdf_args *a, void *const *operands, bool wide) {
    const int32_t limit = wide ? INT16_MAX : INT8_MAX;
    const uint32_t row_bytes = a->memory << (uint32_t)wide;
    const int8_t *input = operands[0];
    uint8_t *window = operands[3];
    int8_t *output = operands[4];
    for (uint32_t batch = 0; batch < a->batches; batch++, input += a->inputs) {
        const int8_t *feature_weights = operands[1];
        const uint8_t *time_weights = operands[2];
        const int32_t *feature_start = operands[5];
        const int32_t *start = operands[6];
        for (uint32_t unit = 0; unit < a->units; unit++) {
            int32_t sum = *start++;
            for (uint32_t r = 0; r < a->rank; r++, window += row_bytes, time_weights += row_bytes) {
                int32_t feature = *feature_start++;
                for (uint32_t i = 0; i < a->inputs; i++) {
                    feature += input[i] * *feature_weights++;
                }
                feature = ml_requantize(feature, a->feature_multiplier, a->feature_shift);
                feature = ml_clamp(feature, -limit - 1, limit) + a->state_offset;
                sum += wide ? slide_s16((void *)window, (const void *)time_weights, a->memory, feature)
                            : slide_s8((void *)window, (const void *)time_weights, a->memory, feature);
            }
            int32_t value = ml_requantize(sum, a->multiplier, a->shift) + a->output_offset;
            *output++ = (int8_t)ml_clamp(value, INT8_MIN, INT8_MAX);
        }
    }
}

ml_status ml_svdf_s8_check(const void *args, const ml_operand *operands) { return check_integer(args, operands, 1); }

int32_t ml_svdf_s8(const void *args, void *const *operands) {
    run_integer(args, operands, false);
    return 0;
}

ml_status ml_svdf_s16_check(const void *args, const ml_operand *operands) { return check_integer(args, operands, 2); }

int32_t ml_svdf_s16(const void *args, void *const *operands) {
    run_integer(args, operands, true);
    return 0;
}

ml_status ml_svdf_f32_check(const void *args, const ml_operand *operands) {
    const ml_svdf_f32_args *a = args;
    bool fits = operands[5].ref == 0 || ml_holds(&operands[5], 4, a->units, 1, 1, 1);
    return fits ? check_shapes(operands, a->batches, a->inputs, a->units, a->rank, a->memory, 4, 4) : ML_ERR_OPERAND;
}

static float slide_f32(float *window, const float *weights, uint32_t memory, float newest) {
    float sum = 0.0f;
    uint32_t last = memory - 1u;
    for (uint32_t t = 0; t < last; t++) {
        window[t] = window[t + 1u];
        sum += window[t] * weights[t];
    }
    window[last] = newest;
    return sum + newest * weights[last];
}

int32_t ml_svdf_f32(const void *args, void *const *operands) {
    const ml_svdf_f32_args *a = args;
    const float *input = operands[0];
    float *window = operands[3];
    float *output = operands[4];
    for (uint32_t batch = 0; batch < a->batches; batch++, input += a->inputs) {
        const float *feature_weights = operands[1];
        const float *time_weights = operands[2];
        const float *bias = operands[5];
        for (uint32_t unit = 0; unit < a->units; unit++) {
            float sum = bias != NULL ? bias[unit] : 0.0f;
            for (uint32_t r = 0; r < a->rank; r++, window += a->memory, time_weights += a->memory) {
                float feature = 0.0f;
                for (uint32_t i = 0; i < a->inputs; i++) {
                    feature += input[i] * *feature_weights++;
                }
                sum += slide_f32(window, time_weights, a->memory, feature);
            }
            *output++ = ml_clamp_f32(sum, a->low, a->high);
        }
    }
    return 0;
}
