/* DEPTHWISE_CONV_2D, two products a multiply, channel by channel. Of some rows of output at a time (a band) the upper
 * half and the lower half are computed together: a word holds the inputs of two outputs that lie half a band apart,
 * (lower << 16) + upper. Rows of such words, with zero points where there is padding, are brought together first. */
#include "../window.h"
#include "rescale.h"

/* Rows of words, of one channel. */
typedef struct band {
    uint32_t *words; /* [rows][pitch], in scratch */
    uint32_t pitch, rows;
    uint32_t top; /* the input row of the first, which may be outside: then it has wrapped */
    uint32_t apart; /* input rows between the halves of a word */
    uint32_t half; /* output rows of the upper half */
} band;

#define MOST (1u << 16) /* rows or columns of words; no memory holds as many */

/* Inputs under some windows, along one axis. */
static uint32_t reach(uint32_t windows, uint32_t stride, uint32_t kernel, uint32_t dilation) {
    return (windows - 1u) * stride + (kernel - 1u) * dilation + 1u;
}

/* Whether either part is as much as MOST, or windows are empty or none. All but `windows` have 16 bits. */
ML_INLINE bool reaches_far(uint32_t windows, uint32_t stride, uint32_t kernel, uint32_t dilation) {
    return windows - 1u >= MOST || (windows - 1u) * stride >= MOST || kernel - 1u >= MOST ||
           (kernel - 1u) * dilation >= MOST;
}

static uint32_t words_of_row(const ml_window *w) {
    return reach(w->output_width, w->stride_width, w->kernel_width, w->dilation_width);
}

static uint32_t rows_of_band(const ml_window *w, uint32_t half) {
    return reach(half, w->stride_height, w->kernel_height, w->dilation_height);
}

/* Words of two rows' inputs, which lie as many bytes apart; 0 where it is padding. */
__attribute__((noinline)) static void join(uint32_t *to, const uint32_t *end, const int8_t *upper, uint32_t upper_step,
                                           const int8_t *lower, uint32_t lower_step) {
    for (; to != end; upper += upper_step, lower += lower_step) {
        *to++ = (uint32_t)*upper + ((uint32_t)*lower << 16);
    }
}

/* The same for `rows` rows; their lower halves lie `apart` bytes behind the upper ones. */
static void join_rows(uint32_t *to, uint32_t count, uint32_t pitch, const int8_t *from, uint32_t step, uint32_t apart,
                      uint32_t row_bytes, uint32_t rows) {
#if defined(__thumb__) && !defined(__thumb2__)
    if (count == 0) {
        return;
    }
    register uint32_t *word __asm__("r0") = to;
    register const int8_t *input __asm__("r1") = from;
    register uint32_t lower __asm__("r2") = apart, distance __asm__("r3") = step;
    register uint32_t *end __asm__("r6") = to + count;
    register uint32_t zero __asm__("r7") = 0;
    register uint32_t word_gap __asm__("r8") = 4u * (pitch - count), gap __asm__("r9") = row_bytes - count * step;
    register uint32_t pitch_bytes __asm__("r10") = 4u * pitch, left __asm__("r11") = rows;
    __asm__ volatile(".syntax unified\n"
                     "1: ldrsb r4, [r1, r7]\n"
                     "ldrsb r5, [r1, r2]\n"
                     "lsls r5, r5, #16\n"
                     "adds r4, r4, r5\n"
                     "stmia r0!, {r4}\n"
                     "adds r1, r1, r3\n"
                     "cmp r0, r6\n"
                     "bne 1b\n"
                     "add r0, r8\n"
                     "add r1, r9\n"
                     "add r6, r10\n"
                     "mov r4, r11\n"
                     "subs r4, r4, #1\n"
                     "mov r11, r4\n"
                     "bne 1b"
                     : "+l"(word), "+l"(input), "+l"(end), "+r"(left)
                     : "l"(lower), "l"(distance), "l"(zero), "r"(word_gap), "r"(gap), "r"(pitch_bytes)
                     : "r4", "r5", "cc", "memory");
#else
    for (; rows != 0; rows--, to += pitch, from += rows != 0 ? row_bytes : 0) {
        join(to, to + count, from, step, from + apart, step);
    }
#endif
}

