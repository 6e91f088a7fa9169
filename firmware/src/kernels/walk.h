/* Element by element over arrays that are broadcast to one shape: what all binary and ternary operators share. The host
 * merges dimensions that can be walked as one, so that equal shapes become a single row. */
#ifndef ML_WALK_H
#define ML_WALK_H

#include "kernel.h"

#define ML_WALK_DIMS 6u
#define ML_WALK_SOURCES 3u

/* A walk's shape as it stands in a kernel's arguments: dims[6], outermost first, all at least 1, then for each source
 * strides[6] in elements, 0 along dimensions that it is broadcast over. */
#define ML_WALK_WORDS(sources) (ML_WALK_DIMS * (1u + (sources)))

/* One row: `count` elements of each source, `step` elements apart, and of the output, one after the other. */
typedef struct ml_row {
    const void *in[ML_WALK_SOURCES];
    uint32_t step[ML_WALK_SOURCES];
    void *out;
    uint32_t count;
} ml_row;

/* Whether `sources` operands and the output behind them hold all that a walk of `shape` touches. `bytes` are the sizes
 * of an element of each of these operands. */
ml_status ml_walk_check(const uint32_t *shape, uint32_t sources, const uint8_t *bytes, const ml_operand *operands);

/* Calls `row` for all rows, from the first element on: an output may lie over a source of the same shape whose elements
 * are not smaller. */
void ml_walk(const uint32_t *shape, uint32_t sources, const uint8_t *bytes, const void *args, void *const *operands,
             void (*row)(const void *args, const ml_row *row));

#endif
