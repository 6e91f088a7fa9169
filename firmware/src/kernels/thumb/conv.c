/* CONV_2D, two products a multiply: sums.h. With weights at their own size words hold the inputs of two pixels; where
 * weights may take twice that, weights of two output channels. Some pixels at a time are spread out to words, taps in
 * pairs: [pairs of taps][2][2 taps]. */
#include "../window.h"
#include "sums.h"

/* Some pixels, spread out, and their outputs. The assembly code knows where its members lie. */
typedef struct block {
    const uint32_t *inputs;
    const void *weights;
    const ml_channel *channels;
    int8_t *to; /* of the first pixel, channel after channel */
    uint32_t next[3]; /* how far behind lie the outputs of the others; as those before where there is none */
    uint32_t left; /* channels that are not computed */
    uint32_t groups;
    uint32_t back; /* bytes of weights that code is skipped for */
} block;

#if defined(__thumb__) && !defined(__thumb2__)
/* clang-format off */
#define WIDE_GROUP "ldmia r1!, {r4, r5}\n" ADD_GROUP("r4", "r5")
/* r8, r9: sums of words; r6, r7: of high halves; r10: end of inputs; r11: code to skip at first, so that a whole number
 * of rounds is left; r12: the block; lr: channels. */
#define START_SUMS                   \
    "lsls r3, r6, #16\n"             \
    "adds r3, r3, r4\n"              \
    "mov r8, r3\n"                   \
    "mov r9, r3\n"                   \
    "movs r7, r6\n"                  \
    "mov r2, r12\n"                  \
    "ldmia r2!, {r0, r1}\n"
/* r6 and r7 to outputs; r1: the channel. */
#define RESCALE                                                                   \
    "ldmia r1!, {r0, r2, r3, r4}\n"                                               \
    "uxtb r5, r3\n"                                                               \
    "asrs r3, r3, #8\n"                                                           \
    ML_CLAMP("r6", "r3", "r4") ML_CLAMP("r7", "r3", "r4")                         \
    "sxth r3, r2\n"                                                               \
    "lsrs r2, r2, #16\n"                                                          \
    ML_SCALE("r6", "r0", "r2", "r3", "r5", "r4", "r1")                            \
    ML_SCALE("r7", "r0", "r2", "r3", "r5", "r4", "r1")
#define CHANNEL(at) "mov r1, lr\nadds r1, r1, #" at "\n"
#define LOW_SUMS "mov r6, r8\nmov r7, r9\n"
#define PREPARE                      \
    "mov r12, r0\n"                  \
    "mov r11, r1\n"                  \
    "ldr r2, [r0, #8]\n"             \
    "mov lr, r2\n"                   \
    "ldr r2, [r0, #32]\n"            \
    "lsls r2, r2, #4\n"              \
    "ldr r3, [r0]\n"                 \
    "adds r2, r2, r3\n"              \
    "mov r10, r2\n"

static void run_wide(block *job) {
    uint32_t skipped = ml_spare(job->groups) * 30u;
    RUN(PREPARE
        "1: mov r2, lr\n"
        "ldr r4, [r2]\n"
        "ldr r6, [r2, #20]\n"
        START_SUMS
        "add pc, r11\n"
        "nop\n"
        "4:\n" WIDE_GROUP WIDE_GROUP WIDE_GROUP WIDE_GROUP
        "cmp r0, r10\n"
        "bne 4b\n"
        "mov r2, r12\n"
        END_SUMS
        "str r1, [r2, #4]\n"
        CHANNEL("24") RESCALE
        "mov r0, r12\n"
        "ldr r1, [r0, #12]\n"
        "ldr r2, [r0, #16]\n"
        "adds r1, r1, #1\n"
        "strb r7, [r1, r2]\n"
        "strb r6, [r1]\n"
        LOW_SUMS CHANNEL("4") RESCALE
        "mov r0, r12\n"
        "ldr r1, [r0, #12]\n"
        "ldr r2, [r0, #16]\n"
        "strb r7, [r1, r2]\n"
        "strb r6, [r1]\n"
        "ldr r2, [r0, #28]\n"
        "subs r2, r2, #2\n"
        "beq 6f\n"
        "movs r3, #40\n"
        "add lr, r3\n"
        "adds r1, r1, #2\n"
        "cmp r2, #1\n" /* the last channel of an odd number comes with the one before again */
        "bne 5f\n"
        "movs r2, #2\n"
        "subs r1, r1, #1\n"
        "5: str r1, [r0, #12]\n"
        "str r2, [r0, #28]\n"
        "b 1b\n"
        "6:");
}

