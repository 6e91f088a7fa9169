/* The walk of reduce.h, and the reductions of each operator. */
#include "reduce.h"

#include "elements.h"
#include "ml_kernels.h"

ml_status ml_reduce_check(const uint32_t *shape, const ml_operand *operands, uint32_t in_bytes, uint32_t out_bytes) {
    const ml_reduce_shape *s = (const ml_reduce_shape *)shape;
    uint64_t elements = 1, last = 0;
    /* Each product is checked before the next factor, so that none exceeds 2^60. */
    for (uint32_t d = 0; d < ML_REDUCE_DIMS; d++) {
        elements *= s->kept[d];
        if (elements == 0 || elements * out_bytes > operands[1].bytes) {
            return ML_ERR_OPERAND;
        }
    }
    for (uint32_t d = 0; d < ML_REDUCE_DIMS; d++) {
        elements *= s->reduced[d];
        if (elements == 0 || elements * in_bytes > operands[0].bytes) {
            return ML_ERR_OPERAND;
        }
        last += (uint64_t)(s->kept[d] - 1u) * s->kept_strides[d];
        last += (uint64_t)(s->reduced[d] - 1u) * s->reduced_strides[d];
    }
    bool inside = last < operands[0].bytes && (last + 1u) * in_bytes <= operands[0].bytes;
    return inside ? ML_OK : ML_ERR_OPERAND;
}

void ml_reduce(const uint32_t *shape, const void *args, void *const *operands, uint32_t in_bytes, ml_reduce_one one) {
    const ml_reduce_shape *s = (const ml_reduce_shape *)shape;
    const uint8_t *input = operands[0];
    uint32_t index = 0;
    for (uint32_t i0 = 0; i0 < s->kept[0]; i0++) {
        for (uint32_t i1 = 0; i1 < s->kept[1]; i1++) {
            for (uint32_t i2 = 0; i2 < s->kept[2]; i2++) {
                uint32_t at = i0 * s->kept_strides[0] + i1 * s->kept_strides[1] + i2 * s->kept_strides[2];
                for (uint32_t i3 = 0; i3 < s->kept[3]; i3++, at += s->kept_strides[3]) {
                    one(args, s, input + (size_t)at * in_bytes, operands[1], index++);
                }
            }
        }
    }
}

/* output = clamp(requantize(start + sum of the input) + offset): MEAN and SUM of quantized integers. */
ML_INLINE void sum_integers(const void *args, const ml_reduce_shape *shape, const void *first, void *output,
                            uint32_t index, uint32_t type) {
    const ml_reduce_sum_args *a = args;
    int32_t sum = a->start;
    ML_EACH_REDUCED(shape, at) { sum += ml_load_integer(first, type, at); }
    int32_t value = ml_requantize(sum, a->multiplier, a->shift) + a->offset;
    ml_store_integer(output, type, index, ml_clamp(value, a->low, a->high));
}

static void sum_s8(const void *args, const ml_reduce_shape *shape, const void *first, void *output, uint32_t index) {
    sum_integers(args, shape, first, output, index, ML_S8);
}

static void sum_s16(const void *args, const ml_reduce_shape *shape, const void *first, void *output, uint32_t index) {
    sum_integers(args, shape, first, output, index, ML_S16);
}

static void sum_f32(const void *args, const ml_reduce_shape *shape, const void *first, void *output, uint32_t index) {
    const ml_reduce_sum_f32_args *a = args;
    const float *x = first;
    float sum = 0.0f;
    ML_EACH_REDUCED(shape, at) { sum += x[at]; }
    ((float *)output)[index] = sum / a->divisor;
}

ml_status ml_reduce_sum_s8_check(const void *args, const ml_operand *operands) {
    const ml_reduce_sum_args *a = args;
    return ml_reduce_check(a->shape, operands, 1, 1);
}

int32_t ml_reduce_sum_s8(const void *args, void *const *operands) {
    const ml_reduce_sum_args *a = args;
    ml_reduce(a->shape, args, operands, 1, sum_s8);
    return 0;
}

ml_status ml_reduce_sum_s16_check(const void *args, const ml_operand *operands) {
    const ml_reduce_sum_args *a = args;
    return ml_reduce_check(a->shape, operands, 2, 2);
}

int32_t ml_reduce_sum_s16(const void *args, void *const *operands) {
    const ml_reduce_sum_args *a = args;
    ml_reduce(a->shape, args, operands, 2, sum_s16);
    return 0;
}

ml_status ml_reduce_sum_f32_check(const void *args, const ml_operand *operands) {
    const ml_reduce_sum_f32_args *a = args;
    return ml_reduce_check(a->shape, operands, 4, 4);
}

int32_t ml_reduce_sum_f32(const void *args, void *const *operands) {
    const ml_reduce_sum_f32_args *a = args;
    ml_reduce(a->shape, args, operands, 4, sum_f32);
    return 0;
}
