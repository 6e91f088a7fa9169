/* ADD, SUB, MUL and others of two arrays, broadcast to one shape. */
#include "elements.h"
#include "ml_kernels.h"
#include "walk.h"

static const uint8_t bytes_1[] = {1, 1, 1};
static const uint8_t bytes_2[] = {2, 2, 2};
static const uint8_t bytes_4[] = {4, 4, 4};

/* Values of `operation`: sdk/ops/arithmetic.py. */
enum { ADD, SUBTRACT, MULTIPLY, MAXIMUM, MINIMUM, SQUARED_DIFFERENCE };

/* Both inputs at one common scale, with `left_shift` bits to spare; their sum, their difference, or its square; and
 * that at the output's scale. */
ML_INLINE void add_row(const void *args, const ml_row *row, uint32_t type) {
    const ml_add_args *p = args;
    uint32_t left = p->left_shift & 31u;
    for (uint32_t i = 0, at_a = 0, at_b = 0; i < row->count; i++, at_a += row->step[0], at_b += row->step[1]) {
        int32_t a = ml_load_integer(row->in[0], type, at_a) + p->offset_a;
        int32_t b = ml_load_integer(row->in[1], type, at_b) + p->offset_b;
        a = ml_round_shift(ml_high_mul((int32_t)((uint32_t)a << left), p->multiplier_a), p->right_shift_a);
        b = ml_round_shift(ml_high_mul((int32_t)((uint32_t)b << left), p->multiplier_b), p->right_shift_b);
        int32_t value = p->operation == ADD ? a + b : a - b;
        value = p->operation == SQUARED_DIFFERENCE ? value * value : value;
        int32_t y = ml_requantize(value, p->multiplier, p->shift) + p->offset;
        ml_store_integer(row->out, type, i, ml_clamp(y, p->low, p->high));
    }
}

static void add_row_s8(const void *args, const ml_row *row) { add_row(args, row, ML_S8); }

static void add_row_s16(const void *args, const ml_row *row) { add_row(args, row, ML_S16); }

ml_status ml_add_s8_check(const void *args, const ml_operand *operands) {
    const ml_add_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_1, operands);
}

int32_t ml_add_s8(const void *args, void *const *operands) {
    const ml_add_args *a = args;
    ml_walk(a->shape, 2, bytes_1, args, operands, add_row_s8);
    return 0;
}

ml_status ml_add_s16_check(const void *args, const ml_operand *operands) {
    const ml_add_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_2, operands);
}

int32_t ml_add_s16(const void *args, void *const *operands) {
    const ml_add_args *a = args;
    ml_walk(a->shape, 2, bytes_2, args, operands, add_row_s16);
    return 0;
}

ML_INLINE void mul_row(const void *args, const ml_row *row, uint32_t type) {
    const ml_mul_args *p = args;
    for (uint32_t i = 0, at_a = 0, at_b = 0; i < row->count; i++, at_a += row->step[0], at_b += row->step[1]) {
        int32_t a = ml_load_integer(row->in[0], type, at_a) + p->offset_a;
        int32_t b = ml_load_integer(row->in[1], type, at_b) + p->offset_b;
        int32_t y = ml_requantize(a * b, p->multiplier, p->shift) + p->offset;
        ml_store_integer(row->out, type, i, ml_clamp(y, p->low, p->high));
    }
}

static void mul_row_s8(const void *args, const ml_row *row) { mul_row(args, row, ML_S8); }

static void mul_row_s16(const void *args, const ml_row *row) { mul_row(args, row, ML_S16); }

ml_status ml_mul_s8_check(const void *args, const ml_operand *operands) {
    const ml_mul_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_1, operands);
}

int32_t ml_mul_s8(const void *args, void *const *operands) {
    const ml_mul_args *a = args;
    ml_walk(a->shape, 2, bytes_1, args, operands, mul_row_s8);
    return 0;
}

ml_status ml_mul_s16_check(const void *args, const ml_operand *operands) {
    const ml_mul_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_2, operands);
}

int32_t ml_mul_s16(const void *args, void *const *operands) {
    const ml_mul_args *a = args;
    ml_walk(a->shape, 2, bytes_2, args, operands, mul_row_s16);
    return 0;
}

/* The larger or the smaller of stored values: both inputs and the output have one scale. */
ML_INLINE void extreme_row(const void *args, const ml_row *row, uint32_t type) {
    const ml_extreme_args *p = args;
    for (uint32_t i = 0, at_a = 0, at_b = 0; i < row->count; i++, at_a += row->step[0], at_b += row->step[1]) {
        int32_t a = ml_load_integer(row->in[0], type, at_a);
        int32_t b = ml_load_integer(row->in[1], type, at_b);
        ml_store_integer(row->out, type, i, (a < b) == (p->operation == MINIMUM) ? a : b);
    }
}