static void run_narrow(block *job) {
    uint32_t skipped = ml_spare(job->groups) * BYTES_GROUP_CODE;
    RUN(PREPARE
        "1: mov r2, lr\n"
        "ldr r4, [r2]\n"
        "movs r6, r4\n"
        START_SUMS
                BYTES_GROUPS
        "mov r2, r12\n"
        END_SUMS
        "ldr r3, [r2, #36]\n"
        "subs r1, r1, r3\n"
        "str r1, [r2, #4]\n"
        CHANNEL("4") RESCALE
        "mov r0, r12\n"
        "ldr r1, [r0, #12]\n"
        "ldr r2, [r0, #24]\n"
        "strb r7, [r1, r2]\n"
        "ldr r2, [r0, #16]\n"
        "strb r6, [r1, r2]\n"
        LOW_SUMS CHANNEL("4") RESCALE
        "mov r0, r12\n"
        "ldr r1, [r0, #12]\n"
        "ldr r2, [r0, #20]\n"
        "strb r7, [r1, r2]\n"
        "strb r6, [r1]\n"
        "movs r3, #20\n"
        "add lr, r3\n"
        "adds r1, r1, #1\n"
        "str r1, [r0, #12]\n"
        "ldr r2, [r0, #28]\n"
        "subs r2, r2, #1\n"
        "str r2, [r0, #28]\n"
        "beq 6f\n"
        "b 1b\n"
        "6:");
}
/* clang-format on */
#else
static void run_wide(block *b) {
    const uint32_t *weights = b->weights;
    const ml_channel *c = b->channels;
    for (int8_t *to = b->to; b->left != 0; b->left -= 2, c += 2, to += 2) {
        if (b->left == 1) { /* the last channel of an odd number comes with the one before again */
            to--;
            b->left++;
        }
        sums s = started((uint32_t)c[0].start, (uint32_t)c[1].start);
        for (uint32_t i = 0; i < b->groups; i++, weights += 2) {
            add_group(&s, b->inputs + 4u * i, weights[0], weights[1]);
        }
        for (uint32_t half = 0; half < 2; half++) {
            to[b->next[0] + half] = output_of(&s, half, 1, &c[half]);
            to[half] = output_of(&s, half, 0, &c[half]);
        }
    }
}

static void run_narrow(block *b) {
    const int8_t *weights = b->weights;
    const ml_channel *c = b->channels;
    weights += b->back;
    for (int8_t *to = b->to; b->left != 0; b->left--, c++, to++) {
        sums s = started((uint32_t)c->start, (uint32_t)c->start);
        for (uint32_t i = 0; i < b->groups; i++, weights += 2) {
            int32_t weight0 = weights[0], weight1 = weights[1];
            add_group(&s, b->inputs + 4u * i, (uint32_t)weight0, (uint32_t)weight1);
        }
        to[b->next[2]] = output_of(&s, 1, 1, c);
        to[b->next[0]] = output_of(&s, 1, 0, c);
        to[b->next[1]] = output_of(&s, 0, 1, c);
        to[0] = output_of(&s, 0, 0, c);
    }
}
#endif

/* Pairs of taps of one row of a window; where its taps are odd, the last one meets a weight of 0. */
static uint32_t row_groups(const ml_window *w) {
    return (w->kernel_width * w->input_channels + GROUP_TAPS - 1u) / GROUP_TAPS;
}

static uint32_t groups_of(const ml_window *w) { return w->kernel_height * row_groups(w); }

