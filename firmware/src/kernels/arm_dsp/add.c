/* ADD and SUB of int8 arrays of one shape. What an input with the larger scale contributes is a power of 2 times its
 * value; what the other one does stands in a table of all its values. */
#include "ml_kernels.h"
#include "simd.h"

#define TABLE_ENTRIES 256u
#define SHIFT 20 /* of the input with the larger scale: as TensorFlow Lite has it, and doubled like the table */

ml_status ml_add_table_s8_check(const void *args, const ml_operand *operands) {
    const ml_add_table_s8_args *a = args;
    bool sound = ml_holds(&operands[0], 1, a->count, 1, 1, 1) && ml_holds(&operands[1], 1, a->count, 1, 1, 1) &&
                 ml_holds(&operands[2], 4, TABLE_ENTRIES, 1, 1, 1) && ml_holds(&operands[3], 1, a->count, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

typedef struct inputs {
    const int8_t *shifted;
    const uint8_t *looked_up;
    const int32_t *table;
} inputs;

ML_INLINE int8_t one(const ml_add_table_s8_args *a, const inputs *in, uint32_t i, bool has_sign) {
    int32_t sum = in->table[in->looked_up[i]] + (int32_t)((uint32_t)in->shifted[i] << SHIFT);
    int32_t scaled = ml_smmlar(sum, a->multiplier, a->offset) + (has_sign ? sum >> 31 : 0);
    return (int8_t)ml_saturate_s8(scaled >> (a->shift & 31));
}

ML_INLINE void add(const ml_add_table_s8_args *args, inputs in, int8_t *output, bool has_sign) {
    const ml_add_table_s8_args a = *args;
    uint32_t i = 0;
    for (; i + 4u <= a.count; i += 4) {
        output[i] = one(&a, &in, i, has_sign);
        output[i + 1] = one(&a, &in, i + 1u, has_sign);
        output[i + 2] = one(&a, &in, i + 2u, has_sign);
        output[i + 3] = one(&a, &in, i + 3u, has_sign);
    }
    for (; i < a.count; i++) {
        output[i] = one(&a, &in, i, has_sign);
    }
}

int32_t ml_add_table_s8(const void *args, void *const *operands) {
    const ml_add_table_s8_args *a = args;
    inputs in = {operands[0], operands[1], operands[2]};
    if (a->has_sign) {
        add(a, in, operands[3], true);
    } else {
        add(a, in, operands[3], false);
    }
    return 0;
}