static void extreme_row_s8(const void *args, const ml_row *row) { extreme_row(args, row, ML_S8); }

static void extreme_row_s16(const void *args, const ml_row *row) { extreme_row(args, row, ML_S16); }

ml_status ml_extreme_s8_check(const void *args, const ml_operand *operands) {
    const ml_extreme_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_1, operands);
}

int32_t ml_extreme_s8(const void *args, void *const *operands) {
    const ml_extreme_args *a = args;
    ml_walk(a->shape, 2, bytes_1, args, operands, extreme_row_s8);
    return 0;
}

ml_status ml_extreme_s16_check(const void *args, const ml_operand *operands) {
    const ml_extreme_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_2, operands);
}

int32_t ml_extreme_s16(const void *args, void *const *operands) {
    const ml_extreme_args *a = args;
    ml_walk(a->shape, 2, bytes_2, args, operands, extreme_row_s16);
    return 0;
}

/* Runs `value`, an expression of `a` and `b`, for each element of a row and stores it, clamped. */
#define EACH(type, clamp, value)                                                                \
    do {                                                                                        \
        const type *in_a = row->in[0], *in_b = row->in[1];                                      \
        type *out = row->out;                                                                   \
        for (uint32_t i = 0; i < row->count; i++, in_a += row->step[0], in_b += row->step[1]) { \
            type a = *in_a, b = *in_b;                                                          \
            out[i] = clamp(value, p->low, p->high);                                             \
        }                                                                                       \
    } while (0)

static void row_f32(const void *args, const ml_row *row) {
    const ml_arithmetic_f32_args *p = args;
    switch (p->operation) {
    case ADD: EACH(float, ml_clamp_f32, a + b); break;
    case SUBTRACT: EACH(float, ml_clamp_f32, a - b); break;
    case MULTIPLY: EACH(float, ml_clamp_f32, a *b); break;
    case MAXIMUM: EACH(float, ml_clamp_f32, ML_MAX(a, b)); break;
    case MINIMUM: EACH(float, ml_clamp_f32, ML_MIN(a, b)); break;
    default: EACH(float, ml_clamp_f32, (a - b) * (a - b)); break;
    }
}

ml_status ml_arithmetic_f32_check(const void *args, const ml_operand *operands) {
    const ml_arithmetic_f32_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_4, operands);
}

int32_t ml_arithmetic_f32(const void *args, void *const *operands) {
    const ml_arithmetic_f32_args *a = args;
    ml_walk(a->shape, 2, bytes_4, args, operands, row_f32);
    return 0;
}

static void row_s32(const void *args, const ml_row *row) {
    const ml_arithmetic_s32_args *p = args;
    switch (p->operation) {
    case ADD: EACH(int32_t, ml_clamp, a + b); break;
    case SUBTRACT: EACH(int32_t, ml_clamp, a - b); break;
    case MULTIPLY: EACH(int32_t, ml_clamp, a * b); break;
    case MAXIMUM: EACH(int32_t, ml_clamp, ML_MAX(a, b)); break;
    case MINIMUM: EACH(int32_t, ml_clamp, ML_MIN(a, b)); break;
    default: EACH(int32_t, ml_clamp, (a - b) * (a - b)); break;
    }
}

ml_status ml_arithmetic_s32_check(const void *args, const ml_operand *operands) {
    const ml_arithmetic_s32_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_4, operands);
}

int32_t ml_arithmetic_s32(const void *args, void *const *operands) {
    const ml_arithmetic_s32_args *a = args;
    ml_walk(a->shape, 2, bytes_4, args, operands, row_s32);
    return 0;
}

#define ADD_N_INPUTS 7u

ml_status ml_add_n_s8_check(const void *args, const ml_operand *operands) {
    const ml_add_n_args *a = args;
    for (uint32_t i = 0; i <= ADD_N_INPUTS; i++) {
        if (operands[i].ref != 0 && !ml_holds(&operands[i], 1, a->count, 1, 1, 1)) {
            return ML_ERR_OPERAND;
        }
    }
    return ML_OK;
}

/* output = clamp(requantize(start + the sum of up to 7 inputs, shifted) + offset); all inputs have one scale. */
int32_t ml_add_n_s8(const void *args, void *const *operands) {
    const ml_add_n_args *a = args;
    int8_t *output = operands[ADD_N_INPUTS];
    for (uint32_t i = 0; i < a->count; i++) {
        int32_t sum = a->start;
        for (uint32_t j = 0; j < ADD_N_INPUTS; j++) {
            sum += operands[j] != NULL ? ((const int8_t *)operands[j])[i] : 0;
        }
        sum = (int32_t)((uint32_t)sum << (a->left_shift & 31u));
        int32_t y = ml_requantize(sum, a->multiplier, a->shift) + a->offset;
        output[i] = (int8_t)ml_clamp(y, a->low, a->high);
    }
    return 0;
}
