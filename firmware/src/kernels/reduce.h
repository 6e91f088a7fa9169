/* Reductions: one result for each index along the kept dimensions, over all indices along the reduced ones. The host
 * merges neighbouring dimensions of the same kind, so that at most four of each remain. */
#ifndef ML_REDUCE_H
#define ML_REDUCE_H

#include "kernel.h"

#define ML_REDUCE_DIMS 4u

/* A reduction's shape as it stands in a kernel's arguments; all outermost first, all dimensions at least 1. */
typedef struct ml_reduce_shape {
    uint32_t kept[ML_REDUCE_DIMS];
    uint32_t kept_strides[ML_REDUCE_DIMS]; /* in elements of the input */
    uint32_t reduced[ML_REDUCE_DIMS];
    uint32_t reduced_strides[ML_REDUCE_DIMS];
} ml_reduce_shape;

/* One result under way. */
typedef struct ml_reduction {
    const void *args;
    uint32_t seen; /* elements so far; at 0 the other fields hold nothing yet */
    uint32_t best; /* which of them */
    int32_t whole;
    float real;
} ml_reduction;

typedef struct ml_reducer {
    /* Takes in `count` elements, `step` elements apart. They come in the order they lie in memory. */
    void (*take)(ml_reduction *r, const void *data, uint32_t count, uint32_t step);
    /* Stores the result as element `index` of the output. */
    void (*store)(const ml_reduction *r, void *output, uint32_t index);
} ml_reducer;

/* Whether the first operand holds all that is reduced and the second the results. */
ml_status ml_reduce_check(const uint32_t *shape, const ml_operand *operands, uint32_t in_bytes, uint32_t out_bytes);

int32_t ml_reduce(const uint32_t *shape, const void *args, void *const *operands, uint32_t in_bytes,
                  const ml_reducer *reducer);

#endif