/* Brings the words of one channel together that are not padding in both halves: those are there already. */
static void gather(const ml_window *w, const band *b, const int8_t *channel, int8_t zero_point) {
    uint32_t step = w->input_channels, row_bytes = w->input_width * step, pitch = b->pitch;
    uint32_t before = ML_MIN(w->pad_left, pitch), count = ML_MIN(w->input_width, pitch - before);
    uint32_t apart = b->apart * row_bytes, height = w->input_height, bottom = b->top + b->rows;
    uint32_t *to = b->words + before;
    for (uint32_t y = b->top, rows; y != bottom; y += rows, to += rows * pitch) {
        uint32_t lower = y + b->apart, at = y * row_bytes;
        rows = 1;
        if (y < height && lower < height) {
            rows = ML_MIN(bottom - y, height - lower);
            join_rows(to, count, pitch, channel + at, step, apart, row_bytes, rows);
        } else if (y < height) {
            join(to, to + count, channel + at, step, &zero_point, 0);
        } else if (lower < height) {
            join(to, to + count, &zero_point, 0, channel + (uint32_t)(at + apart), step);
        }
    }
}

/* The outputs of one channel in a band. */
typedef struct outputs {
    const ml_channel *channel;
    const int8_t *weights;
    int8_t *first;
    uint32_t step, row_bytes; /* from pixel to pixel, and from row to row */
    uint32_t lower; /* how far behind the upper half's outputs lie those of the lower half */
    bool odd; /* the last row of the upper half has none below */
    bool has_sign;
} outputs;

static void any_row(const ml_window *w, const band *b, const outputs *o, const uint32_t *words, int8_t *to,
                    uint32_t lower) {
    for (uint32_t x = 0; x < w->output_width; x++, words += w->stride_width, to += o->step) {
        uint32_t start = (uint32_t)o->channel->start, all = start + (start << 16), high = start;
        const int8_t *weights = o->weights;
        for (uint32_t ky = 0; ky < w->kernel_height; ky++) {
            const uint32_t *word = words + ky * w->dilation_height * b->pitch;
            for (uint32_t kx = 0; kx < w->kernel_width; kx++, word += w->dilation_width) {
                int32_t weight = *weights++;
                uint32_t products = *word * (uint32_t)weight;
                all += products;
                high += (uint32_t)((int32_t)products >> 16) + ((products >> 15) & 1u);
            }
        }
        to[lower] = ml_rescaled(&o->channel->scale, (int32_t)high, o->has_sign);
        *to = ml_rescaled(&o->channel->scale, (int32_t)(all - (high << 16)), o->has_sign);
    }
}

static void any_rows(const ml_window *w, const band *b, const outputs *o) {
    const uint32_t *words = b->words;
    int8_t *to = o->first;
    for (uint32_t left = b->half; left != 0; left--, words += w->stride_height * b->pitch, to += o->row_bytes) {
        any_row(w, b, o, words, to, left == 1 && o->odd ? 0 : o->lower);
    }
}

#if defined(__thumb__) && !defined(__thumb2__)
/* What the loop over windows of 3x3 neighbours reads again for each, in its order. */
typedef struct constants {
    uint32_t all, high;
    int32_t weights[9];
    int32_t low, high_end;
    uint32_t step; /* between windows, in bytes */
    int32_t offset, high_part, low_part, shift;
    const uint32_t *end;
    uint32_t lower, pixel; /* where the output of the lower half, and that of the next window, lie */
    uint32_t skipped, row; /* bytes from the end of a row of windows to the next, and from end to end */
    uint32_t rows;
} constants;

/* clang-format off */
#define ADD_TWO(load)        \
    load                     \
    "ldmia r1!, {r4, r5}\n"  \
    "muls r2, r4, r2\n"      \
    "muls r3, r5, r3\n"      \
    "adds r2, r2, r3\n"      \
    "adds r6, r6, r2\n"      \
    "asrs r2, r2, #16\n"     \
    "adcs r7, r7, r2\n"
