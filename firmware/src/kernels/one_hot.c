/* one_hot: output[p][d][s] = *on if indices[p][s] is d, else *off; elements of `run` bytes. An index that is no d,
 * negative or large, gives `off` alone. Layouts: indices [prefix][suffix], int32 or with 2 index words int64; output
 * [prefix][depth][suffix]. */
#include <string.h>

#include "ml_kernels.h"

ml_status ml_one_hot_check(const void *args, const ml_operand *operands) {
    const ml_one_hot_args *a = args;
    if (a->run == 0 || a->suffix == 0 || a->depth == 0 || a->index_words < 1 || a->index_words > 2) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4 * a->index_words, a->prefix, a->suffix, 1, 1) &&
                ml_holds(&operands[1], a->run, 1, 1, 1, 1) && ml_holds(&operands[2], a->run, 1, 1, 1, 1) &&
                ml_holds(&operands[3], a->run, a->prefix, a->depth, a->suffix, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_one_hot(const void *args, void *const *operands) {
    const ml_one_hot_args *a = args;
    const uint32_t *indices = operands[0];
    uint8_t *output = operands[3];
    for (uint32_t p = 0; p < a->prefix; p++, indices += a->suffix * a->index_words) {
        for (uint32_t d = 0; d < a->depth; d++) {
            for (uint32_t s = 0; s < a->suffix; s++, output += a->run) {
                const uint32_t *index = indices + s * a->index_words;
                bool hot = index[0] == d && (a->index_words == 1 || index[1] == 0);
                memmove(output, hot ? operands[1] : operands[2], a->run);
            }
        }
    }
    return 0;
}
