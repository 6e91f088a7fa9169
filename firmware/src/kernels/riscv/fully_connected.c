/* FULLY_CONNECTED of one row, int8. */
#include "single.h"

/* Operands: input, weights as of `ml_single`, channels, output. */
ml_status ml_fully_connected_four_s8_check(const void *args, const ml_operand *operands) {
    const ml_fully_connected_four_args *a = args;
    bool sound = ml_holds(&operands[0], 1, a->inputs, 1, 1, 1) &&
                 ml_holds(&operands[1], ML_GROUP, a->inputs / ML_GROUP + a->inputs % ML_GROUP, a->outputs, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), a->outputs, 1, 1, 1) &&
                 ml_holds(&operands[3], 1, a->outputs, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_four_s8(const void *args, void *const *operands) {
    const ml_fully_connected_four_args *a = args;
    const ml_single single = {.inputs = operands[0],
                              .weights = operands[1],
                              .channels = operands[2],
                              .output = operands[3],
                              .input_count = a->inputs,
                              .output_count = a->outputs,
                              .has_sign = a->has_sign != 0,
                              .low = a->low,
                              .high = a->high};
    ml_run_single(&single);
    return 0;
}