#define LOAD_TWO "ldmia r0!, {r2, r3}\n"
#define LOAD_ACROSS "ldmia r0!, {r2}\nadd r0, %[next_row]\nldmia r0!, {r3}\n"

#define ROWS_3X3(SIGN, constants_again)                                                            \
    __asm__ volatile(                                                                             \
        ".syntax unified\n"                                                                       \
        "1: mov r0, %[words]\n"                                                                   \
        "mov r1, %[constants]\n"                                                                  \
        "ldmia r1!, {r6, r7}\n"                                                                   \
        ADD_TWO(LOAD_TWO) ADD_TWO(LOAD_ACROSS) ADD_TWO(LOAD_TWO)                                  \
        "add r0, %[next_row]\n"                                                                   \
        ADD_TWO(LOAD_TWO)                                                                         \
        "ldmia r0!, {r2}\n"                                                                       \
        "ldmia r1!, {r4}\n"                                                                       \
        "muls r2, r4, r2\n"                                                                       \
        "adds r6, r6, r2\n"                                                                       \
        "asrs r2, r2, #16\n"                                                                      \
        "adcs r7, r7, r2\n"                                                                       \
        "lsls r2, r7, #16\n"                                                                      \
        "subs r6, r6, r2\n"                                                                       \
        "ldmia r1!, {r3, r4, r5}\n"                                                               \
        "add %[words], r5\n"                                                                      \
        ML_CLAMP("r6", "r3", "r4") ML_CLAMP("r7", "r3", "r4")                                     \
        "ldmia r1!, {r0, r2, r3, r5}\n"                                                           \
        ML_SCALE("r6", "r0", "r2", "r3", "r5", "r4", SIGN("r6", "r4", "r1"))                      \
        ML_SCALE("r7", "r0", "r2", "r3", "r5", "r4", SIGN("r7", "r4", "r1"))                      \
        constants_again                                                                           \
        "ldmia r1!, {r2, r3, r4}\n"                                                               \
        "mov r0, %[to]\n"                                                                         \
        "strb r7, [r0, r3]\n"                                                                     \
        "strb r6, [r0]\n"                                                                         \
        "add %[to], r4\n"                                                                         \
        "cmp %[words], r2\n"                                                                       \
        "bne 1b\n"                                                                                \
        "ldmia r1!, {r3, r4, r5}\n"                                                               \
        "add %[words], r3\n"                                                                      \
        "adds r2, r2, r4\n"                                                                       \
        "subs r1, r1, #24\n"                                                                      \
        "str r2, [r1]\n"                                                                          \
        "subs r5, r5, #1\n"                                                                       \
        "str r5, [r1, #20]\n"                                                                     \
        "bne 1b"                                                                                  \
        : [words] "+h"(words), [to] "+h"(to)                                                      \
        : [constants] "h"(k), [next_row] "h"(next_row)                                            \
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "cc", "memory")
/* clang-format on */

static void some_rows_3x3(constants *k, const uint32_t *words, int8_t *to, uint32_t next_row, bool has_sign) {
    if (has_sign) {
        ROWS_3X3(ML_SIGN, "mov r1, %[constants]\nadds r1, r1, #72\n");
    } else {
        ROWS_3X3(ML_NO_SIGN, "");
    }
}

/* Windows of 3x3 neighbours. */
static void rows_3x3(const ml_window *w, const band *b, const outputs *o) {
    const ml_scale *s = &o->channel->scale;
    uint32_t high = (uint32_t)o->channel->start, row = w->stride_height * b->pitch;
    uint32_t windows = w->output_width * w->stride_width, next_row = 4u * (w->dilation_height * b->pitch - 3u);
    const uint32_t *words = b->words;
    constants k;
    k.all = high + (high << 16);
    k.high = high;
    for (uint32_t i = 0; i < 9; i++) {
        k.weights[i] = o->weights[i];
    }
    k.low = s->low >> 8;
    k.high_end = s->high;
    k.step = 4u * w->stride_width;
    k.offset = s->offset;
    k.high_part = (int32_t)(s->parts >> 16);
    k.low_part = (int16_t)(uint16_t)s->parts;
    k.shift = s->low & 0xFF;
    k.end = words + windows;
    k.lower = o->lower;
    k.pixel = o->step;
    k.skipped = 4u * (row - windows);
    k.row = 4u * row;
    k.rows = b->half - o->odd;
    if (k.rows != 0) {
        some_rows_3x3(&k, words, o->first, next_row, o->has_sign);
    }
    if (o->odd) {
        k.lower = 0;
        k.rows = 1;
        some_rows_3x3(&k, words + (b->half - 1u) * row, o->first + (b->half - 1u) * o->row_bytes, next_row,
                      o->has_sign);
    }
}

