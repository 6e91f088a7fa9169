/* CUMSUM: running sums along one dimension. Layout: [outer][depth][inner], summed along the middle one. */
#include "ml_kernels.h"

static ml_status check(const ml_cumsum_args *a, const ml_operand *operands, uint32_t bytes) {
    bool fits = ml_holds(&operands[0], bytes, a->outer, a->depth, a->inner, 1) &&
                ml_holds(&operands[1], bytes, a->outer, a->depth, a->inner, 1);
    /* Empty columns would begin outside. */
    return fits && a->depth != 0 && a->inner != 0 ? ML_OK : ML_ERR_OPERAND;
}

/* Where column `index` begins, and in *step how far its next element lies: backwards if sums run from the end. */
static uint32_t column(const ml_cumsum_args *a, uint32_t index, uint32_t *step) {
    uint32_t first = index / a->inner * a->depth * a->inner + index % a->inner;
    *step = a->reverse ? 0u - a->inner : a->inner;
    return a->reverse ? first + (a->depth - 1u) * a->inner : first;
}

ml_status ml_cumsum_s8_check(const void *args, const ml_operand *operands) { return check(args, operands, 1); }

int32_t ml_cumsum_s8(const void *args, void *const *operands) {
    const ml_cumsum_args *a = args;
    const int8_t *input = operands[0];
    int8_t *output = operands[1];
    for (uint32_t index = 0; index < a->outer * a->inner; index++) {
        uint32_t step;
        uint32_t at = column(a, index, &step);
        int32_t sum = a->start;
        for (uint32_t i = 0; i < a->depth; i++, at += step) {
            int32_t next = sum + input[at] + a->input_offset;
            int32_t shown = (int32_t)((uint32_t)(a->exclusive ? sum : next) << (a->left_shift & 31u));
            int32_t y = ml_requantize(shown, a->multiplier, a->shift) + a->offset;
            output[at] = (int8_t)ml_clamp(y, a->low, a->high);
            sum = next;
        }
    }
    return 0;
}

ml_status ml_cumsum_f32_check(const void *args, const ml_operand *operands) { return check(args, operands, 4); }

int32_t ml_cumsum_f32(const void *args, void *const *operands) {
    const ml_cumsum_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t index = 0; index < a->outer * a->inner; index++) {
        uint32_t step;
        uint32_t at = column(a, index, &step);
        float sum = 0.0f;
        for (uint32_t i = 0; i < a->depth; i++, at += step) {
            float next = sum + input[at];
            output[at] = a->exclusive ? sum : next;
            sum = next;
        }
    }
    return 0;
}
