/* CONV_2D, two products a multiply. A word holds two signed numbers, (high << 16) + low, and so does what comes of
 * multiplying it. With weights at their own size words hold the inputs of two pixels; where weights may take twice
 * that, weights of two output channels. Some pixels at a time are spread out to words, taps in pairs: [pairs of
 * taps][2][2 taps].
 *
 * Products are added up in twos before the halves are told apart: the host has seen to it that no low half of a group
 * leaves 16 bits. A sum has a word of everything, modulo 2^32, and a sum of the high halves; what is left of the first
 * without the second is the sum of the low halves. Two such sums, of two words, are computed together. */
#include "rescale.h"
#include "spread.h"

#define GROUP_TAPS 2u

/* Some pixels, spread out, and their outputs. The assembly code knows where its members lie. */
typedef struct block {
    const uint32_t *inputs;
    const void *weights;
    const ml_channel *channels;
    int8_t *to; /* of the first pixel, channel after channel */
    /* How far behind lie the outputs of the others, as those before where there is none; of two pixels, those of the
     * second one and of its next channel. */
    uint32_t next[3];
    const ml_channel *end; /* of the channels */
    uint32_t groups;
    uint32_t back; /* bytes of weights that code is skipped for */
} block;

/* Groups that the first of the rounds of 4 does without. */
static uint32_t spare(uint32_t groups) { return (0u - groups) & 3u; }

#if defined(__thumb__) && !defined(__thumb2__)
/* clang-format off */
/* r0: inputs; r1: weights; r8, r9: sums of words; r6, r7: of their high halves; r10: the end of inputs; r11: code to
 * skip at first, so that a whole number of rounds is left; r12: the block; lr: channels.
 *
 * Adds the products of two words of inputs and of the weights in `w0` and `w1`. The shift leaves in the carry whether
 * the low half is negative. */
#define ADD_TWO(w0, w1, all, high)   \
    "ldmia r0!, {r2, r3}\n"          \
    "muls r2, " w0 ", r2\n"          \
    "muls r3, " w1 ", r3\n"          \
    "adds r2, r2, r3\n"              \
    "add " all ", r2\n"              \
    "asrs r2, r2, #16\n"             \
    "adcs " high ", " high ", r2\n"
#define ADD_GROUP ADD_TWO("r4", "r5", "r8", "r6") ADD_TWO("r4", "r5", "r9", "r7")
#define WIDE_GROUP "ldmia r1!, {r4, r5}\n" ADD_GROUP
#define NARROW_GROUP(at0, at1)   \
    "ldrb r4, [r1, #" at0 "]\n"  \
    "sxtb r4, r4\n"              \
    "ldrb r5, [r1, #" at1 "]\n"  \
    "sxtb r5, r5\n"              \
    ADD_GROUP
#define WIDE_ROUND WIDE_GROUP WIDE_GROUP WIDE_GROUP WIDE_GROUP
#define NARROW_ROUND                                    \
    NARROW_GROUP("0", "1") NARROW_GROUP("2", "3")       \
    NARROW_GROUP("4", "5") NARROW_GROUP("6", "7")       \
    "adds r1, r1, #8\n"
#define WIDE_GROUP_CODE 30u /* bytes */
#define NARROW_GROUP_CODE 36u

/* r3: what all words add up to at first; r6: high halves. Leaves sums of high halves in r6 and r7, of low ones in r8
 * and r9; r2: the block; r1: behind the weights. */
#define ADD_UP(round)                \
    "mov r8, r3\n"                   \
    "mov r9, r3\n"                   \
    "movs r7, r6\n"                  \
    "mov r2, r12\n"                  \
    "ldmia r2!, {r0, r1}\n"          \
    "add pc, r11\n"                  \
    "nop\n"                          \
    "4:\n" round                     \
    "cmp r0, r10\n"                  \
    "bne 4b\n"                       \
    "lsls r3, r6, #16\n"             \
    "negs r3, r3\n"                  \
    "add r8, r3\n"                   \
    "lsls r3, r7, #16\n"             \
    "negs r3, r3\n"                  \
    "add r9, r3\n"                   \
    "mov r2, r12\n"