/* Spreads `rows` runs of inputs, `bytes` each, an even number, whose starts lie `apart` bytes apart. */
static void spread_rows(uint32_t *to, const int8_t *from, uint32_t bytes, uint32_t rows, uint32_t apart) {
#if defined(__thumb__) && !defined(__thumb2__)
    uint32_t zero = 0, one = 1, gap = apart - bytes;
    __asm__ volatile(".syntax unified\n"
                     "1: movs r4, %[from]\n"
                     "add r4, %[bytes]\n"
                     "2: ldrsb r2, [%[from], %[zero]]\n"
                     "ldrsb r3, [%[from], %[one]]\n"
                     "stmia %[to]!, {r2, r3}\n"
                     "adds %[to], %[to], #8\n"
                     "adds %[from], %[from], #2\n"
                     "cmp %[from], r4\n"
                     "bne 2b\n"
                     "add %[from], %[gap]\n"
                     "subs %[rows], %[rows], #1\n"
                     "bne 1b"
                     : [to] "+l"(to), [from] "+l"(from), [rows] "+l"(rows)
                     : [bytes] "h"(bytes), [gap] "h"(gap), [zero] "l"(zero), [one] "l"(one)
                     : "r2", "r3", "r4", "cc", "memory");
#else
    for (; rows != 0; rows--, from += rows != 0 ? apart : 0) {
        for (uint32_t i = 0; i < bytes; i += GROUP_TAPS, to += 4) {
            to[0] = (uint32_t)from[i];
            to[1] = (uint32_t)from[i + 1u];
        }
    }
#endif
}

/* The same to the upper halves of words. */
static void spread_rows_upper(uint32_t *to, const int8_t *from, uint32_t bytes, uint32_t rows, uint32_t apart) {
    for (; rows != 0; rows--, from += rows != 0 ? apart : 0) {
        for (uint32_t i = 0; i < bytes; i += GROUP_TAPS, to += 4) {
            to[0] += (uint32_t)from[i] << 16;
            to[1] += (uint32_t)from[i + 1u] << 16;
        }
    }
}

/* Where the inputs of one pixel go: to words, or to the upper halves of words. */
typedef struct place {
    uint32_t *word;
    bool upper;
} place;

/* Spreads one row of a window whose first column is `left`; `row` is NULL where the image has none. */
static void spread_row(const ml_window *w, const int8_t *row, uint32_t left, int8_t zero_point, place to) {
    uint32_t odd = 0;
    for (uint32_t kx = 0, column = left; kx < w->kernel_width; kx++, column += w->dilation_width) {
        bool inside = row != NULL && column < w->input_width;
        const int8_t *from = inside ? row + column * w->input_channels : &zero_point;
        for (uint32_t c = w->input_channels; c != 0; c--, from += inside) {
            *to.word = to.upper ? *to.word + ((uint32_t)*from << 16) : (uint32_t)*from;
            to.word += odd ? 3 : 1;
            odd ^= 1u;
        }
    }
    if (odd && !to.upper) {
        *to.word = 0;
    }
}

/* Spreads the inputs under the window whose top left tap is (top, left). */
static void spread_window(const ml_window *w, const int8_t *image, uint32_t top, uint32_t left, int8_t zero_point,
                          place to) {
    uint32_t row_bytes = w->input_width * w->input_channels, image_bytes = w->input_height * row_bytes;
    uint32_t start = left * w->input_channels, bytes = GROUP_TAPS * row_groups(w);
    bool joined = left < w->input_width && w->input_width - left >= w->kernel_width &&
                  (w->dilation_width == 1 || w->kernel_width == 1);
    uint32_t rows = top < w->input_height && w->input_height - top > (w->kernel_height - 1u) * w->dilation_height
                        ? w->kernel_height
                        : 1u;
    for (uint32_t ky = 0; ky < w->kernel_height; ky += rows, to.word += rows * 2u * bytes) {
        uint32_t y = top + ky * w->dilation_height, at = y * row_bytes + start;
        /* Of an odd row one more is read. */
        uint32_t end = at + (rows - 1u) * w->dilation_height * row_bytes + bytes;
        if (joined && y < w->input_height && end <= image_bytes) {
            (to.upper ? spread_rows_upper : spread_rows)(to.word, image + at, bytes, rows,
                                                         w->dilation_height * row_bytes);
        } else {
            rows = 1;
            spread_row(w, y < w->input_height ? image + y * row_bytes : NULL, left, zero_point, to);
        }
    }
}

