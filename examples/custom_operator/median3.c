/* MEDIAN3: see median3.py. Layouts: input and output [batches][times][channels]. */
#include "ml_custom.h"

ml_status ml_median3_s8_check(const void *args, const ml_operand *operands) {
    const ml_median3_args *a = args;
    bool fits = ml_holds(&operands[0], 1, a->batches, a->times, a->channels, 1) &&
                ml_holds(&operands[1], 1, a->batches, a->times, a->channels, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static int8_t median(int8_t a, int8_t b, int8_t c) {
    int8_t low = ML_MIN(a, b);
    int8_t high = ML_MAX(a, b);
    return ML_MAX(low, ML_MIN(high, c));
}

int32_t ml_median3_s8(const void *args, void *const *operands) {
    const ml_median3_args *a = args;
    const int8_t *x = operands[0];
    int8_t *y = operands[1];
    for (uint32_t batch = 0; batch < a->batches; batch++) {
        for (uint32_t time = 0; time < a->times; time++) {
            for (uint32_t channel = 0; channel < a->channels; channel++, x++, y++) {
                bool edge = time == 0 || time + 1u == a->times;
                *y = edge ? *x : median(*(x - a->channels), *x, *(x + a->channels));
            }
        }
    }
    return 0;
}
