/* MEAN, SUM, REDUCE_PROD, REDUCE_MAX, REDUCE_MIN, REDUCE_ANY, REDUCE_ALL, ARG_MAX and ARG_MIN. */
#include "elements.h"
#include "ml_kernels.h"
#include "reduce.h"

ML_INLINE void take_sum(ml_reduction *r, const void *data, uint32_t count, uint32_t step, uint32_t type) {
    int32_t sum = r->seen != 0 ? r->whole : 0;
    for (uint32_t i = 0, at = 0; i < count; i++, at += step) {
        sum += ml_load_integer(data, type, at);
    }
    r->whole = sum;
}

static void take_sum_s8(ml_reduction *r, const void *data, uint32_t count, uint32_t step) {
    take_sum(r, data, count, step, ML_S8);
}

static void take_sum_s16(ml_reduction *r, const void *data, uint32_t count, uint32_t step) {
    take_sum(r, data, count, step, ML_S16);
}

/* clamp(requantize(start + sum) + offset): MEAN and SUM of quantized integers. */
static int32_t scaled_sum(const ml_reduction *r) {
    const ml_reduce_sum_args *a = r->args;
    return ml_clamp(ml_requantize(r->whole + a->start, a->multiplier, a->shift) + a->offset, a->low, a->high);
}

static void store_sum_s8(const ml_reduction *r, void *output, uint32_t index) {
    ((int8_t *)output)[index] = (int8_t)scaled_sum(r);
}

static void store_sum_s16(const ml_reduction *r, void *output, uint32_t index) {
    ((int16_t *)output)[index] = (int16_t)scaled_sum(r);
}

ml_status ml_reduce_sum_s8_check(const void *args, const ml_operand *operands) {
    const ml_reduce_sum_args *a = args;
    return ml_reduce_check(a->shape, operands, 1, 1);
}

int32_t ml_reduce_sum_s8(const void *args, void *const *operands) {
    static const ml_reducer reducer = {take_sum_s8, store_sum_s8};
    const ml_reduce_sum_args *a = args;
    return ml_reduce(a->shape, args, operands, 1, &reducer);
}

ml_status ml_reduce_sum_s16_check(const void *args, const ml_operand *operands) {
    const ml_reduce_sum_args *a = args;
    return ml_reduce_check(a->shape, operands, 2, 2);
}

int32_t ml_reduce_sum_s16(const void *args, void *const *operands) {
    static const ml_reducer reducer = {take_sum_s16, store_sum_s16};
    const ml_reduce_sum_args *a = args;
    return ml_reduce(a->shape, args, operands, 2, &reducer);
}

/* Values of `operation`: sdk/ops/reduce.py. */
enum { SUM, PRODUCT, MAXIMUM, MINIMUM };

/* How two values become one. */
ML_INLINE int32_t merged_s32(uint32_t operation, int32_t a, int32_t b) {
    switch (operation) {
    case SUM: return a + b;
    case PRODUCT: return a * b;
    case MAXIMUM: return ML_MAX(a, b);
    default: return ML_MIN(a, b);
    }
}

static void take_integers(ml_reduction *r, const void *data, uint32_t count, uint32_t step) {
    const ml_reduce_integers_args *a = r->args;
    int32_t whole = r->seen != 0 ? r->whole : a->start;
    for (uint32_t i = 0, at = 0; i < count; i++, at += step) {
        whole = merged_s32(a->operation, whole, ml_load_integer(data, a->type, at));
    }
    r->whole = whole;
}

static void store_integer(const ml_reduction *r, void *output, uint32_t index) {
    const ml_reduce_integers_args *a = r->args;
    ml_store_integer(output, a->type, index, r->whole);
}

ml_status ml_reduce_integers_check(const void *args, const ml_operand *operands) {
    const ml_reduce_integers_args *a = args;
    uint32_t bytes = ml_integer_bytes(a->type);
    if (bytes == 0 || ((operands[0].ref | operands[1].ref) & (bytes - 1u)) != 0) {
        return ML_ERR_ARGUMENT;
    }
    return ml_reduce_check(a->shape, operands, bytes, bytes);
}

