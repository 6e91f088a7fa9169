#include "single.h"

/* Products of some inputs and outputs, by whole groups unless it is one input that is left over. */
ML_INLINE void add(uint32_t *sums, const int8_t *x, const int8_t *w, uint32_t inputs, uint32_t outputs) {
#pragma GCC unroll 16
    for (uint32_t i = 0; i < inputs * outputs; i++) {
        uint32_t input = i / outputs, o = i % outputs;
        sums[o] += (uint32_t)(x[input] * w[(input / ML_GROUP * outputs + o) * ML_GROUP + input % ML_GROUP]);
    }
}

/* Some outputs; returns the weights of the next. */
ML_INLINE const int8_t *some(const ml_single *s, const int8_t *w, const ml_channel *c, int8_t *output,
                             uint32_t outputs) {
    uint32_t sums[ML_OUTPUTS];
#pragma GCC unroll 4
    for (uint32_t o = 0; o < outputs; o++) {
        sums[o] = (uint32_t)c[o].start;
    }
    const int8_t *x = s->inputs, *rounds = x + (s->input_count & ~3u);
    for (; x != rounds; x += 4, w += 4u * outputs) {
        add(sums, x, w, 4, outputs);
    }
    if ((s->input_count & 2u) != 0) {
        add(sums, x, w, 2, outputs);
        x += 2;
        w += 2u * outputs;
    }
    if ((s->input_count & 1u) != 0) {
        add(sums, x, w, 1, outputs);
        w += ML_GROUP * outputs;
    }
#pragma GCC unroll 4
    for (uint32_t o = 0; o < outputs; o++) {
        output[o] = (int8_t)ml_rescaled(&c[o], sums[o], s->has_sign, s->low, s->high);
    }
    return w;
}

void ml_run_single(const ml_single *s) {
    const int8_t *w = s->weights;
    const ml_channel *c = s->channels;
    int8_t *output = s->output;
    uint32_t left = s->output_count;
    for (; left >= ML_OUTPUTS; left -= ML_OUTPUTS, c += ML_OUTPUTS, output += ML_OUTPUTS) {
        w = some(s, w, c, output, ML_OUTPUTS);
    }
    for (; left != 0; left--, c++, output++) {
        w = some(s, w, c, output, 1);
    }
}
