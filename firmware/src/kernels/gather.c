/* gather: output[o][i] = input[o][index i], elements of `run` bytes each. An index has `depth` coordinates, counted in
 * `dims`; `share` consecutive o have the same indices. Layouts: input [outer][dims...][run], indices [outer / share]
 * [count][depth] of int32 or, with 2 index words, int64; output [outer][count][run].
 * scatter_add: output[index i] += updates[i], from zeros; duplicates add up. Layouts as above with outer = 1. */
#include <string.h>

#include "ml_kernels.h"

#define DEPTH 6

/* Number of elements that indices can name; 0 if an argument is out of range. */
static uint32_t places(uint32_t depth, uint32_t index_words, const uint32_t *dims) {
    uint64_t count = depth <= DEPTH && index_words >= 1 && index_words <= 2 ? 1 : 0;
    for (uint32_t d = 0; d < ML_MIN(depth, DEPTH) && count <= UINT32_MAX; d++) {
        count *= dims[d];
    }
    return count <= UINT32_MAX ? (uint32_t)count : 0;
}

/* The place that the coordinates at `index` name; UINT32_MAX if one is outside its dimension. */
static uint32_t place_of(const uint32_t *index, uint32_t depth, uint32_t index_words, const uint32_t *dims) {
    uint32_t place = 0;
    for (uint32_t d = 0; d < depth; d++, index += index_words) {
        /* A negative coordinate is a large one here. */
        if (index[0] >= dims[d] || (index_words == 2 && index[1] != 0)) {
            return UINT32_MAX;
        }
        place = place * dims[d] + index[0];
    }
    return place;
}

ml_status ml_gather_check(const void *args, const ml_operand *operands) {
    const ml_gather_args *a = args;
    uint32_t count = places(a->depth, a->index_words, a->dims);
    if (count == 0 || a->run == 0 || a->share == 0 || a->outer == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], a->run, a->outer, count, 1, 1) &&
                ml_holds(&operands[1], 4 * a->index_words, (a->outer - 1u) / a->share + 1u, a->count, a->depth, 1) &&
                ml_holds(&operands[2], a->run, a->outer, a->count, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_gather(const void *args, void *const *operands) {
    const ml_gather_args *a = args;
    const uint8_t *input = operands[0];
    uint8_t *output = operands[2];
    uint32_t input_step = places(a->depth, a->index_words, a->dims) * a->run;
    for (uint32_t o = 0; o < a->outer; o++, input += input_step) {
        const uint32_t *index = (const uint32_t *)operands[1] + o / a->share * a->count * a->depth * a->index_words;
        for (uint32_t i = 0; i < a->count; i++, output += a->run, index += a->depth * a->index_words) {
            uint32_t place = place_of(index, a->depth, a->index_words, a->dims);
            if (place == UINT32_MAX) {
                return ML_ERR_INDEX;
            }
            memmove(output, input + place * a->run, a->run);
        }
    }
    return 0;
}

static uint32_t element_bytes(uint32_t dtype) {
    switch (dtype) {
    case ML_S8: return 1;
    case ML_S32:
    case ML_F32: return 4;
    case ML_S64: return 8;
    default: return 0;
    }
}

ml_status ml_scatter_add_check(const void *args, const ml_operand *operands) {
    const ml_scatter_add_args *a = args;
    uint32_t bytes = element_bytes(a->dtype);
    uint32_t count = places(a->depth, 1, a->dims);
    if (count == 0 || bytes == 0 || a->run == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool aligned = ((operands[1].ref | operands[2].ref) & (bytes - 1u)) == 0;
    bool fits = ml_holds(&operands[0], 4, a->count, a->depth, 1, 1) &&
                ml_holds(&operands[1], bytes, a->count, a->run, 1, 1) &&
                ml_holds(&operands[2], bytes, count, a->run, 1, 1);
    return aligned && fits ? ML_OK : ML_ERR_OPERAND;
}

static void add(uint32_t dtype, void *to, const void *from, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        switch (dtype) {
        case ML_S8: ((uint8_t *)to)[i] = (uint8_t)(((uint8_t *)to)[i] + ((const uint8_t *)from)[i]); break;
        case ML_S32: ((uint32_t *)to)[i] += ((const uint32_t *)from)[i]; break;
        case ML_S64: ((uint64_t *)to)[i] += ((const uint64_t *)from)[i]; break;
        default: ((float *)to)[i] += ((const float *)from)[i]; break;
        }
    }
}

int32_t ml_scatter_add(const void *args, void *const *operands) {
    const ml_scatter_add_args *a = args;
    const uint32_t *index = operands[0];
    const uint8_t *updates = operands[1];
    uint8_t *output = operands[2];
    uint32_t step = a->run * element_bytes(a->dtype);
    memset(output, 0, places(a->depth, 1, a->dims) * step);
    for (uint32_t i = 0; i < a->count; i++, index += a->depth, updates += step) {
        uint32_t place = place_of(index, a->depth, 1, a->dims);
        if (place == UINT32_MAX) {
            return ML_ERR_INDEX;
        }
        add(a->dtype, output + place * step, updates, a->run);
    }
    return 0;
}
