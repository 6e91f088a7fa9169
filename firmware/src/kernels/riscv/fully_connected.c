/* FULLY_CONNECTED of one row, int8: four outputs at a time, which
 * share the loads of inputs. Weights: [inputs][4 outputs] for each four outputs, and [inputs] for each one that is left
 * over. */
#include "rescale.h"

#define OUTPUTS 4u

/* Operands: input, weights, channels, output. */
ml_status ml_fully_connected_four_s8_check(const void *args, const ml_operand *operands) {
    const ml_fully_connected_four_args *a = args;
    bool sound = ml_holds(&operands[0], 1, a->inputs, 1, 1, 1) &&
                 ml_holds(&operands[1], 1, a->inputs, a->outputs, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), a->outputs, 1, 1, 1) &&
                 ml_holds(&operands[3], 1, a->outputs, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* Some (`count`) outputs; returns the weights of the next. */
ML_INLINE const int8_t *some_outputs(const ml_fully_connected_four_args *a, const int8_t *x, const int8_t *w,
                                     const ml_channel *c, int8_t *output, uint32_t count) {
    uint32_t sums[OUTPUTS];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++) {
        sums[i] = (uint32_t)c[i].start;
    }
    const int8_t *end = x + a->inputs, *fours = x + (a->inputs & ~3u);
    for (; x != fours; x += 4, w += 4u * count) {
#pragma GCC unroll 16
        for (uint32_t i = 0; i < 4u * count; i++) {
            sums[i % count] += (uint32_t)(x[i / count] * w[i]);
        }
    }
    for (; x != end; x++, w += count) {
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++) {
            sums[i] += (uint32_t)(*x * w[i]);
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++) {
        output[i] = (int8_t)ml_rescaled(&c[i], sums[i], a->has_sign != 0, a->low, a->high);
    }
    return w;
}

int32_t ml_fully_connected_four_s8(const void *args, void *const *operands) {
    const ml_fully_connected_four_args a = *(const ml_fully_connected_four_args *)args;
    const int8_t *x = operands[0], *w = operands[1];
    const ml_channel *c = operands[2];
    int8_t *output = operands[3];
    uint32_t left = a.outputs;
    for (; left >= OUTPUTS; left -= OUTPUTS, c += OUTPUTS, output += OUTPUTS) {
        w = some_outputs(&a, x, w, c, output, OUTPUTS);
    }
    for (; left != 0; left--, c++, output++) {
        w = some_outputs(&a, x, w, c, output, 1);
    }
    return 0;
}
