/* ADD and SUB of int8, the first input through a table; sdk/variants/add_table.py has found what is exact. */
#include "ml_kernels.h"

ml_status ml_add_s8_table_check(const void *args, const ml_operand *operands) {
    const ml_add_s8_table_args *a = args;
    bool sound = ml_holds(&operands[0], 1, a->count, 1, 1, 1) && ml_holds(&operands[1], 1, a->count, 1, 1, 1) &&
                 ml_holds(&operands[2], 4, 256, 1, 1, 1) && ml_holds(&operands[3], 1, a->count, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

typedef struct inputs {
    const uint8_t *a;
    const int8_t *b;
    const int32_t *table;
} inputs;

/* (table[a] + b * factor) >> shift for each a and b, clamped. */
static void add(const ml_add_s8_table_args *args, inputs in, int8_t *output) {
    int32_t factor = args->factor, low = args->low, high = args->high;
    uint32_t count = args->count, shift = args->shift & 31u;
#if defined(__XTENSA__)
    uint32_t x, y;
    /* A loop without cost; what it begins with lies in one word. */
    __asm__ volatile("ssr %[shift]\n j 1f\n .balign 4\n 1: nop.n\n loopnez %[count], 2f\n"
                     "l8ui %[x], %[b], 0\n l8ui %[y], %[a], 0\n sext %[x], %[x], 7\n addx4 %[y], %[y], %[table]\n"
                     "mull %[x], %[x], %[factor]\n l32i %[y], %[y], 0\n addi %[a], %[a], 1\n addi %[b], %[b], 1\n"
                     "add %[x], %[x], %[y]\n sra %[x], %[x]\n max %[x], %[x], %[low]\n min %[x], %[x], %[high]\n"
                     "s8i %[x], %[to], 0\n addi %[to], %[to], 1\n 2:\n"
                     : [a] "+r"(in.a), [b] "+r"(in.b), [to] "+r"(output), [x] "=&r"(x), [y] "=&r"(y)
                     : [table] "r"(in.table), [factor] "r"(factor), [low] "r"(low), [high] "r"(high),
                       [count] "r"(count), [shift] "r"(shift)
                     : "memory");
#else
    for (; count != 0; count--) {
        int32_t sum = in.table[*in.a++] + *in.b++ * factor;
        *output++ = (int8_t)ml_clamp(sum >> shift, low, high);
    }
#endif
}

int32_t ml_add_s8_table(const void *args, void *const *operands) {
    add(args, (inputs){operands[0], operands[1], operands[2]}, operands[3]);
    return 0;
}
