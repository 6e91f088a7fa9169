/* PRELU: output = x >= 0 ? x : alpha * x, with alpha broadcast to the shape of x. */
#include "elements.h"
#include "ml_kernels.h"
#include "walk.h"

ML_INLINE void quantized_row(const void *args, const ml_row *row, uint32_t type) {
    const ml_prelu_args *p = args;
    const int8_t *alpha = row->in[1];
    for (uint32_t i = 0, at = 0; i < row->count; i++, at += row->step[0], alpha += row->step[1]) {
        int32_t x = ml_load_integer(row->in[0], type, at) + p->input_offset;
        int32_t y = x >= 0 ? ml_requantize(x, p->multiplier, p->shift)
                           : ml_requantize(x * (*alpha + p->alpha_offset), p->multiplier_below, p->shift_below);
        ml_store_integer(row->out, type, i, ml_clamp(y + p->offset, p->low, p->high));
    }
}

static void row_s8(const void *args, const ml_row *row) { quantized_row(args, row, ML_S8); }

static void row_s16(const void *args, const ml_row *row) { quantized_row(args, row, ML_S16); }

static const uint8_t bytes_s8[] = {1, 1, 1};
static const uint8_t bytes_s16[] = {2, 1, 2};
static const uint8_t bytes_f32[] = {4, 4, 4};

ml_status ml_prelu_s8_check(const void *args, const ml_operand *operands) {
    const ml_prelu_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_s8, operands);
}

int32_t ml_prelu_s8(const void *args, void *const *operands) {
    const ml_prelu_args *a = args;
    ml_walk(a->shape, 2, bytes_s8, args, operands, row_s8);
    return 0;
}

ml_status ml_prelu_s16_check(const void *args, const ml_operand *operands) {
    const ml_prelu_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_s16, operands);
}

int32_t ml_prelu_s16(const void *args, void *const *operands) {
    const ml_prelu_args *a = args;
    ml_walk(a->shape, 2, bytes_s16, args, operands, row_s16);
    return 0;
}

static void row_f32(const void *args, const ml_row *row) {
    (void)args;
    const float *x = row->in[0], *alpha = row->in[1];
    float *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, x += row->step[0], alpha += row->step[1]) {
        out[i] = *x >= 0.0f ? *x : *x * *alpha;
    }
}

ml_status ml_prelu_f32_check(const void *args, const ml_operand *operands) {
    const ml_prelu_f32_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_f32, operands);
}

int32_t ml_prelu_f32(const void *args, void *const *operands) {
    const ml_prelu_f32_args *a = args;
    ml_walk(a->shape, 2, bytes_f32, args, operands, row_f32);
    return 0;
}