static void run_channel(const ml_window *w, const band *b, const outputs *o) {
    if (w->kernel_height == 3 && w->kernel_width == 3 && w->dilation_width == 1) {
        rows_3x3(w, b, o);
    } else {
        any_rows(w, b, o);
    }
}
#else
static void run_channel(const ml_window *w, const band *b, const outputs *o) { any_rows(w, b, o); }
#endif

/* All output channels of the band of `rows` rows that starts at `output`. */
static void run_band(const ml_thumb_depthwise_conv_2d_args *a, const band *b, const int8_t *image, int8_t *output,
                     uint32_t rows, void *const *operands) {
    const ml_window *w = &a->window;
    uint32_t row_bytes = w->output_width * w->output_channels;
    outputs o = {operands[2], operands[1],         output,         w->output_channels,
                 row_bytes,   b->half * row_bytes, rows % 2u != 0, a->has_sign != 0};
    uint32_t zero_point = (uint32_t)(int32_t)a->quantized.input_zero_point;
    for (uint32_t i = 0; i < b->rows * b->pitch; i++) {
        b->words[i] = zero_point + (zero_point << 16);
    }
    for (uint32_t c = 0; c < w->input_channels; c++) {
        gather(w, b, image + c, (int8_t)a->quantized.input_zero_point);
        for (uint32_t m = 0; m < a->depth_multiplier; m++, o.channel++, o.first++) {
            run_channel(w, b, &o);
            o.weights += w->kernel_height * w->kernel_width;
        }
    }
}

__attribute__((cold)) ml_status ml_depthwise_conv_2d_s8_bands_check(const void *args, const ml_operand *operands) {
    const ml_thumb_depthwise_conv_2d_args *a = args;
    const ml_window *w = &a->window;
    if (w->output_channels == 0 || ml_product(w->input_channels, a->depth_multiplier) != w->output_channels ||
        reaches_far(w->output_width, w->stride_width, w->kernel_width, w->dilation_width) ||
        reaches_far(a->half, w->stride_height, w->kernel_height, w->dilation_height)) {
        return ML_ERR_ARGUMENT;
    }
    uint32_t taps = (uint32_t)w->kernel_height * w->kernel_width;
    bool sound = ml_window_holds(w, &operands[0], 1, &operands[3], 1) &&
                 ml_holds(&operands[1], 1, taps, w->output_channels, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), w->output_channels, 1, 1, 1) &&
                 ml_holds(&operands[4], 4, rows_of_band(w, a->half), words_of_row(w), 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_depthwise_conv_2d_s8_bands(const void *args, void *const *operands) {
    const ml_thumb_depthwise_conv_2d_args *a = args;
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    int8_t *output = operands[3];
    band b = {.words = operands[4], .pitch = words_of_row(w)};
    for (uint32_t batch = 0; batch < w->batches; batch++) {
        for (uint32_t y = 0, rows; y < w->output_height; y += rows) {
            rows = ML_MIN(w->output_height - y, 2u * a->half);
            b.half = (rows + 1u) / 2u;
            b.rows = rows_of_band(w, b.half);
            b.top = y * w->stride_height - w->pad_top;
            b.apart = b.half * w->stride_height;
            run_band(a, &b, image, output, rows, operands);
            output += rows * w->output_width * w->output_channels;
        }
        image += w->input_height * w->input_width * w->input_channels;
    }
    return 0;
}
