/* FULLY_CONNECTED, two outputs at a time, two products a multiply, weights at their own size.
 *
 * A word has the weights of two inputs, a and b, to two outputs, each plus 128: a0 + 2^8 b0 + 2^16 a1 + 2^24 b1. With
 * A = a0 + 2^16 a1 and B = b0 + 2^16 b1 it is A + 2^8 B, and REV16 makes 2^8 A + B of it. So word * x + reversed * y is
 * A * p + B * q, modulo 2^32, for inputs p and q, where x = (p - 2^8 q) * 65537 and y = (q - 2^8 p) * 65537: both are
 * the same for all outputs, and made once.
 *
 * Of some inputs (a group), which lie `distance` apart, such products are added up before the halves are told apart.
 * The start of a group takes the 128s back and adds HALF, so that a shift makes its upper half; the host has seen to it
 * that the lower half of what is left stays in 16 bits, and that sums start with as many HALFs less. A pair of sums is
 * a word of everything, modulo 2^32, and the sum of the upper halves; what is left of the first without the second is
 * the sum of the lower halves.
 *
 * Some inputs (a chunk) are spread out at a time: for each group its start, and x and y of each pair. Weights:
 * [chunks][pairs of outputs][pairs of inputs]. */
#include "rescale.h"

#define HALF 0x8000u
#define ROUND_INPUTS 16u

typedef struct span {
    const int8_t *inputs;
    uint32_t left; /* inputs that are there; behind them are zeros */
} span;

/* A chunk for all outputs. The assembly code knows where the members lie. */
typedef struct job {
    const uint32_t *inputs, *weights, *end; /* the end of inputs */
    const uint32_t *starts, *starts_end;
    const ml_scale *scales;
    int8_t *to;
    uint32_t second; /* how far behind the first output of a pair the second lies: 0 where there is none */
    uint32_t *sums; /* where they go; NULL with the last chunk, which makes outputs of them */
    uint32_t pairs; /* of inputs in a group */
    uint32_t sign; /* what negative sums get more */
} job;

#if defined(__thumb__) && !defined(__thumb2__)
/* clang-format off */
/* r0: inputs; r1: weights; r5: the group; r8: sum of everything; r9: of upper halves; r10: end of inputs. */
#define PAIR(word)                       \
    "rev16 r4, " word "\n"               \
    "muls " word ", r6, " word "\n"      \
    "muls r4, r7, r4\n"                  \
    "adds r5, r5, " word "\n"            \
    "adds r5, r5, r4\n"
#define START "ldmia r0!, {r5, r6, r7}\n"
#define NEXT "ldmia r0!, {r6, r7}\n"
#define TWO_WORDS "ldmia r1!, {r2, r3}\n"
#define SPLIT "add r8, r5\nasrs r5, r5, #16\nadd r9, r5\n"
#define GROUP_OF_1 START "ldmia r1!, {r2}\n" PAIR("r2") SPLIT
#define TWO_PAIRS TWO_WORDS PAIR("r2") NEXT PAIR("r3")
#define GROUP_OF_2 START TWO_PAIRS SPLIT
#define GROUP_OF_4 START TWO_PAIRS NEXT TWO_PAIRS SPLIT
#define TWICE(code) code code
#define ROUNDS(label, group) label ": " group "cmp r0, r10\nbne " label "b\n"

/* A sum to its output; lr: the scale; r11: what negative sums get more. */
#define SIGN(sum, product, spare) "cmp " sum ", #0\nbge 2f\nadd " product ", r11\n2:\n"
#define RESCALE(sum)                    \
    "mov r1, lr\n"                      \
    "ldmia r1!, {r0, r2, r3, r4}\n"     \
    "mov lr, r1\n"                      \
    "asrs r5, r3, #8\n"                 \
    ML_CLAMP(sum, "r5", "r4")           \
    "sxth r4, r2\n"                     \
    "lsrs r2, r2, #16\n"                \
    ML_SCALE(sum, "r0", "r2", "r4", "r3", "r5", SIGN(sum, "r5", ""))

