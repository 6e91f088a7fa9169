/* FULLY_CONNECTED, int8: a group of outputs of one row at a time. Inputs are widened to 16 bits on the way, or once for
 * all outputs where there is scratch for that: words (0, 2) and (1, 3) of four (SXTB16's order).
 *
 * Weights are a stream, for each group of outputs; sdk/variants/arm_dsp_fully_connected.py makes it.
 * `pair`, four outputs: start values of outputs (0, 1) and (2, 3), then of 0 and of 2; for each four inputs their words
 * (0, 2) and then (1, 3), each for both pairs of outputs; (multiplier, offset, shift) of each output. A halfword holds
 * 256 * w1 + w0: sums of them are 256 * sum1 + sum0, and sums of their lower bytes are sum0.
 * `wide`, five outputs: their start values; for each four inputs the words (0, 2) of all, then (1, 3); (multiplier,
 * offset, shift) that all outputs of the layer have. Sums are doubled as requantization wants them. */
#include "ml_kernels.h"
#include "simd.h"

#define PAIR_OUTPUTS 4u
#define WIDE_OUTPUTS 5u

typedef struct row {
    const void *input, *input_end; /* bytes or, widened, words */
    int8_t *output, *output_end; /* of whole groups */
    const int32_t *weights;
} row;

#ifdef __ARM_FEATURE_DSP
/* clang-format off */
/* r0 input, then output; r2, r3 inputs; lr weights. */
#define BYTES "ldr r3, [r0], #4\n sxtb16 r2, r3\n sxtb16 r3, r3, ror #8\n"
#define WORDS "ldrd r2, r3, [r0], #8\n"

/* r1 end of the input; r4-r7 weights; r8, r9 sums of pairs; r10, r11 sums of their lower outputs. */
#define PAIR_START "ldmia lr!, {r8, r9, r10, r11}\n ldr r1, %[input_end]\n"
#define PAIR_END "cmp r0, r1\n"
#define PAIR_QUAD(inputs)                                                                         \
    "ldmia lr!, {r4, r5, r6, r7}\n" inputs                                                        \
    "smlad r8, r4, r2, r8\n smlad r9, r5, r2, r9\n smlad r8, r6, r3, r8\n smlad r9, r7, r3, r9\n" \
    "sxtb16 r4, r4\n sxtb16 r5, r5\n sxtb16 r6, r6\n sxtb16 r7, r7\n"                             \
    "smlad r10, r4, r2, r10\n smlad r11, r5, r2, r11\n smlad r10, r6, r3, r10\n smlad r11, r7, r3, r11\n"
/* The output of twice the sum x. */
#define OUTPUT(x, multiplier, offset, shift)                                                                   \
    "smmlar r12, " x ", " multiplier ", " offset "\n add r12, r12, " x ", asr #31\n asr r12, r12, " shift "\n" \
    "ssat r12, #8, r12\n strb r12, [r0], #1\n"
#define PAIR(lower, upper) \
    "ldmia lr!, {r2, r3, r4, r5, r6, r7}\n" OUTPUT(lower, "r2", "r3", "r4") OUTPUT(upper, "r5", "r6", "r7")
#define PAIR_OUTPUT                                                                               \
    "sub r8, r8, r10\n sub r9, r9, r11\n asr r8, r8, #7\n asr r9, r9, #7\n"                       \
    "lsl r10, r10, #1\n lsl r11, r11, #1\n" PAIR("r10", "r8") PAIR("r11", "r9")

/* r4-r8 weights; r1, r9-r12 sums. */
#define WIDE_START "ldmia lr!, {r1, r9, r10, r11, r12}\n"
#define WIDE_END "ldr r2, %[input_end]\n cmp r0, r2\n"
#define FIVE(x) \
    "smlad r1, r4, " x ", r1\n smlad r9, r5, " x ", r9\n smlad r10, r6, " x ", r10\n"             \
    "smlad r11, r7, " x ", r11\n smlad r12, r8, " x ", r12\n"
#define WIDE_QUAD(inputs) \
    "ldmia lr!, {r4, r5, r6, r7, r8}\n" inputs FIVE("r2") "ldmia lr!, {r4, r5, r6, r7, r8}\n" FIVE("r3")
#define WIDE_ONE(x) "smmlar r5, " x ", r2, r3\n add r5, r5, " x ", asr #31\n asr r5, r5, r4\n ssat r5, #8, r5\n strb r5, [r0], #1\n"
#define WIDE_OUTPUT \
    "ldmia lr!, {r2, r3, r4}\n" WIDE_ONE("r1") WIDE_ONE("r9") WIDE_ONE("r10") WIDE_ONE("r11") WIDE_ONE("r12")

