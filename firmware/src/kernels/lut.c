/* Functions of one byte, by table: every unary int8 operator, and every change of scale between 8-bit types. */
#include "ml_kernels.h"

#define TABLE_ENTRIES 256u

ml_status ml_lut_b8_check(const void *args, const ml_operand *operands) {
    const ml_lut_b8_args *a = args;
    bool fits = ml_holds(&operands[0], 1, a->count, 1, 1, 1) && ml_holds(&operands[1], 1, TABLE_ENTRIES, 1, 1, 1) &&
                ml_holds(&operands[2], 1, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* output[i] = table[input[i]], the input's bits read as unsigned. */
int32_t ml_lut_b8(const void *args, void *const *operands) {
    const ml_lut_b8_args *a = args;
    const uint8_t *input = operands[0];
    const uint8_t *table = operands[1];
    uint8_t *output = operands[2];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = table[input[i]];
    }
    return 0;
}

ml_status ml_flip_b8_check(const void *args, const ml_operand *operands) {
    const ml_flip_b8_args *a = args;
    bool fits = ml_holds(&operands[0], 1, a->count, 1, 1, 1) && ml_holds(&operands[1], 1, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* output[i] = input[i] ^ mask: 0x80 takes uint8 to int8 and back, 1 negates a bool. */
int32_t ml_flip_b8(const void *args, void *const *operands) {
    const ml_flip_b8_args *a = args;
    const uint8_t *input = operands[0];
    uint8_t *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = (uint8_t)(input[i] ^ a->mask);
    }
    return 0;
}