int32_t ml_reduce_integers(const void *args, void *const *operands) {
    static const ml_reducer reducer = {take_integers, store_integer};
    const ml_reduce_integers_args *a = args;
    return ml_reduce(a->shape, args, operands, ml_integer_bytes(a->type), &reducer);
}

static void take_f32(ml_reduction *r, const void *data, uint32_t count, uint32_t step) {
    const ml_reduce_f32_args *a = r->args;
    const float *x = data;
    float real = r->seen != 0 ? r->real : a->start;
    for (uint32_t i = 0; i < count; i++, x += step) {
        switch (a->operation) {
        case SUM: real += *x; break;
        case PRODUCT: real *= *x; break;
        case MAXIMUM: real = ML_MAX(real, *x); break;
        default: real = ML_MIN(real, *x); break;
        }
    }
    r->real = real;
}

static void store_f32(const ml_reduction *r, void *output, uint32_t index) {
    const ml_reduce_f32_args *a = r->args;
    ((float *)output)[index] = r->real / a->divisor;
}

ml_status ml_reduce_f32_check(const void *args, const ml_operand *operands) {
    const ml_reduce_f32_args *a = args;
    return ml_reduce_check(a->shape, operands, 4, 4);
}

int32_t ml_reduce_f32(const void *args, void *const *operands) {
    static const ml_reducer reducer = {take_f32, store_f32};
    const ml_reduce_f32_args *a = args;
    return ml_reduce(a->shape, args, operands, 4, &reducer);
}

static void take_position(ml_reduction *r, const void *data, uint32_t count, uint32_t step) {
    const ml_arg_args *a = r->args;
    for (uint32_t i = 0, at = 0; i < count; i++, at += step) {
        int32_t x = ml_load_integer(data, a->type, at);
        bool first = r->seen == 0 && i == 0;
        if (first || (a->operation == MAXIMUM ? x > r->whole : x < r->whole)) {
            r->whole = x;
            r->best = r->seen + i;
        }
    }
}

static void take_position_f32(ml_reduction *r, const void *data, uint32_t count, uint32_t step) {
    const ml_arg_args *a = r->args;
    const float *x = data;
    for (uint32_t i = 0; i < count; i++, x += step) {
        bool first = r->seen == 0 && i == 0;
        if (first || (a->operation == MAXIMUM ? *x > r->real : *x < r->real)) {
            r->real = *x;
            r->best = r->seen + i;
        }
    }
}

/* Positions are int32, or int64 where `wide` is set: two words, the lower one first. */
static void store_position(const ml_reduction *r, void *output, uint32_t index) {
    const ml_arg_args *a = r->args;
    uint32_t *position = output;
    if (a->wide) {
        position[2u * index] = r->best;
        position[2u * index + 1u] = 0;
    } else {
        position[index] = r->best;
    }
}

ml_status ml_arg_integers_check(const void *args, const ml_operand *operands) {
    const ml_arg_args *a = args;
    uint32_t bytes = ml_integer_bytes(a->type);
    if (bytes == 0 || (operands[0].ref & (bytes - 1u)) != 0) {
        return ML_ERR_ARGUMENT;
    }
    return ml_reduce_check(a->shape, operands, bytes, a->wide ? 8u : 4u);
}

int32_t ml_arg_integers(const void *args, void *const *operands) {
    static const ml_reducer reducer = {take_position, store_position};
    const ml_arg_args *a = args;
    return ml_reduce(a->shape, args, operands, ml_integer_bytes(a->type), &reducer);
}

ml_status ml_arg_f32_check(const void *args, const ml_operand *operands) {
    const ml_arg_args *a = args;
    return ml_reduce_check(a->shape, operands, 4, a->wide ? 8u : 4u);
}

int32_t ml_arg_f32(const void *args, void *const *operands) {
    static const ml_reducer reducer = {take_position_f32, store_position};
    const ml_arg_args *a = args;
    return ml_reduce(a->shape, args, operands, 4, &reducer);
}
