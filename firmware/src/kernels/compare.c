/* EQUAL, LESS and their like, LOGICAL_AND and LOGICAL_OR. Results are bytes of 0 and 1. */
#include "elements.h"
#include "ml_kernels.h"
#include "walk.h"

/* What a comparison finds, as a bit of `truth`, which tells for each whether the result is true. */
enum { IS_LESS, IS_EQUAL, IS_GREATER, IS_UNORDERED };

ML_INLINE int32_t scaled(int32_t x, uint32_t left_shift, int32_t multiplier, int32_t right_shift) {
    return ml_round_shift(ml_high_mul((int32_t)((uint32_t)x << (left_shift & 31u)), multiplier), right_shift);
}

static void row_integers(const void *args, const ml_row *row) {
    const ml_compare_args *p = args;
    uint8_t *out = row->out;
    for (uint32_t i = 0, at_a = 0, at_b = 0; i < row->count; i++, at_a += row->step[0], at_b += row->step[1]) {
        int32_t a = ml_load_integer(row->in[0], p->type, at_a) + p->offset_a;
        int32_t b = ml_load_integer(row->in[1], p->type, at_b) + p->offset_b;
        if (p->scaled) {
            a = scaled(a, p->left_shift, p->multiplier_a, p->right_shift_a);
            b = scaled(b, p->left_shift, p->multiplier_b, p->right_shift_b);
        }
        uint32_t found = a < b ? IS_LESS : a == b ? IS_EQUAL : IS_GREATER;
        out[i] = (uint8_t)((p->truth >> found) & 1u);
    }
}

ml_status ml_compare_check(const void *args, const ml_operand *operands) {
    const ml_compare_args *a = args;
    uint32_t bytes = ml_integer_bytes(a->type);
    const uint8_t sizes[] = {(uint8_t)bytes, (uint8_t)bytes, 1};
    if (bytes == 0 || ((operands[0].ref | operands[1].ref) & (bytes - 1u)) != 0) {
        return ML_ERR_ARGUMENT;
    }
    return ml_walk_check(a->shape, 2, sizes, operands);
}

int32_t ml_compare(const void *args, void *const *operands) {
    const ml_compare_args *a = args;
    uint8_t bytes = (uint8_t)ml_integer_bytes(a->type);
    const uint8_t sizes[] = {bytes, bytes, 1};
    ml_walk(a->shape, 2, sizes, args, operands, row_integers);
    return 0;
}

static void row_f32(const void *args, const ml_row *row) {
    const ml_compare_plain_args *p = args;
    const float *a = row->in[0], *b = row->in[1];
    uint8_t *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, a += row->step[0], b += row->step[1]) {
        uint32_t found = *a < *b ? IS_LESS : *a == *b ? IS_EQUAL : *a > *b ? IS_GREATER : IS_UNORDERED;
        out[i] = (uint8_t)((p->truth >> found) & 1u);
    }
}

static const uint8_t sizes_f32[] = {4, 4, 1};

ml_status ml_compare_f32_check(const void *args, const ml_operand *operands) {
    const ml_compare_plain_args *a = args;
    return ml_walk_check(a->shape, 2, sizes_f32, operands);
}

int32_t ml_compare_f32(const void *args, void *const *operands) {
    const ml_compare_plain_args *a = args;
    ml_walk(a->shape, 2, sizes_f32, args, operands, row_f32);
    return 0;
}

static void row_s64(const void *args, const ml_row *row) {
    const ml_compare_plain_args *p = args;
    const int64_t *a = row->in[0], *b = row->in[1];
    uint8_t *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, a += row->step[0], b += row->step[1]) {
        uint32_t found = *a < *b ? IS_LESS : *a == *b ? IS_EQUAL : IS_GREATER;
        out[i] = (uint8_t)((p->truth >> found) & 1u);
    }
}

static const uint8_t sizes_s64[] = {8, 8, 1};

ml_status ml_compare_s64_check(const void *args, const ml_operand *operands) {
    const ml_compare_plain_args *a = args;
    return ml_walk_check(a->shape, 2, sizes_s64, operands);
}

int32_t ml_compare_s64(const void *args, void *const *operands) {
    const ml_compare_plain_args *a = args;
    ml_walk(a->shape, 2, sizes_s64, args, operands, row_s64);
    return 0;
}

static void row_logical(const void *args, const ml_row *row) {
    const ml_logical_args *p = args;
    const uint8_t *a = row->in[0], *b = row->in[1];
    uint8_t *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, a += row->step[0], b += row->step[1]) {
        /* How many of the two are true must reach the number asked for: 1 for "or", 2 for "and". */
        out[i] = (uint32_t)((*a != 0) + (*b != 0)) >= p->needed;
    }
}

static const uint8_t sizes_logical[] = {1, 1, 1};

ml_status ml_logical_check(const void *args, const ml_operand *operands) {
    const ml_logical_args *a = args;
    return ml_walk_check(a->shape, 2, sizes_logical, operands);
}

int32_t ml_logical(const void *args, void *const *operands) {
    const ml_logical_args *a = args;
    ml_walk(a->shape, 2, sizes_logical, args, operands, row_logical);
    return 0;
}
