/* CONV_2D 1x1 of stride 1, int8, of eight inputs: two pixels at a time, whose inputs stay in registers.
 *
 * Weights are a stream, for each output: its start value; the words (0, 2) and (1, 3) of both fours of inputs;
 * multiplier and offset. sdk/variants/arm_dsp_conv.py makes it. */
#include "ml_kernels.h"
#include "simd.h"

#define INPUTS 8u
#define OUTPUTS 4u /* come in multiples of them */
#define WORDS 7u /* of the stream */

typedef struct job {
    const int8_t *input, *input_end;
    int8_t *output;
    uint32_t outputs, second; /* of a pixel; where those of the second one lie */
    const int32_t *weights;
} job;

#ifdef __ARM_FEATURE_DSP
/* clang-format off */
/* r0-r3, r4-r7 inputs of both pixels; r8 weights, r9 outputs; r10, r11 sums; r12, lr words of weights. */
#define WIDEN(even, odd) "sxtb16 " even ", " odd "\n sxtb16 " odd ", " odd ", ror #8\n"
#define ONE                                                                                           \
    "ldmia r8!, {r10, r12, lr}\n smlad r11, r12, r4, r10\n smlad r10, r12, r0, r10\n"                 \
    "smlad r11, lr, r5, r11\n smlad r10, lr, r1, r10\n ldrd r12, lr, [r8], #8\n"                      \
    "smlad r11, r12, r6, r11\n smlad r10, r12, r2, r10\n smlad r11, lr, r7, r11\n"                    \
    "smlad r10, lr, r3, r10\n ldrd r12, lr, [r8], #8\n smmla r11, r11, r12, lr\n"                    \
    "smmla r10, r10, r12, lr\n ssat r11, #8, r11, asr #" ML_TEXT(COMMON_SHIFT) "\n"                  \
    "ssat r10, #8, r10, asr #" ML_TEXT(COMMON_SHIFT) "\n strb r10, [r9], #1\n ldr r12, %[second]\n strb r11, [r9, r12]\n"

static void run(const job *j) {
    job f = *j;
    const int8_t *end = f.output;
    f.second--; /* from behind the first pixel's */
    __asm__ volatile(
        "1: ldr r8, %[input]\n ldr r1, [r8], #4\n ldr r3, [r8], #4\n ldr r5, [r8], #4\n ldr r7, [r8], #4\n"
        "str r8, %[input]\n ldr r9, %[end]\n ldr r12, %[outputs]\n add r10, r9, r12\n str r10, %[end]\n"
        "ldr r8, %[weights]\n" WIDEN("r0", "r1") WIDEN("r2", "r3") WIDEN("r4", "r5") WIDEN("r6", "r7")
        "2:" ONE ONE ONE ONE "ldr r10, %[end]\n cmp r9, r10\n bne 2b\n"
        "add r10, r10, r12\n add r10, r10, #1\n str r10, %[end]\n ldrd r8, r9, %[input]\n cmp r8, r9\n bne 1b"
        : [input] "+m"(f.input), [end] "+m"(end)
        : "m"(f.input_end), [outputs] "m"(f.outputs), [second] "m"(f.second), [weights] "m"(f.weights)
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
/* clang-format on */
#else
static int8_t output_of(const int8_t *input, const int32_t *w) {
    int32_t sum = w[0];
    for (uint32_t i = 0; i < INPUTS / 4u; i++) {
        uint32_t four = ml_load_word(input + 4u * i);
        sum = ml_smlad((uint32_t)w[1u + 2u * i], ml_even_bytes(four), sum);
        sum = ml_smlad((uint32_t)w[2u + 2u * i], ml_odd_bytes(four), sum);
    }
    return (int8_t)ml_saturate_s8(ml_smmla(sum, w[5], w[6]) >> COMMON_SHIFT);
}

/* As the other, which has read both pixels when it writes. */
static void run(const job *j) {
    int8_t pair[2u * INPUTS], *to = j->output;
    for (const int8_t *from = j->input; from != j->input_end; from += sizeof pair, to += j->outputs + j->second) {
        memcpy(pair, from, sizeof pair);
        for (uint32_t o = 0; o < j->outputs; o++) {
            to[o] = output_of(pair, j->weights + o * WORDS);
            to[o + j->second] = output_of(pair + INPUTS, j->weights + o * WORDS);
        }
    }
}
#endif

/* Operands: input, stream of weights, output. */
ml_status ml_conv_eight_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_eight_s8_args *a = args;
    bool sound = a->outputs != 0 && (a->outputs & (OUTPUTS - 1u)) == 0 &&
                 ml_holds(&operands[0], INPUTS, a->pixels, 1, 1, 1) &&
                 ml_holds(&operands[1], 4u * WORDS, a->outputs, 1, 1, 1) &&
                 ml_holds(&operands[2], 1, a->pixels, a->outputs, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_conv_eight_s8(const void *args, void *const *operands) {
    const ml_conv_eight_s8_args *a = args;
    uint32_t even = a->pixels & ~1u;
    job j = {operands[0], NULL, operands[2], a->outputs, a->outputs, operands[1]};
    j.input_end = j.input + even * INPUTS;
    if (even != 0) {
        run(&j);
    }
    if (even != a->pixels) { /* the last pixel, twice */
        int8_t pair[2u * INPUTS];
        memcpy(pair, j.input_end, INPUTS);
        memcpy(pair + INPUTS, j.input_end, INPUTS);
        job last = {pair, pair + sizeof pair, j.output + even * a->outputs, a->outputs, 0, operands[1]};
        run(&last);
    }
    return 0;
}