/* The pixel that is computed next. */
typedef struct cursor {
    const int8_t *image;
    uint32_t y, x;
} cursor;

static void spread_next(const ml_window *w, cursor *c, int8_t zero_point, place to) {
    spread_window(w, c->image, c->y * w->stride_height - w->pad_top, c->x * w->stride_width - w->pad_left, zero_point,
                  to);
    if (++c->x == w->output_width) {
        c->x = 0;
        if (++c->y == w->output_height) {
            c->y = 0;
            c->image += w->input_height * w->input_width * w->input_channels;
        }
    }
}

static ml_status check(const ml_thumb_conv_2d_args *a, const ml_operand *operands, uint32_t together,
                       uint32_t weight_bytes) {
    const ml_window *w = &a->window;
    if (w->output_channels > UINT32_MAX - together || !ml_window_holds(w, &operands[0], 1, &operands[3], 1) ||
        !ml_holds(&operands[4], 8, w->kernel_height, w->kernel_width, w->input_channels, 1)) {
        return ML_ERR_OPERAND;
    }
    uint32_t groups = groups_of(w), sets = (w->output_channels + together - 1u) / together;
    bool sound = groups != 0 && ml_holds(&operands[4], 16, groups, 1, 1, 1) &&
                 ml_holds(&operands[1], weight_bytes, sets, groups, GROUP_TAPS, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), sets, together, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* Computes the outputs `together` pixels at a time; the inputs of the pixels of a block lie 2 words apart, and where
 * `halves` two share words. */
static int32_t convolve(const ml_thumb_conv_2d_args *a, void *const *operands, uint32_t together, bool halves) {
    const ml_window *w = &a->window;
    cursor at = {operands[0], 0, 0};
    block b = {.inputs = operands[4], .groups = groups_of(w), .channels = operands[2], .to = operands[3]};
    uint32_t channels = w->output_channels;
    b.back = halves ? ml_spare(b.groups) * GROUP_TAPS : 0;
    for (uint32_t left = w->batches * w->output_height * w->output_width, count; left != 0; left -= count) {
        int8_t *output = b.to;
        count = ML_MIN(left, together);
        for (uint32_t i = 0; i < count; i++) {
            place to = {(uint32_t *)operands[4] + 2u * (halves ? i / 2u : i), halves && i % 2u != 0};
            spread_next(w, &at, (int8_t)a->quantized.input_zero_point, to);
        }
        b.weights = (const int8_t *)operands[1] - b.back;
        b.left = channels;
        b.next[0] = count > 1 ? channels : 0;
        b.next[1] = count > 2 ? 2u * channels : 0;
        b.next[2] = count > 3 ? 3u * channels : b.next[0];
        (halves ? run_narrow : run_wide)(&b);
        b.to = output + count * channels;
    }
    return 0;
}

ml_status ml_conv_2d_s8_channel_pairs_check(const void *args, const ml_operand *operands) {
    const ml_thumb_conv_2d_args *a = args;
    return a->window.output_channels < 2 ? ML_ERR_ARGUMENT : check(a, operands, 2, 4);
}

int32_t ml_conv_2d_s8_channel_pairs(const void *args, void *const *operands) {
    return convolve(args, operands, 2, false);
}

ml_status ml_conv_2d_s8_pixel_pairs_check(const void *args, const ml_operand *operands) {
    const ml_thumb_conv_2d_args *a = args;
    return a->window.output_channels < 1 ? ML_ERR_ARGUMENT : check(a, operands, 1, 1);
}

int32_t ml_conv_2d_s8_pixel_pairs(const void *args, void *const *operands) { return convolve(args, operands, 4, true); }
