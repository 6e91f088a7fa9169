/* FULLY_CONNECTED, int8: four outputs of one row at a time, inputs widened on the way.
 *
 * Weights are a stream, for each four outputs: start values of outputs (0, 1) and (2, 3), then of 0 and of 2; for each
 * four inputs their words (0, 2) and then (1, 3), each for both pairs of outputs; (multiplier, offset, shift) of each
 * output. A halfword holds 256 * w1 + w0: sums of them are 256 * sum1 + sum0, and sums of their lower bytes are sum0.
 * See sdk/variants/arm_dsp_conv.py. */
#include "ml_kernels.h"
#include "simd.h"

typedef struct row {
    const int8_t *input, *input_end;
    int8_t *output, *output_end;
    const int32_t *weights;
} row;

#ifdef __ARM_FEATURE_DSP
/* r0 input, then output; r1 its end; r2, r3 inputs; r4-r7 weights; r8, r9 sums of pairs; r10, r11 sums of their lower
 * outputs; lr weights. */
#define QUAD                                                                                      \
    "ldmia lr!, {r4, r5, r6, r7}\n ldr r3, [r0], #4\n sxtb16 r2, r3\n sxtb16 r3, r3, ror #8\n"    \
    "smlad r8, r4, r2, r8\n smlad r9, r5, r2, r9\n smlad r8, r6, r3, r8\n smlad r9, r7, r3, r9\n" \
    "sxtb16 r4, r4\n sxtb16 r5, r5\n sxtb16 r6, r6\n sxtb16 r7, r7\n"                             \
    "smlad r10, r4, r2, r10\n smlad r11, r5, r2, r11\n smlad r10, r6, r3, r10\n smlad r11, r7, r3, r11\n"
/* The output of twice the sum x. */
#define OUTPUT(x, multiplier, offset, shift)                                                                   \
    "smmlar r12, " x ", " multiplier ", " offset "\n add r12, r12, " x ", asr #31\n asr r12, r12, " shift "\n" \
    "ssat r12, #8, r12\n strb r12, [r0], #1\n cmp r0, r1\n"
#define PAIR(lower, upper) \
    "ldmia lr!, {r2, r3, r4, r5, r6, r7}\n" OUTPUT(lower, "r2", "r3", "r4") "beq 8f\n" OUTPUT(upper, "r5", "r6", "r7")

static void run_row(const row *job) {
    row f = *job;
    const void *entry;
    register const int32_t *weights __asm__("r0") = f.weights;
    register uint32_t rest __asm__("r1") = (uint32_t)(f.input_end - f.input) / 4u & 3u;
    __asm__ volatile("mov lr, r0\n adr r0, 9f\n ldr r0, [r0, r1, lsl #2]\n str r0, %[entry]\n"
                     "1: ldrd r0, r1, %[input]\n ldmia lr!, {r8, r9, r10, r11}\n ldr pc, %[entry]\n"
                     ".balign 4\n 9: .word 2f + 1, 5f + 1, 4f + 1, 3f + 1\n"
                     "2:" QUAD "3:" QUAD "4:" QUAD "5:" QUAD "cmp r0, r1\n bne 2b\n"
                     "sub r8, r8, r10\n sub r9, r9, r11\n asr r8, r8, #7\n asr r9, r9, #7\n"
                     "lsl r10, r10, #1\n lsl r11, r11, #1\n ldrd r0, r1, %[output]\n" PAIR("r10", "r8") "beq 8f\n" PAIR(
                         "r11", "r9") "str r0, %[output]\n bne 1b\n 8:"
                     : "+r"(weights), "+r"(rest), [output] "+m"(f.output), [entry] "=m"(entry)
                     : [input] "m"(f.input), "m"(f.input_end), "m"(f.output_end)
                     : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
#else
static int8_t output_of(int32_t x, const int32_t *scale) {
    return (int8_t)ml_saturate_s8((ml_smmlar(x, scale[0], scale[1]) + (x >> 31)) >> (scale[2] & 31));
}

static void run_row(const row *job) {
    uint32_t words = (uint32_t)(job->input_end - job->input) / 4u * 2u,
             outputs = (uint32_t)(job->output_end - job->output);
    const int32_t *w = job->weights;
    for (uint32_t o = 0; o < outputs; o++, w += o % 4u == 0 ? 4u + 2u * words + 12u : 0) {
        uint32_t pair = o / 2u % 2u;
        int32_t both = w[pair], lower = w[2u + pair];
        for (uint32_t i = 0; i < words; i++) {
            uint32_t four = ml_load_word(job->input + i / 2u * 4u), weight = (uint32_t)w[4u + 2u * i + pair];
            uint32_t x = i % 2u == 0 ? ml_even_bytes(four) : ml_odd_bytes(four);
            both = ml_smlad(weight, x, both);
            lower = ml_smlad(ml_even_bytes(weight), x, lower);
        }
        int32_t doubled = o % 2u == 0 ? (int32_t)((uint32_t)lower << 1) : (both - lower) >> 7;
        job->output[o] = output_of(doubled, w + 4u + 2u * words + 3u * (o % 4u));
    }
}
#endif

/* Operands: input, stream of weights, output. */
ml_status ml_fully_connected_pair_s8_check(const void *args, const ml_operand *operands) {
    const ml_fully_connected_pair_s8_args *a = args;
    bool sound = a->inputs != 0 && (a->inputs & 3u) == 0 && a->inputs < 1u << 24 && a->outputs != 0 &&
                 a->outputs < 1u << 24 && ml_holds(&operands[0], 1, a->rows, a->inputs, 1, 1) &&
                 ml_holds(&operands[1], 4, (a->outputs + 3u) / 4u, 16u + a->inputs, 1, 1) &&
                 ml_holds(&operands[2], 1, a->rows, a->outputs, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_pair_s8(const void *args, void *const *operands) {
    const ml_fully_connected_pair_s8_args *a = args;
    const int8_t *input = operands[0];
    int8_t *output = operands[2];
    for (uint32_t i = 0; i < a->rows; i++, input += a->inputs, output += a->outputs) {
        row job = {input, input + a->inputs, output, output + a->outputs, operands[1]};
        run_row(&job);
        for (uint32_t o = 0; o < a->outputs && (a->low > -128 || a->high < 127); o++) {
            output[o] = (int8_t)ml_clamp(output[o], a->low, a->high);
        }
    }
    return 0;
}
