/* ADD and SUB of int8, the first input through a table; sdk/variants/thumb_add.py has found what is exact. */
#include "../dot.h"

ml_status ml_add_s8_table_check(const void *args, const ml_operand *operands) {
    const ml_thumb_add_args *a = args;
    bool sound = ml_holds(&operands[0], 1, a->count, 1, 1, 1) && ml_holds(&operands[1], 1, a->count, 1, 1, 1) &&
                 ml_holds(&operands[2], 4, 256, 1, 1, 1) && ml_holds(&operands[3], 1, a->count, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_add_s8_table(const void *args, void *const *operands) {
    const ml_thumb_add_args *p = args;
    const uint8_t *a = operands[0];
    const int8_t *b = operands[1];
    const int32_t *table = operands[2];
    int8_t *output = operands[3];
    int32_t factor = p->factor, low = p->low, high = p->high;
    for (uint32_t i = 0, count = p->count, shift = p->shift & 31u; i < count; i++) {
        output[i] = (int8_t)ml_clamp((table[a[i]] + b[i] * factor) >> shift, low, high);
    }
    return 0;
}
