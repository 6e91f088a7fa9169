/* UNIDIRECTIONAL_SEQUENCE_LSTM without peepholes, projection or layer normalization. For each unit, from the input x
 * and the hidden state h of the step before: f, i, o = sigmoid(Wx x + b + Wh h), g = tanh(Wx x + b + Wh h), each with
 * its own weights c = clip(f * c + i * g), h = o * tanh(c) Layouts: input [batches][steps][inputs], output
 * [batches][steps][units], batches and steps exchanged where time_major is set; weights [units][f, i, g, o][inputs +
 * units]; start [units][f, i, g, o], for integers [units][f, i, g, o][x, h]; hidden and cell state [batches][units].
 * The hidden state of a step is its output, so that only the last is stored. */
#include "ml_kernels.h"
#include "ml_math.h"
#include "sigmoid.h"

#define GATES 4u
#define SUMS (2u * GATES) /* of integers: one over x and one over h, which are rounded apart */

enum { FORGET, INPUT, CANDIDATE, OUTPUT };

static bool shapes_fit(const ml_operand *operands, uint32_t batches, uint32_t steps, uint32_t inputs, uint32_t units,
                       const uint8_t bytes[3]) {
    /* Without steps and units nothing would bound the batches. */
    return steps != 0 && units != 0 && inputs <= UINT32_MAX - units &&
           ml_holds(&operands[0], bytes[0], batches, steps, inputs, 1) &&
           ml_holds(&operands[1], bytes[1], units, GATES, inputs + units, 1) &&
           ml_holds(&operands[3], bytes[0], batches, units, 1, 1) &&
           ml_holds(&operands[4], bytes[2], batches, units, 1, 1) &&
           ml_holds(&operands[5], bytes[0], batches, steps, units, 1);
}

static ml_status check_integer(const void *args, const ml_operand *operands, uint8_t bytes, uint32_t start_bytes) {
    const ml_lstm_args *a = args;
    bool fits = shapes_fit(operands, a->batches, a->steps, a->inputs, a->units, (const uint8_t[3]){bytes, 1, 2}) &&
                ml_holds(&operands[2], start_bytes, a->units, SUMS, 1, 1) &&
                ml_holds(&operands[6], 2, ML_SIGMOID_ENTRIES, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static int32_t clamp_s16(int32_t value) { return ml_clamp(value, INT16_MIN, INT16_MAX); }

/* A unit's new hidden state, from the sums of its gates in Q3.12; its cell state is updated. */
static int32_t update(const ml_lstm_args *a, const int32_t *gates, const uint16_t *table, int16_t *cell) {
    int32_t forget = ml_sigmoid_s16(3 * gates[FORGET], table);
    int32_t input = ml_sigmoid_s16(3 * gates[INPUT], table);
    int32_t candidate = ml_tanh_s16(3 * gates[CANDIDATE], table);
    int32_t output = ml_sigmoid_s16(3 * gates[OUTPUT], table);
    int32_t kept = clamp_s16(ml_requantize(forget * *cell, 1 << 30, -14));
    int32_t added = clamp_s16(ml_requantize(input * candidate, a->cell_multiplier, a->cell_shift));
    int32_t state = ml_clamp(clamp_s16(kept + added), a->cell_low, a->cell_high);
    *cell = (int16_t)state;
    int32_t scaled = (state * a->tanh_multiplier + a->tanh_round) >> (a->tanh_shift & 31u);
    return ml_requantize(ml_tanh_s16(scaled, table) * output, a->hidden_multiplier, a->hidden_shift) + a->hidden_offset;
}

static int32_t dot_s8(int32_t sum, const int8_t *x, const int8_t *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sum += x[i] * w[i];
    }
    return sum;
}

static int64_t dot_s16(int64_t sum, const int16_t *x, const int8_t *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sum += x[i] * w[i];
    }
    return sum;
}

/* Sum k, in Q3.12, of `count` elements of x or h. */
static inline int32_t sum_of(const ml_lstm_args *a, uint32_t k, const void *start, const void *x, const int8_t *w,
                             uint32_t count, bool wide) {
    if (wide) {
        int64_t sum = dot_s16(*(const int64_t *)start, x, w, count);
        return clamp_s16(ml_requantize_s64(sum, a->multiplier[k], a->shift[k]));
    }
    return clamp_s16(ml_requantize(dot_s8(*(const int32_t *)start, x, w, count), a->multiplier[k], a->shift[k]));
}

