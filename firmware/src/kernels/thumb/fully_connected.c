/* FULLY_CONNECTED, four outputs at a time, two products a multiply: words hold the weights of two outputs (sums.h).
 * Weights: [outputs / 4][pairs of inputs][2 pairs of outputs][2 inputs]. Where outputs are no multiple of four, the
 * last four are a set of their own. */
#include "sums.h"

#define SET_OUTPUTS 4u

/* One row. The assembly code knows where the members lie. */
typedef struct row {
    const uint32_t *weights;
    const int8_t *inputs;
    const ml_channel *channels;
    int8_t *to;
    uint32_t left; /* outputs that are not computed */
    uint32_t groups;
} row;

#if defined(__thumb__) && !defined(__thumb2__)
/* clang-format off */
/* A sum to its output; lr: the channels of the set. */
#define RESCALE_ONE(sum, channel)                          \
    "mov r1, lr\n"                                         \
    "adds r1, r1, #4 + 20 * " channel "\n"                 \
    "ldmia r1!, {r0, r2, r3, r4}\n"                        \
    "uxtb r5, r3\n"                                        \
    "asrs r3, r3, #8\n"                                    \
    ML_CLAMP(sum, "r3", "r4")                              \
    "sxth r3, r2\n"                                        \
    "lsrs r2, r2, #16\n"                                   \
    ML_SCALE(sum, "r0", "r2", "r3", "r5", "r4", "r1")      \
    "mov r0, r12\n"                                        \
    "ldr r1, [r0, #12]\n"                                  \
    "strb " sum ", [r1, #" channel "]\n"

static void run_row(row *job) {
    uint32_t skipped = ml_spare(job->groups) * BYTES_GROUP_CODE;
    job->inputs -= GROUP_TAPS * ml_spare(job->groups);
    RUN("mov r12, r0\n"
        "mov r11, r1\n"
        "ldr r2, [r0, #8]\n"
        "mov lr, r2\n"
        "1: mov r2, lr\n"
        "ldr r4, [r2]\n"
        "ldr r6, [r2, #20]\n"
        "lsls r3, r6, #16\n"
        "adds r3, r3, r4\n"
        "mov r8, r3\n"
        "ldr r4, [r2, #40]\n"
        "ldr r7, [r2, #60]\n"
        "lsls r3, r7, #16\n"
        "adds r3, r3, r4\n"
        "mov r9, r3\n"
        "mov r2, r12\n"
        "ldr r3, [r2, #20]\n"
        "ldmia r2!, {r0, r1}\n"
        "lsls r3, r3, #4\n"
        "adds r3, r3, r0\n"
        "mov r10, r3\n"
        BYTES_GROUPS
        "mov r2, r12\n"
        "str r0, [r2]\n"
        END_SUMS
        RESCALE_ONE("r6", "1") RESCALE_ONE("r7", "3")
        "mov r6, r8\n"
        "mov r7, r9\n"
        RESCALE_ONE("r6", "0") RESCALE_ONE("r7", "2")
        "movs r3, #80\n"
        "add lr, r3\n"
        "adds r1, r1, #4\n"
        "ldr r2, [r0, #16]\n"
        "subs r2, r2, #4\n"
        "beq 6f\n"
        "cmp r2, #4\n"
        "bhs 5f\n"
        "adds r1, r1, r2\n"
        "subs r1, r1, #4\n"
        "movs r2, #4\n"
        "5: str r1, [r0, #12]\n"
        "str r2, [r0, #16]\n"
        "b 1b\n"
        "6:");
}
/* clang-format on */
#else
static void run_row(row *job) {
    const uint32_t *weights = job->weights;
    const ml_channel *c = job->channels;
    for (int8_t *to = job->to; job->left != 0; c += SET_OUTPUTS, to += SET_OUTPUTS, job->left -= SET_OUTPUTS) {
        if (job->left < SET_OUTPUTS) {
            to -= SET_OUTPUTS - job->left;
            job->left = SET_OUTPUTS;
        }
        sums first = started((uint32_t)c[0].start, (uint32_t)c[1].start);
        sums second = started((uint32_t)c[2].start, (uint32_t)c[3].start);
        sums s = {{first.all[0], second.all[0]}, {first.high[0], second.high[0]}};
        for (uint32_t i = 0; i < job->groups; i++, weights += 2u * GROUP_TAPS) {
            int32_t input0 = job->inputs[2u * i], input1 = job->inputs[2u * i + 1u];
            add_group(&s, weights, (uint32_t)input0, (uint32_t)input1);
        }
        for (uint32_t i = 0; i < SET_OUTPUTS; i++) {
            to[i] = output_of(&s, i % 2u, i / 2u, &c[i]);
        }
    }
}
#endif

ml_status ml_fully_connected_s8_output_pairs_check(const void *args, const ml_operand *operands) {
    const ml_thumb_fully_connected_args *a = args;
    if (a->inputs == 0 || a->inputs % GROUP_TAPS != 0 || a->outputs < SET_OUTPUTS || a->outputs > INT32_MAX) {
        return ML_ERR_ARGUMENT;
    }
    uint32_t sets = (a->outputs + SET_OUTPUTS - 1u) / SET_OUTPUTS;
    bool sound = ml_holds(&operands[0], 1, a->rows, a->inputs, 1, 1) &&
                 ml_holds(&operands[1], 4, sets, SET_OUTPUTS / 2u, a->inputs, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), sets, SET_OUTPUTS, 1, 1) &&
                 ml_holds(&operands[3], 1, a->rows, a->outputs, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_s8_output_pairs(const void *args, void *const *operands) {
    const ml_thumb_fully_connected_args *a = args;
    const int8_t *inputs = operands[0];
    int8_t *output = operands[3];
    for (uint32_t i = 0; i < a->rows; i++, inputs += a->inputs, output += a->outputs) {
        row job = {operands[1], inputs, operands[2], output, a->outputs, a->inputs / GROUP_TAPS};
        run_row(&job);
    }
    return 0;
}
