/* reverse_sequence: the first lengths[batch] elements of each sequence backwards, the others as they are. Layout of
 * input and output: [outer][first][middle][second][run bytes], where first and second are batch and time, or with
 * `time_first` time and batch; lengths [batches] of int32 or, with 2 index words, int64. */
#include <string.h>

#include "ml_kernels.h"

ml_status ml_reverse_sequence_check(const void *args, const ml_operand *operands) {
    const ml_reverse_sequence_args *a = args;
    uint64_t run = (uint64_t)a->run * a->second;
    if (run == 0 || run > UINT32_MAX || a->middle == 0 || a->first == 0 || a->index_words < 1 || a->index_words > 2) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], (uint32_t)run, a->outer, a->first, a->middle, 1) &&
                ml_holds(&operands[1], 4 * a->index_words, a->time_first ? a->second : a->first, 1, 1, 1) &&
                ml_holds(&operands[2], (uint32_t)run, a->outer, a->first, a->middle, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_reverse_sequence(const void *args, void *const *operands) {
    const ml_reverse_sequence_args *a = args;
    const uint8_t *input = operands[0];
    const uint32_t *lengths = operands[1];
    uint8_t *output = operands[2];
    uint32_t times = a->time_first ? a->first : a->second;
    uint32_t count = a->outer * a->first * a->middle * a->second;
    for (uint32_t place = 0; place < count; place++, output += a->run) {
        uint32_t second = place % a->second;
        uint32_t first = place / (a->second * a->middle) % a->first;
        uint32_t time = a->time_first ? first : second;
        uint32_t length = lengths[(a->time_first ? second : first) * a->index_words];
        uint32_t step = a->time_first ? a->second * a->middle : 1;
        if (length > times) {
            return ML_ERR_INDEX;
        }
        uint32_t from = time < length ? place + (length - 1u - 2u * time) * step : place;
        memmove(output, input + from * a->run, a->run);
    }
    return 0;
}