/* All groups of one row. The loop does four or sixteen times four inputs; it is entered where their number asks for it. */
#define DEFINE_RUN(name, input_bytes, unrolled, start, quads, end, outputs)                           \
    static void name(const row *job) {                                                            \
        row f = *job;                                                                             \
        const void *entry;                                                                        \
        uint32_t bytes = (uint32_t)((uintptr_t)f.input_end - (uintptr_t)f.input);                 \
        register const int32_t *weights __asm__("r0") = f.weights;                                \
        register uint32_t rest __asm__("r1") = ML_FIRST_ROUND(bytes / (4u * (input_bytes)), unrolled);  \
        __asm__ volatile("mov lr, r0\n adr r0, 12f\n ldr r0, [r0, r1, lsl #2]\n str r0, %[entry]\n"                  \
                         "1:" start "ldr r0, %[input]\n ldr pc, %[entry]\n"                       \
                         ".balign 4\n 12:" ML_ENTRIES_##unrolled quads                   \
                         end "bne 2b\n 10: ldr r0, %[output]\n" outputs \
                         "ldr r2, %[output_end]\n str r0, %[output]\n cmp r0, r2\n bne 1b"        \
                         : "+r"(weights), "+r"(rest), [output] "+m"(f.output), [entry] "=m"(entry) \
                         : [input] "m"(f.input), [input_end] "m"(f.input_end), [output_end] "m"(f.output_end) \
                         : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
    }
/* clang-format on */
DEFINE_RUN(pair_of_bytes, 1, 4, PAIR_START, ML_FOUR(PAIR_QUAD(BYTES)), PAIR_END, PAIR_OUTPUT)
DEFINE_RUN(pair_of_words, 2, 4, PAIR_START, ML_FOUR(PAIR_QUAD(WORDS)), PAIR_END, PAIR_OUTPUT)
DEFINE_RUN(wide_of_bytes, 1, 16, WIDE_START, ML_SIXTEEN(WIDE_QUAD(BYTES)), WIDE_END, WIDE_OUTPUT)
DEFINE_RUN(wide_of_words, 2, 16, WIDE_START, ML_SIXTEEN(WIDE_QUAD(WORDS)), WIDE_END, WIDE_OUTPUT)
#else
/* Inputs (0, 2) of the i-th two words, or (1, 3). */
static uint32_t inputs_at(const row *job, uint32_t i, bool widened) {
    if (widened) {
        return ((const uint32_t *)job->input)[i];
    }
    uint32_t four = ml_load_word((const int8_t *)job->input + i / 2u * 4u);
    return i % 2u == 0 ? ml_even_bytes(four) : ml_odd_bytes(four);
}

static uint32_t words_of(const row *job, bool widened) {
    return (uint32_t)((uintptr_t)job->input_end - (uintptr_t)job->input) / (widened ? 4u : 2u);
}

static int8_t output_of(int32_t x, const int32_t *scale) {
    return (int8_t)ml_saturate_s8((ml_smmlar(x, scale[0], scale[1]) + (x >> 31)) >> (scale[2] & 31));
}

static void pair_outputs(const row *job, bool widened) {
    const int32_t *w = job->weights;
    uint32_t words = words_of(job, widened);
    for (int8_t *to = job->output; to != job->output_end; w += 2u * words + 4u * PAIR_OUTPUTS) {
        for (uint32_t o = 0; o < PAIR_OUTPUTS; o++) {
            const int32_t *weights = w + PAIR_OUTPUTS + o / 2u;
            int32_t both = w[o / 2u], lower = w[2u + o / 2u];
            for (uint32_t i = 0; i < words; i++, weights += 2) {
                uint32_t x = inputs_at(job, i, widened);
                both = ml_smlad((uint32_t)*weights, x, both);
                lower = ml_smlad(ml_even_bytes((uint32_t)*weights), x, lower);
            }
            int32_t doubled = o % 2u == 0 ? (int32_t)((uint32_t)lower << 1) : (both - lower) >> 7;
            *to++ = output_of(doubled, w + PAIR_OUTPUTS + 2u * words + 3u * o);
        }
    }
}

static void wide_outputs(const row *job, bool widened) {
    const int32_t *w = job->weights;
    uint32_t words = words_of(job, widened);
    for (int8_t *to = job->output; to != job->output_end; w += (words + 1u) * WIDE_OUTPUTS + 3u) {
        for (uint32_t o = 0; o < WIDE_OUTPUTS; o++) {
            int32_t sum = w[o];
            for (uint32_t i = 0; i < words; i++) {
                sum = ml_smlad((uint32_t)w[(i + 1u) * WIDE_OUTPUTS + o], inputs_at(job, i, widened), sum);
            }
            *to++ = output_of(sum, w + (words + 1u) * WIDE_OUTPUTS);
        }
    }
}

static void pair_of_bytes(const row *job) { pair_outputs(job, false); }
static void pair_of_words(const row *job) { pair_outputs(job, true); }
static void wide_of_bytes(const row *job) { wide_outputs(job, false); }
static void wide_of_words(const row *job) { wide_outputs(job, true); }
#endif

/* How a kernel goes through its outputs: `group` at a time, with so many words of weights. */
typedef struct form {
    uint32_t group, group_words;
    void (*run)(const row *job);
    bool widens; /* operand 3 is scratch for a widened row */
} form;

/* Operands: input, stream of weights, output, scratch. */
static ml_status check(const ml_fully_connected_group_args *a, const ml_operand *operands, form f) {
    bool sound = a->inputs != 0 && (a->inputs & 3u) == 0 && a->inputs < 1u << 24 && a->outputs != 0 &&
                 a->outputs < 1u << 24 && ml_holds(&operands[0], 1, a->rows, a->inputs, 1, 1) &&
                 ml_holds(&operands[1], 4, (a->outputs + f.group - 1u) / f.group, f.group_words, 1, 1) &&
                 ml_holds(&operands[2], 1, a->rows, a->outputs, 1, 1) &&
                 (!f.widens || ml_holds(&operands[3], 2, a->inputs, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void widen(const int8_t *from, uint32_t *to, const uint32_t *end) {
    for (; to != end; from += 4, to += 2) {
        uint32_t four = ml_load_word(from);
        to[0] = ml_even_bytes(four), to[1] = ml_odd_bytes(four);
    }
}

/* All outputs of one row: a group that is not whole goes by way of `last`. */
static void run_row(row *job, uint32_t outputs, form f) {
    int8_t last[WIDE_OUTPUTS];
    uint32_t groups = outputs / f.group, rest = outputs - groups * f.group;
    job->output_end = job->output + groups * f.group;
    if (groups != 0) {
        f.run(job);
    }
    if (rest != 0) {
        row one = {job->input, job->input_end, last, last + f.group, job->weights + groups * f.group_words};
        f.run(&one);
        for (uint32_t o = 0; o < rest; o++) {
            job->output_end[o] = last[o];
        }
    }
}

ML_INLINE int32_t fully_connected(const ml_fully_connected_group_args *a, void *const *operands, form f) {
    const int8_t *input = operands[0];
    int8_t *output = operands[2];
    for (uint32_t i = 0; i < a->rows; i++, input += a->inputs, output += a->outputs) {
        row job = {input, input + a->inputs, output, NULL, operands[1]};
        if (f.widens) {
            job.input = operands[3], job.input_end = (uint32_t *)operands[3] + a->inputs / 2u;
            widen(input, operands[3], job.input_end);
        }
        run_row(&job, a->outputs, f);
        for (uint32_t o = 0; o < a->outputs && (a->low > -128 || a->high < 127); o++) {
            output[o] = (int8_t)ml_clamp(output[o], a->low, a->high);
        }
    }
    return 0;
}

#define DEFINE_KERNEL(name, group, group_words, run, widens)                                     \
    ml_status ml_##name##_check(const void *args, const ml_operand *operands) {                  \
        const ml_fully_connected_group_args *a = args;                                           \
        return check(a, operands, (form){group, group_words(a->inputs), run, widens});           \
    }                                                                                            \
    int32_t ml_##name(const void *args, void *const *operands) {                                 \
        const ml_fully_connected_group_args *a = args;                                           \
        return fully_connected(a, operands, (form){group, group_words(a->inputs), run, widens}); \
    }
#define PAIR_WORDS(inputs) (4u * PAIR_OUTPUTS + (inputs))
#define WIDE_WORDS(inputs) (((inputs) / 2u + 1u) * WIDE_OUTPUTS + 3u)
DEFINE_KERNEL(fully_connected_pair_s8, PAIR_OUTPUTS, PAIR_WORDS, pair_of_bytes, false)
DEFINE_KERNEL(fully_connected_pair_widened_s8, PAIR_OUTPUTS, PAIR_WORDS, pair_of_words, true)
DEFINE_KERNEL(fully_connected_wide_s8, WIDE_OUTPUTS, WIDE_WORDS, wide_of_bytes, false)
DEFINE_KERNEL(fully_connected_wide_widened_s8, WIDE_OUTPUTS, WIDE_WORDS, wide_of_words, true)
