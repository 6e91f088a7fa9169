/* Steps that decide which step comes next, and the copies between branches, rounds and variables. */
#include "ml_kernels.h"

/* The interpreter refuses a target beyond the program's last step when the jump is taken. */
static ml_status check_target(const void *args) {
    const ml_jump_args *a = args;
    return a->target < INT32_MAX ? ML_OK : ML_ERR_ARGUMENT;
}

ml_status ml_jump_check(const void *args, const ml_operand *operands) {
    (void)operands;
    return check_target(args);
}

int32_t ml_jump(const void *args, void *const *operands) {
    const ml_jump_args *a = args;
    (void)operands;
    return (int32_t)a->target + 1;
}

ml_status ml_jump_unless_check(const void *args, const ml_operand *operands) {
    return ml_holds(&operands[0], 1, 1, 1, 1, 1) ? check_target(args) : ML_ERR_OPERAND;
}

int32_t ml_jump_unless(const void *args, void *const *operands) {
    const ml_jump_args *a = args;
    const uint8_t *condition = operands[0];
    return *condition != 0 ? 0 : (int32_t)a->target + 1;
}

ml_status ml_copy_check(const void *args, const ml_operand *operands) {
    const ml_copy_args *a = args;
    bool fits = ml_holds(&operands[0], 1, a->bytes, 1, 1, 1) && ml_holds(&operands[1], 1, a->bytes, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_copy(const void *args, void *const *operands) {
    const ml_copy_args *a = args;
    memmove(operands[1], operands[0], a->bytes); /* the planner may let the two overlap */
    return 0;
}