static void run(job *given) {
    register job *j __asm__("r0") = given;
    __asm__ volatile(
        ".syntax unified\n"
        "mov r12, r0\n"
        "ldr r2, [r0, #8]\n"
        "mov r10, r2\n"
        "ldr r2, [r0, #20]\n"
        "mov lr, r2\n"
        "ldr r2, [r0, #40]\n"
        "mov r11, r2\n"
        "1: mov r2, r12\n"
        "ldr r3, [r2, #12]\n"
        "ldmia r3!, {r4, r5}\n"
        "str r3, [r2, #12]\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "ldr r3, [r2, #36]\n"
        "ldmia r2!, {r0, r1}\n"
        "cmp r3, #2\n"
        "beq 5f\n"
        "bhi 6f\n"
        "b 4f\n"
        ROUNDS("6", TWICE(GROUP_OF_4)) "b 7f\n"
        ROUNDS("5", TWICE(GROUP_OF_2)) "b 7f\n"
        ROUNDS("4", TWICE(TWICE(GROUP_OF_1)))
        "7: mov r0, r12\n"
        "str r1, [r0, #4]\n"
        "mov r6, r8\n"
        "mov r7, r9\n"
        "ldr r1, [r0, #32]\n"
        "cmp r1, #0\n"
        "beq 8f\n"
        "stmia r1!, {r6, r7}\n"
        "str r1, [r0, #32]\n"
        "b 9f\n"
        "8: lsls r3, r7, #16\n"
        "subs r6, r6, r3\n"
        RESCALE("r6") RESCALE("r7")
        "mov r0, r12\n"
        "ldr r1, [r0, #24]\n"
        "ldr r2, [r0, #28]\n"
        "strb r7, [r1, r2]\n"
        "strb r6, [r1]\n"
        "adds r1, r1, #2\n"
        "str r1, [r0, #24]\n"
        "9: ldr r1, [r0, #12]\n"
        "ldr r2, [r0, #16]\n"
        "cmp r1, r2\n"
        "beq 9f\n"
        "b 1b\n"
        "9: mov r1, lr\n"
        "str r1, [r0, #20]"
        : "+l"(j)
        :
        : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
/* clang-format on */
#else
static uint32_t reversed(uint32_t word) { return (word >> 8 & 0x00FF00FFu) | (word & 0x00FF00FFu) << 8; }

static void run(job *j) {
    for (; j->starts != j->starts_end; j->starts += 2) {
        uint32_t all = j->starts[0], high = j->starts[1];
        for (const uint32_t *x = j->inputs; x != j->end;) {
            uint32_t group = *x++;
            for (uint32_t i = 0; i < j->pairs; i++, x += 2, j->weights++) {
                group += *j->weights * x[0] + reversed(*j->weights) * x[1];
            }
            all += group;
            high += (uint32_t)((int32_t)group >> 16);
        }
        if (j->sums != NULL) {
            *j->sums++ = all;
            *j->sums++ = high;
            continue;
        }
        j->to[j->second] = ml_rescaled(&j->scales[1], (int32_t)high, j->sign != 0);
        j->to[0] = ml_rescaled(&j->scales[0], (int32_t)(all - (high << 16)), j->sign != 0);
        j->scales += 2;
        j->to += 2;
    }
}
#endif

/* The words of a group, for inputs from number `i` on; returns their end. */
static uint32_t *spread_group(const span *from, uint32_t i, uint32_t apart, uint32_t pairs, uint32_t *to) {
    uint32_t *start = to++, sum = 0;
#if defined(__thumb__) && !defined(__thumb2__)
    __asm__ volatile(
        ".syntax unified\n"
        "1: movs r3, #0\n"
        "movs r4, #0\n"
        "cmp %[i], %[left]\n"
        "bhs 2f\n"
        "ldrsb r3, [%[inputs], %[i]]\n"
        "2: add %[i], %[apart]\n"
        "cmp %[i], %[left]\n"
        "bhs 3f\n"
        "ldrsb r4, [%[inputs], %[i]]\n"
        "3: add %[i], %[apart]\n"
        "adds %[sum], %[sum], r3\n"
        "adds %[sum], %[sum], r4\n"
        "lsls r5, r4, #8\n"
        "subs r5, r3, r5\n"
        "lsls r3, r3, #8\n"
        "subs r4, r4, r3\n"
        "lsls r3, r5, #16\n"
        "adds r3, r3, r5\n"
        "lsls r5, r4, #16\n"
        "adds r4, r4, r5\n"
        "stmia %[to]!, {r3, r4}\n"
        "cmp %[i], %[end]\n"
        "bne 1b"
        : [to] "+l"(to), [i] "+l"(i), [sum] "+l"(sum)
        : [inputs] "l"(from->inputs), [left] "h"(from->left), [apart] "h"(apart), [end] "h"(i + 2u * pairs * apart)
        : "r3", "r4", "r5", "cc", "memory");
#else
    for (; pairs != 0; pairs--, to += 2) {
        int32_t p = i < from->left ? from->inputs[i] : 0;
        i += apart;
        int32_t q = i < from->left ? from->inputs[i] : 0;
        i += apart;
        uint32_t first = (uint32_t)p - ((uint32_t)q << 8), second = (uint32_t)q - ((uint32_t)p << 8);
        sum += (uint32_t)(p + q);
        to[0] = first + (first << 16);
        to[1] = second + (second << 16);
    }
#endif
    *start = HALF - (sum << 7) - (sum << 23);
    return to;
}

/* Spreads the next `count` inputs out; returns the end of what it wrote. */
static uint32_t *spread(const ml_thumb_fully_connected_args *a, span *from, uint32_t count, uint32_t *to) {
    uint32_t apart = a->distance, block = 2u * a->pairs * apart;
    for (; count != 0; count -= block) {
        for (uint32_t i = 0; i < apart; i++) {
            to = spread_group(from, i, apart, a->pairs, to);
        }
        uint32_t done = ML_MIN(block, from->left);
        from->inputs += done;
        from->left -= done;
    }
    return to;
}

/* Pairs of outputs, and one that may be left over. */
static void run_outputs(job *j, uint32_t outputs) {
    const uint32_t *whole = j->starts + (outputs & ~1u);
    for (j->second = 1; j->second != UINT32_MAX; j->second--) {
        j->starts_end = j->second != 0 ? whole : whole + 2u * (outputs & 1u);
        if (j->starts != j->starts_end) {
            run(j);
        }
    }
}

/* What inputs are filled up to multiples of with zeros: whole rounds, and whole groups. */
static uint32_t unit_of(const ml_thumb_fully_connected_args *a) {
    return ML_MAX(ROUND_INPUTS, 2u * a->pairs * a->distance);
}

static uint32_t rounded(uint32_t inputs, uint32_t unit) { return (inputs + unit - 1u) & ~(unit - 1u); }

/* Of spread inputs. */
static uint32_t chunk_words(const ml_thumb_fully_connected_args *a) {
    return a->chunk + (a->chunk / 2u >> a->pairs / 2u);
}

static bool is_power(uint32_t value, uint32_t most) {
    return value != 0 && value <= most && (value & (value - 1u)) == 0;
}

/* Operands: input, weights, starts, scales, output, scratch for spread inputs and, where there are several chunks,
 * sums. */
ml_status ml_fully_connected_s8_bytes_check(const void *args, const ml_operand *operands) {
    const ml_thumb_fully_connected_args *a = args;
    if (a->inputs == 0 || a->inputs > 1u << 28 || a->outputs == 0 || a->outputs > 1u << 28 || !is_power(a->pairs, 4) ||
        !is_power(a->distance, 16) || a->chunk == 0 || a->chunk > 1u << 20 || a->chunk % unit_of(a) != 0) {
        return ML_ERR_ARGUMENT;
    }
    uint32_t pairs = (a->outputs + 1u) / 2u, sums = a->inputs > a->chunk ? 2u * pairs : 0;
    bool sound = ml_holds(&operands[0], 1, a->rows, a->inputs, 1, 1) &&
                 ml_holds(&operands[1], 2, rounded(a->inputs, unit_of(a)), pairs, 1, 1) &&
                 ml_holds(&operands[2], 8, pairs, 1, 1, 1) &&
                 ml_holds(&operands[3], 2u * sizeof(ml_scale), pairs, 1, 1, 1) &&
                 ml_holds(&operands[4], 1, a->rows, a->outputs, 1, 1) &&
                 ml_holds(&operands[5], 4, chunk_words(a) + sums, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_fully_connected_s8_bytes(const void *args, void *const *operands) {
    const ml_thumb_fully_connected_args *a = args;
    uint32_t *words = operands[5], *sums = words + chunk_words(a);
    span from = {operands[0], 0};
    int8_t *output = operands[4];
    for (uint32_t row = 0; row < a->rows; row++, output += a->outputs) {
        job j = {.inputs = words, .weights = operands[1], .pairs = a->pairs, .sign = a->has_sign ? 0u - HALF / 4u : 0};
        j.starts = operands[2];
        for (from.left = a->inputs; from.left != 0; j.starts = sums) {
            j.end = spread(a, &from, ML_MIN(rounded(from.left, unit_of(a)), a->chunk), words);
            j.sums = from.left != 0 ? sums : NULL;
            j.scales = operands[3];
            j.to = output;
            run_outputs(&j, a->outputs);
        }
    }
    return 0;
}
