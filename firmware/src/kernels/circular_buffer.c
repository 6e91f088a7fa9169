/* CIRCULAR_BUFFER: window [slots][slot_bytes], oldest first, moves on by the input; every `period`-th time the next
 * step follows, else `target`. */
#include "ml_kernels.h"

ml_status ml_circular_buffer_check(const void *args, const ml_operand *operands) {
    const ml_circular_buffer_args *a = args;
    bool fits = a->slots != 0 && ml_holds(&operands[0], 1, a->slot_bytes, 1, 1, 1) &&
                ml_holds(&operands[1], 1, a->slots, a->slot_bytes, 1, 1) && ml_holds(&operands[2], 4, 1, 1, 1, 1);
    if (!fits) {
        return ML_ERR_OPERAND;
    }
    return a->target < INT32_MAX ? ML_OK : ML_ERR_ARGUMENT;
}

int32_t ml_circular_buffer(const void *args, void *const *operands) {
    const ml_circular_buffer_args *a = args;
    uint8_t *window = operands[1];
    uint32_t *countdown = operands[2];
    const size_t kept = (size_t)(a->slots - 1u) * a->slot_bytes;
    memmove(window, window + a->slot_bytes, kept);
    memmove(window + kept, operands[0], a->slot_bytes);
    if (--*countdown != 0) {
        return (int32_t)a->target + 1;
    }
    *countdown = a->period;
    return 0;
}