/* One step of one batch: `y` is the hidden state that follows `h`. */
static inline void step_integer(const ml_lstm_args *a, void *const *operands, const void *x, const void *h,
                                int16_t *cell, void *y, bool wide) {
    const int8_t *weights = operands[1];
    const uint8_t *start = operands[2];
    const uint32_t start_bytes = wide ? 8 : 4;
    for (uint32_t unit = 0; unit < a->units; unit++, cell++) {
        int32_t gates[GATES];
        for (uint32_t gate = 0; gate < GATES; gate++) {
            int32_t of_x = sum_of(a, 2u * gate, start, x, weights, a->inputs, wide);
            weights += a->inputs;
            start += start_bytes;
            int32_t of_h = sum_of(a, 2u * gate + 1u, start, h, weights, a->units, wide);
            weights += a->units;
            start += start_bytes;
            gates[gate] = clamp_s16(of_x + of_h);
        }
        int32_t hidden = update(a, gates, operands[6], cell);
        if (wide) {
            ((int16_t *)y)[unit] = (int16_t)clamp_s16(hidden);
        } else {
            ((int8_t *)y)[unit] = (int8_t)ml_clamp(hidden, INT8_MIN, INT8_MAX);
        }
    }
}

static inline void run_integer(const ml_lstm_args *a, void *const *operands, bool wide) {
    const uint32_t bytes = wide ? 2 : 1;
    const uint32_t x_row = a->inputs * bytes, y_row = a->units * bytes;
    const uint32_t step = a->time_major ? a->batches : 1u, batch_rows = a->time_major ? 1u : a->steps;
    for (uint32_t batch = 0; batch < a->batches; batch++) {
        const uint8_t *x = (const uint8_t *)operands[0] + (size_t)batch * batch_rows * x_row;
        uint8_t *y = (uint8_t *)operands[5] + (size_t)batch * batch_rows * y_row;
        uint8_t *state = (uint8_t *)operands[3] + (size_t)batch * y_row;
        const uint8_t *h = state;
        int16_t *cell = (int16_t *)operands[4] + (size_t)batch * a->units;
        for (uint32_t t = 0; t < a->steps; t++) {
            step_integer(a, operands, x, h, cell, y, wide);
            h = y;
            x += (size_t)step * x_row;
            y += (size_t)step * y_row;
        }
        memmove(state, h, y_row);
    }
}

ml_status ml_lstm_s8_check(const void *args, const ml_operand *operands) { return check_integer(args, operands, 1, 4); }

int32_t ml_lstm_s8(const void *args, void *const *operands) {
    run_integer(args, operands, false);
    return 0;
}

ml_status ml_lstm_s16_check(const void *args, const ml_operand *operands) {
    return check_integer(args, operands, 2, 8);
}

int32_t ml_lstm_s16(const void *args, void *const *operands) {
    run_integer(args, operands, true);
    return 0;
}

ml_status ml_lstm_f32_check(const void *args, const ml_operand *operands) {
    const ml_lstm_f32_args *a = args;
    bool fits = shapes_fit(operands, a->batches, a->steps, a->inputs, a->units, (const uint8_t[3]){4, 4, 4}) &&
                ml_holds(&operands[2], 4, a->units, GATES, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static float dot_f32(const float *x, const float *w, uint32_t count) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        sum += x[i] * w[i];
    }
    return sum;
}

static void step_f32(const ml_lstm_f32_args *a, void *const *operands, const float *x, const float *h, float *cell,
                     float *y) {
    const float *weights = operands[1];
    const float *bias = operands[2];
    for (uint32_t unit = 0; unit < a->units; unit++) {
        float gates[GATES];
        for (uint32_t gate = 0; gate < GATES; gate++, weights += a->inputs + a->units) {
            gates[gate] = dot_f32(x, weights, a->inputs) + *bias++ + dot_f32(h, weights + a->inputs, a->units);
        }
        float added = ml_logistic_f32(gates[INPUT]) * ml_tanh_f32(gates[CANDIDATE]);
        float state = ml_logistic_f32(gates[FORGET]) * cell[unit] + added;
        cell[unit] = ml_clamp_f32(state, -a->clip, a->clip);
        y[unit] = ml_logistic_f32(gates[OUTPUT]) * ml_tanh_f32(cell[unit]);
    }
}

int32_t ml_lstm_f32(const void *args, void *const *operands) {
    const ml_lstm_f32_args *a = args;
    const uint32_t step = a->time_major ? a->batches : 1u, batch_rows = a->time_major ? 1u : a->steps;
    for (uint32_t batch = 0; batch < a->batches; batch++) {
        const float *x = (const float *)operands[0] + (size_t)batch * batch_rows * a->inputs;
        float *y = (float *)operands[5] + (size_t)batch * batch_rows * a->units;
        float *state = (float *)operands[3] + (size_t)batch * a->units;
        const float *h = state;
        for (uint32_t t = 0; t < a->steps; t++) {
            step_f32(a, operands, x, h, (float *)operands[4] + (size_t)batch * a->units, y);
            h = y;
            x += (size_t)step * a->inputs;
            y += (size_t)step * a->units;
        }
        memmove(state, h, a->units * sizeof *h);
    }
    return 0;
}