/* r6 and r7 to outputs, with the scale that lies `at` behind the channel. */
#define RESCALE(at, SIGN)                                                         \
    "mov r1, lr\n"                                                                \
    "adds r1, r1, #" at "\n"                                                      \
    "ldmia r1!, {r0, r2, r3, r4}\n"                                               \
    "asrs r5, r3, #8\n"                                                           \
    ML_CLAMP("r6", "r5", "r4") ML_CLAMP("r7", "r5", "r4")                         \
    "sxth r4, r2\n"                                                               \
    "lsrs r2, r2, #16\n"                                                          \
    ML_SCALE("r6", "r0", "r2", "r4", "r3", "r5", SIGN("r6", "r5", "r1"))          \
    ML_SCALE("r7", "r0", "r2", "r4", "r3", "r5", SIGN("r7", "r5", "r1"))          \
    "mov r0, r12\n"                                                               \
    "ldr r1, [r0, #12]\n"
#define LOW_SUMS "mov r6, r8\nmov r7, r9\n"
/* To the channels that lie `bytes` bytes further, whose outputs begin at r1. */
#define NEXT_CHANNELS(bytes)         \
    "str r1, [r0, #12]\n"            \
    "movs r3, #" bytes "\n"          \
    "add lr, r3\n"                   \
    "ldr r2, [r0, #28]\n"            \
    "cmp lr, r2\n"                   \
    "beq 6f\n"                       \
    "b 1b\n"                         \
    "6:"
#define RUN(code)                                                                                                    \
    register const void *b __asm__("r0") = job;                                                                     \
    register uint32_t skip __asm__("r1") = skipped;                                                                  \
    __asm__ volatile(".syntax unified\n"                                                                             \
                     "mov r12, r0\n"                                                                                 \
                     "mov r11, r1\n"                                                                                 \
                     "ldr r2, [r0, #8]\n"                                                                            \
                     "mov lr, r2\n"                                                                                  \
                     "ldr r2, [r0, #32]\n"                                                                           \
                     "lsls r2, r2, #4\n"                                                                             \
                     "ldr r3, [r0]\n"                                                                                \
                     "adds r2, r2, r3\n"                                                                             \
                     "mov r10, r2\n" code                                                                            \
                     : "+l"(b), "+l"(skip)                                                                           \
                     :                                                                                               \
                     : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

#define WIDE(SIGN)                                                   \
    RUN("1: mov r2, lr\n"                                            \
        "ldr r3, [r2]\n"                                             \
        "ldr r6, [r2, #20]\n"                                        \
        ADD_UP(WIDE_ROUND)                                           \
        "str r1, [r2, #4]\n"                                         \
        RESCALE("24", SIGN)                                          \
        "ldr r2, [r0, #20]\n"                                        \
        "strb r7, [r1, r2]\n"                                        \
        "strb r6, [r1, #1]\n"                                        \
        LOW_SUMS RESCALE("4", SIGN)                                  \
        "ldr r2, [r0, #16]\n"                                        \
        "strb r7, [r1, r2]\n"                                        \
        "strb r6, [r1]\n"                                            \
        "adds r1, r1, #2\n"                                          \
        NEXT_CHANNELS("40"))

#define NARROW(SIGN)                                                 \
    RUN("1: mov r2, lr\n"                                            \
        "ldr r6, [r2]\n"                                             \
        "lsls r3, r6, #16\n"                                         \
        "adds r3, r3, r6\n"                                          \
        ADD_UP(NARROW_ROUND)                                         \
        "ldr r3, [r2, #36]\n"                                        \
        "subs r1, r1, r3\n"                                          \
        "str r1, [r2, #4]\n"                                         \
        RESCALE("4", SIGN)                                           \
        "ldr r2, [r0, #24]\n"                                        \
        "strb r7, [r1, r2]\n"                                        \
        "ldr r2, [r0, #16]\n"                                        \
        "strb r6, [r1, r2]\n"                                        \
        LOW_SUMS RESCALE("4", SIGN)                                  \
        "ldr r2, [r0, #20]\n"                                        \
        "strb r7, [r1, r2]\n"                                        \
        "strb r6, [r1]\n"                                            \
        "adds r1, r1, #1\n"                                          \
        NEXT_CHANNELS("20"))
/* clang-format on */

__attribute__((noinline)) static void run_wide(block *job, bool has_sign) {
    uint32_t skipped = spare(job->groups) * WIDE_GROUP_CODE;
    if (has_sign) {
        WIDE(ML_SIGN);
    } else {
        WIDE(ML_NO_SIGN);
    }
}

__attribute__((noinline)) static void run_narrow(block *job, bool has_sign) {
    uint32_t skipped = spare(job->groups) * NARROW_GROUP_CODE;
    if (has_sign) {
        NARROW(ML_SIGN);
    } else {
        NARROW(ML_NO_SIGN);
    }
}
#else
/* Two pairs of sums: of words, and of high halves. */
typedef struct sums {
    uint32_t all[2], high[2];
} sums;

static void add_group(sums *s, const uint32_t *inputs, uint32_t weight0, uint32_t weight1) {
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t group = inputs[2u * i] * weight0 + inputs[2u * i + 1u] * weight1;
        s->all[i] += group;
        s->high[i] += (uint32_t)((int32_t)group >> 16) + ((group >> 15) & 1u);
    }
}

