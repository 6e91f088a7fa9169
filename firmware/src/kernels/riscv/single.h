/* One row of inputs, a product a multiplication: four outputs at a time share the loads of inputs. */
#ifndef ML_RISCV_SINGLE_H
#define ML_RISCV_SINGLE_H

#include "rescale.h"

#define ML_OUTPUTS 4u /* at a time */
#define ML_GROUP 2u /* inputs whose weights lie side by side */

typedef struct ml_single {
    const int8_t *inputs, *weights; /* [groups][ML_OUTPUTS][ML_GROUP] for each four outputs, [groups][ML_GROUP] for each
                                     * one that is left over; groups are filled up with zeros */
    const ml_channel *channels;
    int8_t *output;
    uint32_t input_count, output_count;
    bool has_sign;
    int32_t low, high; /* of outputs */
} ml_single;

void ml_run_single(const ml_single *s);

#endif
