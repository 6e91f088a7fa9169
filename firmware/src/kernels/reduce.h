/* Reductions: one result for each index along the kept dimensions, over all indices along the reduced ones. The host
 * merges neighbouring dimensions of the same kind, so that at most four of each remain. */
#ifndef ML_REDUCE_H
#define ML_REDUCE_H

#include "kernel.h"

#define ML_REDUCE_DIMS 4u
#define ML_REDUCE_WORDS (4u * ML_REDUCE_DIMS)

/* A reduction's shape as it stands in a kernel's arguments: kept[4], their strides[4] in elements of the input,
 * reduced[4], their strides[4]; all outermost first, all dimensions at least 1. */
typedef struct ml_reduce_shape {
    uint32_t kept[ML_REDUCE_DIMS];
    uint32_t kept_strides[ML_REDUCE_DIMS];
    uint32_t reduced[ML_REDUCE_DIMS];
    uint32_t reduced_strides[ML_REDUCE_DIMS];
} ml_reduce_shape;

/* Whether the first operand holds all that is reduced and the second the results. */
ml_status ml_reduce_check(const uint32_t *shape, const ml_operand *operands, uint32_t in_bytes, uint32_t out_bytes);

/* Computes one result, `index`, from the elements that `first` and `shape` tell. */
typedef void (*ml_reduce_one)(const void *args, const ml_reduce_shape *shape, const void *first, void *output,
                              uint32_t index);

void ml_reduce(const uint32_t *shape, const void *args, void *const *operands, uint32_t in_bytes, ml_reduce_one one);

/* Runs the statement that follows for `at` = each index reduced, in the order they lie in memory. */
#define ML_EACH_REDUCED(shape, at)                                                                                  \
    for (uint32_t i0_ = 0; i0_ < (shape)->reduced[0]; i0_++)                                                        \
        for (uint32_t i1_ = 0; i1_ < (shape)->reduced[1]; i1_++)                                                    \
            for (uint32_t i2_ = 0; i2_ < (shape)->reduced[2]; i2_++)                                                \
                for (uint32_t i3_ = 0, at = i0_ * (shape)->reduced_strides[0] + i1_ * (shape)->reduced_strides[1] + \
                                            i2_ * (shape)->reduced_strides[2];                                      \
                     i3_ < (shape)->reduced[3]; i3_++, at += (shape)->reduced_strides[3])

#endif