/* Of the low halves (0) and the high ones (1) of both pairs. */
static int8_t output_of(const sums *s, uint32_t half, uint32_t pair, const ml_scale *scale, bool has_sign) {
    return ml_rescaled(scale, (int32_t)(half ? s->high[pair] : s->all[pair] - (s->high[pair] << 16)), has_sign);
}

static void run_wide(block *b, bool has_sign) {
    const uint32_t *weights = b->weights;
    const ml_channel *c = b->channels;
    for (; c != b->end; c += 2, b->to += 2) {
        uint32_t all = (uint32_t)c[0].start, high = (uint32_t)c[1].start;
        sums s = {{all, all}, {high, high}};
        for (uint32_t i = 0; i < b->groups; i++, weights += 2) {
            add_group(&s, b->inputs + 4u * i, weights[0], weights[1]);
        }
        for (uint32_t half = 0; half < 2; half++) {
            b->to[b->next[0] + half] = output_of(&s, half, 1, &c[half].scale, has_sign);
            b->to[half] = output_of(&s, half, 0, &c[half].scale, has_sign);
        }
    }
    b->weights = weights;
}

static void run_narrow(block *b, bool has_sign) {
    const int8_t *weights = (const int8_t *)b->weights + b->back;
    const ml_channel *c = b->channels;
    for (; c != b->end; c++, b->to++) {
        uint32_t high = (uint32_t)c->start, all = high + (high << 16);
        sums s = {{all, all}, {high, high}};
        for (uint32_t i = 0; i < b->groups; i++, weights += 2) {
            int32_t weight0 = weights[0], weight1 = weights[1];
            add_group(&s, b->inputs + 4u * i, (uint32_t)weight0, (uint32_t)weight1);
        }
        b->to[b->next[2]] = output_of(&s, 1, 1, &c->scale, has_sign);
        b->to[b->next[0]] = output_of(&s, 1, 0, &c->scale, has_sign);
        b->to[b->next[1]] = output_of(&s, 0, 1, &c->scale, has_sign);
        b->to[0] = output_of(&s, 0, 0, &c->scale, has_sign);
    }
}
#endif

/* Pairs of taps; each row of a window has whole ones. */
static uint32_t groups_of(const ml_window *w) {
    return w->kernel_height * ((w->kernel_width * w->input_channels + GROUP_TAPS - 1u) / GROUP_TAPS);
}

