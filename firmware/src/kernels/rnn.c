/* rnn_f32: output = activation(bias + weights x + recurrent h), step by step, where h is the last output. Layouts:
 * input [batches][steps][inputs] and output [batches][steps][units], or steps first where `time_major`; weights
 * [units][inputs], recurrent [units][units], hidden [batches][units]. */
#include "ml_kernels.h"
#include "ml_math.h"

ml_status ml_rnn_f32_check(const void *args, const ml_operand *operands) {
    const ml_rnn_args *a = args;
    if (a->units == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4, a->batches, a->steps, a->inputs, 1) &&
                ml_holds(&operands[1], 4, a->units, a->inputs, 1, 1) &&
                ml_holds(&operands[2], 4, a->units, a->units, 1, 1) && ml_holds(&operands[3], 4, a->units, 1, 1, 1) &&
                ml_holds(&operands[4], 4, a->batches, a->units, 1, 1) &&
                ml_holds(&operands[5], 4, a->batches, a->steps, a->units, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static float dot(const float *a, const float *b, uint32_t count) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

int32_t ml_rnn_f32(const void *args, void *const *operands) {
    const ml_rnn_args *a = args;
    const float *input = operands[0], *weights = operands[1], *recurrent = operands[2], *bias = operands[3];
    float *hidden = operands[4];
    for (uint32_t b = 0; b < a->batches; b++, hidden += a->units) {
        for (uint32_t s = 0; s < a->steps; s++) {
            uint32_t row = a->time_major ? s * a->batches + b : b * a->steps + s;
            const float *x = input + row * a->inputs;
            float *y = (float *)operands[5] + row * a->units;
            for (uint32_t u = 0; u < a->units; u++) {
                float sum = bias[u] + dot(weights + u * a->inputs, x, a->inputs);
                sum += dot(recurrent + u * a->units, hidden, a->units);
                y[u] = a->tanh ? ml_tanh_f32(sum) : ml_clamp_f32(sum, a->low, a->high);
            }
            memmove(hidden, y, a->units * sizeof(float));
        }
    }
    return 0;
}
