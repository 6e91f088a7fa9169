/* The walk of reduce.h. */
#include "reduce.h"

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

/* One result: all runs along the innermost reduced dimension. */
static void reduce_one(const ml_reduce_shape *s, const uint8_t *first, uint32_t bytes, ml_reduction *r,
                       const ml_reducer *reducer) {
    r->seen = 0;
    for (uint32_t i0 = 0; i0 < s->reduced[0]; i0++) {
        for (uint32_t i1 = 0; i1 < s->reduced[1]; i1++) {
            uint32_t at = i0 * s->reduced_strides[0] + i1 * s->reduced_strides[1];
            for (uint32_t i2 = 0; i2 < s->reduced[2]; i2++, at += s->reduced_strides[2]) {
                reducer->take(r, first + (size_t)at * bytes, s->reduced[3], s->reduced_strides[3]);
                r->seen += s->reduced[3];
            }
        }
    }
}

int32_t ml_reduce(const uint32_t *shape, const void *args, void *const *operands, uint32_t in_bytes,
                  const ml_reducer *reducer) {
    const ml_reduce_shape *s = (const ml_reduce_shape *)shape;
    const uint8_t *input = operands[0];
    ml_reduction r = {.args = args};
    uint32_t index = 0;
    for (uint32_t i0 = 0; i0 < s->kept[0]; i0++) {
        for (uint32_t i1 = 0; i1 < s->kept[1]; i1++) {
            for (uint32_t i2 = 0; i2 < s->kept[2]; i2++) {
                uint32_t at = i0 * s->kept_strides[0] + i1 * s->kept_strides[1] + i2 * s->kept_strides[2];
                for (uint32_t i3 = 0; i3 < s->kept[3]; i3++, at += s->kept_strides[3]) {
                    reduce_one(s, input + (size_t)at * in_bytes, in_bytes, &r, reducer);
                    reducer->store(&r, operands[1], index++);
                }
            }
        }
    }
    return 0;
}