#define MOST_RUN 0x10000u /* taps of a row of a window */

/* `pair_bytes`: of two weights. Channels are filled up to a multiple of `together`, which is 1 or 2. */
static ml_status check(const ml_thumb_conv_2d_args *a, const ml_operand *operands, uint32_t together,
                       uint32_t pair_bytes) {
    const ml_window *w = &a->window;
    uint32_t groups = groups_of(w), channels = w->output_channels + (w->output_channels & (together - 1u));
    bool sound = w->stride_width != 0 && ml_product(w->kernel_width, w->input_channels) < MOST_RUN && groups != 0 &&
                 channels >= together && ml_holds(&operands[4], 16, groups, 1, 1, 1) &&
                 ml_holds(&operands[1], 1, channels, groups * pair_bytes, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), channels, 1, 1, 1) &&
                 ml_window_holds(w, &operands[0], 1, &operands[3], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* All channels of a block of `count` pixels: of two where not `halves`, of four. */
ML_INLINE void run_block(block *b, uint32_t channels, bool halves, bool has_sign) {
    if (halves) {
        b->end = b->channels + channels;
        run_narrow(b, has_sign);
        return;
    }
    const ml_channel *all = b->channels;
    b->end = all + (channels & ~1u);
    run_wide(b, has_sign);
    if ((channels & 1u) != 0) { /* the last channel comes with the one before again */
        b->channels = b->end;
        b->end += 2;
        b->to--;
        run_wide(b, has_sign);
        b->channels = all;
    }
}

/* The inputs of the pixels of a block lie 2 words apart; where `halves` two share words. */
ML_INLINE int32_t convolve(const ml_thumb_conv_2d_args *a, void *const *operands, bool halves, bool has_sign) {
    const ml_window *w = &a->window;
    const view v = view_of(w, a->quantized.input_zero_point);
    uint32_t *words = operands[4], channels = w->output_channels, together = halves ? 4 : 2;
    cursor at = {.pixel = {.image = operands[0]}};
    begin_row(&v, &at);
    block b = {.inputs = words, .groups = groups_of(w), .channels = operands[2], .to = operands[3]};
    b.back = halves ? spare(b.groups) * GROUP_TAPS : 0;
    for (uint32_t left = w->batches * w->output_height * w->output_width, count = 0; left != 0; left -= count) {
        int8_t *output = b.to;
        if (left < together || count == 0) { /* the last block, and the first */
            count = ML_MIN(left, together);
            b.next[0] = count > 1 ? channels : 0;
            b.next[1] = !halves ? b.next[0] + 1u : count > 2 ? 2u * channels : 0;
            b.next[2] = count > 3 ? 3u * channels : b.next[0];
        }
        for (uint32_t i = 0; i < count; i += 2) {
            spread_two(&v, &at, count - i, words + i, halves);
        }
        b.weights = (const int8_t *)operands[1] - b.back;
        run_block(&b, channels, halves, has_sign);
        b.to = output + count * channels;
    }
    return 0;
}

ml_status ml_conv_2d_s8_channel_pairs_check(const void *args, const ml_operand *operands) {
    const ml_thumb_conv_2d_args *a = args;
    return a->window.output_channels < 2 ? ML_ERR_ARGUMENT : check(a, operands, 2, 4);
}

int32_t ml_conv_2d_s8_channel_pairs(const void *args, void *const *operands) {
    const ml_thumb_conv_2d_args *a = args;
    return convolve(a, operands, false, a->has_sign != 0);
}

ml_status ml_conv_2d_s8_pixel_pairs_check(const void *args, const ml_operand *operands) {
    return check(args, operands, 1, 2);
}

int32_t ml_conv_2d_s8_pixel_pairs(const void *args, void *const *operands) {
    const ml_thumb_conv_2d_args *a = args;
    return convolve(a, operands, true, a->has_sign != 0);
}
