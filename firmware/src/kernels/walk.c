#include "walk.h"

ml_status ml_walk_check(const uint32_t *shape, uint32_t sources, const uint8_t *bytes, const ml_operand *operands) {
    uint64_t elements = 1;
    for (uint32_t d = 0; d < ML_WALK_DIMS; d++) {
        elements *= shape[d];
        if (elements == 0 || elements * bytes[sources] > operands[sources].bytes) {
            return ML_ERR_OPERAND;
        }
    }
    /* From here on no size exceeds 2^28, the limit of an operand, so that no sum can overflow. */
    const uint32_t *strides = shape;
    for (uint32_t s = 0; s < sources; s++) {
        strides += ML_WALK_DIMS;
        uint64_t last = 0;
        for (uint32_t d = 0; d < ML_WALK_DIMS; d++) {
            last += (uint64_t)(shape[d] - 1u) * strides[d];
        }
        if (last >= operands[s].bytes || (last + 1u) * bytes[s] > operands[s].bytes) {
            return ML_ERR_OPERAND;
        }
    }
    return ML_OK;
}

void ml_walk(const uint32_t *shape, uint32_t sources, const uint8_t *bytes, const void *args, void *const *operands,
             void (*row)(const void *args, const ml_row *row)) {
    const uint32_t inner = ML_WALK_DIMS - 1u;
    uint32_t index[ML_WALK_DIMS - 1u] = {0};
    uint32_t offset[ML_WALK_SOURCES] = {0};
    ml_row now = {.out = operands[sources], .count = shape[inner]};
    for (uint32_t s = 0; s < sources; s++) {
        now.step[s] = shape[ML_WALK_DIMS * (s + 1u) + inner];
    }
    for (;;) {
        for (uint32_t s = 0; s < sources; s++) {
            now.in[s] = (const uint8_t *)operands[s] + (size_t)offset[s] * bytes[s];
        }
        row(args, &now);
        now.out = (uint8_t *)now.out + (size_t)now.count * bytes[sources];
        /* Counts up like an odometer, the offsets with it. */
        uint32_t d = inner;
        do {
            if (d-- == 0) {
                return;
            }
            index[d] = index[d] + 1u < shape[d] ? index[d] + 1u : 0;
            for (uint32_t s = 0; s < sources; s++) {
                uint32_t stride = shape[ML_WALK_DIMS * (s + 1u) + d];
                offset[s] += index[d] != 0 ? stride : 0u - stride * (shape[d] - 1u);
            }
        } while (index[d] == 0);
    }
}
