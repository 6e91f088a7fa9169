/* DEPTHWISE_CONV_2D, int8: kernels of 3 by 3, one row and one column at a time, for outputs that are clamped to their
 * zero point or above.
 *
 * Two output rows are computed together, from four input rows a, b, c, d: a word holds (a, b) or (c, d) of one channel
 * and column, and words of weights are (w0, w1) and (w1, w2) of a column. Then w0 a + w1 b + w2 c and w0 b + w1 c + w2
 * d are two multiplications each. Four channels are brought into this form at a time, with padding, so that nothing
 * branches on a tap. All of the image is done for them before the next four: the output may lie over the input. */
#include "../window.h"
#include "simd.h"

#define CHANNELS 4u /* at a time */

/* One column of both row pairs; which pair is the upper one changes from one pair of output rows to the next. */
typedef uint32_t column[CHANNELS][2];
#define COLUMN_WORDS (2u * CHANNELS)

/* What a program has for each channel. */
typedef struct channel {
    uint32_t taps[6]; /* (w0, w1) and (w1, w2) of the left column, then the others', times a power of 2 */
    int32_t start, multiplier, offset, shift;
} channel;

/* Two output rows of one channel. */
typedef struct strip {
    channel constants;
    int8_t *output;
    int32_t row; /* from the upper output to the lower; 0 where there is none, which the upper one then overwrites */
    int32_t step; /* from an output to the next of its row */
    const uint32_t *end; /* of the columns where two outputs begin; if `odd`, one more output begins there */
    const uint32_t *begin;
    int32_t odd;
    int32_t advance; /* from the end of these rows to the next two */
    int32_t last; /* whether this is the last channel */
} strip;

#ifdef __ARM_FEATURE_DSP
/* clang-format off */
/* Registers: r0 strip, r1 column, r2-r7 taps, r8 and r9 sums of the upper and lower output, r10 and r11 of those to
 * their right, r12 and lr inputs: `p` the upper pair, `q` the lower. */
#define UPPER(up, w01, w12, p, q, from) "smlad " up ", " w01 ", " p ", " from "\n smlabt " up ", " q ", " w12 ", " up "\n"
#define LOWER(down, w01, w12, p, q, from) \
    "smlatb " down ", " p ", " w01 ", " from "\n smlad " down ", " w12 ", " q ", " down "\n"
#define LEFT(w01, w12, p, q) UPPER("r8", w01, w12, p, q, "r8") LOWER("r9", w01, w12, p, q, "r9")
#define RIGHT(w01, w12, p, q) UPPER("r10", w01, w12, p, q, "r10") LOWER("r11", w01, w12, p, q, "r11")
#define LOAD(at) "ldrd r12, lr, [r1" at "\n"
#define SCALE(x) "smmlar " x ", " x ", r12, lr\n"
#define SHIFT(x) "asr " x ", " x ", r12\n ssat " x ", #8, " x "\n"
#define SCALE_COMMON(x) "smmla " x ", " x ", r12, lr\n"
#define SHIFT_COMMON(x) "ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n"

#define TWO_OUTPUTS(p, q, scale, shift)                                                                             \
    LOAD("], #32") "ldr r11, [r0, %[start]]\n"                                                        \
    UPPER("r8", "r2", "r3", p, q, "r11") LOWER("r9", "r2", "r3", p, q, "r11")                         \
    LOAD("], #32") LEFT("r4", "r5", p, q)                                                                  \
    UPPER("r10", "r2", "r3", p, q, "r11") LOWER("r11", "r2", "r3", p, q, "r11")                       \
    LOAD("]") LEFT("r6", "r7", p, q) RIGHT("r4", "r5", p, q)                                     \
    LOAD(", #32]") RIGHT("r6", "r7", p, q)                                                            \
    "ldrd r12, lr, [r0, %[multiplier]]\n" scale("r8") scale("r9") scale("r10") scale("r11")           \
    "ldrd r12, lr, [r0, %[shift]]\n" shift("r8") shift("r9") shift("r10") shift("r11")                \
    "ldr r12, [r0, %[row]]\n strb r9, [lr, r12]\n strb r8, [lr]\n"                                    \
    "ldrd r8, r9, [r0, %[step]]\n add lr, lr, r8\n strb r11, [lr, r12]\n strb r10, [lr]\n"            \
    "add lr, lr, r8\n str lr, [r0, %[output]]\n cmp r1, r9\n"

#define ONE_OUTPUT(p, q, scale, shift)                                                                              \
    LOAD("]") "ldr r9, [r0, %[start]]\n" UPPER("r8", "r2", "r3", p, q, "r9") LOWER("r9", "r2", "r3", p, q, "r9") \
    LOAD(", #32]") LEFT("r4", "r5", p, q) LOAD(", #64]") LEFT("r6", "r7", p, q)                       \
    "ldrd r12, lr, [r0, %[multiplier]]\n" scale("r8") scale("r9")                                     \
    "ldrd r12, lr, [r0, %[shift]]\n" shift("r8") shift("r9")                                          \
    "ldr r12, [r0, %[row]]\n strb r9, [lr, r12]\n strb r8, [lr]\n"

#define STRIPS(p, q, scale, shift)                                                                                  \
    "0: ldm r0, {r2-r7}\n ldrd r8, r1, [r0, %[end]]\n cmp r1, r8\n beq 2f\n"                          \
    "1:" TWO_OUTPUTS(p, q, scale, shift) "bne 1b\n"                                                                 \
    "2: ldr r8, [r0, %[odd]]\n cmp r8, #0\n beq 3f\n" ONE_OUTPUT(p, q, scale, shift)                               \
    "3: ldrd r8, r9, [r0, %[advance]]\n ldr lr, [r0, %[output]]\n add lr, lr, r8\n"                   \
    "str lr, [r0, %[output]]\n add r0, r0, %[size]\n cmp r9, #0\n beq 0b\n"

#define RUN(code)                                                                                     \
    __asm__ volatile(code : "+r"(r0)                                                                  \
                     : [start] "i"(offsetof(strip, constants.start)), [shift] "i"(offsetof(strip, constants.shift)), \
                       [multiplier] "i"(offsetof(strip, constants.multiplier)), [row] "i"(offsetof(strip, row)),     \
                       [output] "i"(offsetof(strip, output)), [step] "i"(offsetof(strip, step)),      \
                       [end] "i"(offsetof(strip, end)), [odd] "i"(offsetof(strip, odd)),              \
                       [advance] "i"(offsetof(strip, advance)), [size] "i"(sizeof(strip))             \
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")
/* clang-format on */

ML_INLINE void outputs(strip *strips, uint32_t upper, bool common) {
    register strip *r0 __asm__("r0") = strips;
    if (common && upper == 0) {
        RUN(STRIPS("r12", "lr", SCALE_COMMON, SHIFT_COMMON));
    } else if (common) {
        RUN(STRIPS("lr", "r12", SCALE_COMMON, SHIFT_COMMON));
    } else if (upper == 0) {
        RUN(STRIPS("r12", "lr", SCALE, SHIFT));
    } else {
        RUN(STRIPS("lr", "r12", SCALE, SHIFT));
    }
}
#else
static int8_t finished(const channel *c, int32_t sum, bool common) {
    int32_t y = common ? ml_smmla(sum, c->multiplier, c->offset) >> COMMON_SHIFT
                       : ml_smmlar(sum, c->multiplier, c->offset) >> (c->shift & 31);
    return (int8_t)ml_saturate_s8(y);
}

/* One output of either row. */
static void two_outputs(const strip *s, const uint32_t *pair, uint32_t upper, bool common) {
    const channel *c = &s->constants;
    int32_t up = c->start, down = c->start;
    for (uint32_t i = 0; i < 6; i += 2, pair += COLUMN_WORDS) {
        uint32_t p = pair[upper], q = pair[1u - upper];
        up = ml_smlabt(q, c->taps[i + 1], ml_smlad(c->taps[i], p, up));
        down = ml_smlad(c->taps[i + 1], q, ml_smlabt(c->taps[i], p, down));
    }
    s->output[s->row] = finished(c, down, common);
    s->output[0] = finished(c, up, common);
}

/* The outputs of all strips; `upper` says which row pair is the upper one. */
static void outputs(strip *s, uint32_t upper, bool common) {
    for (;; s++) {
        const uint32_t *at = s->begin;
        for (; at != s->end; at += COLUMN_WORDS, s->output += s->step) {
            two_outputs(s, at, upper, common);
        }
        if (s->odd) {
            two_outputs(s, at, upper, common);
        }
        s->output += s->advance;
        if (s->last) {
            return;
        }
    }
}
#endif

typedef struct line {
    const int8_t *pixel; /* four channels of the first pixel */
    uint32_t step; /* bytes from pixel to pixel */
} line;

/* Two rows of four channels become a pair in each column. */
static void pack(line a, line b, uint32_t count, uint32_t *to) {
    for (; count != 0; count--, a.pixel += a.step, b.pixel += b.step, to += COLUMN_WORDS) {
        uint32_t above = ml_load_word(a.pixel), below = ml_load_word(b.pixel);
        uint32_t low = ml_lower_halves(above, below), high = ml_upper_halves(above, below);
        to[0] = ml_even_bytes(low);
        to[2] = ml_odd_bytes(low);
        to[4] = ml_even_bytes(high);
        to[6] = ml_odd_bytes(high);
    }
}

/* What is to be done for one image. A row is what a strip goes along: `depthwise_3x3` says which axis that is. */
typedef struct image {
    const int8_t *input;
    int8_t *output;
    uint32_t rows, columns, output_rows, output_columns, pad_rows, pad_columns;
    uint32_t row_bytes, column_bytes, output_row_bytes, output_column_bytes; /* from one to the next */
    uint32_t padding; /* four zero points */
    uint32_t *packed; /* columns */
} image;

static line row_of(const image *m, uint32_t row, uint32_t first_channel) {
    if (row >= m->rows) {
        return (line){(const int8_t *)&m->padding, 0};
    }
    return (line){m->input + row * m->row_bytes + first_channel, m->column_bytes};
}

/* Packs the row pair `row`, `row` + 1 of four channels, between the columns of padding. */
static void pack_pair(const image *m, uint32_t row, uint32_t first_channel, uint32_t pair) {
    uint32_t room = m->output_columns + 2u, before = ML_MIN(m->pad_columns, room);
    uint32_t count = ML_MIN(m->columns, room - before);
    pack(row_of(m, row, first_channel), row_of(m, row + 1u, first_channel), count,
         m->packed + before * COLUMN_WORDS + pair);
}

static void pad_columns(const image *m) {
    line outside = {(const int8_t *)&m->padding, 0};
    for (uint32_t pair = 0; pair < 2; pair++) {
        pack(outside, outside, m->output_columns + 2u, m->packed + pair);
    }
}

/* Sets up the strips of channels `first` to 3 of those from `first_channel` on, at their first rows. */
static void set_up(const image *m, const channel *constants, uint32_t first_channel, uint32_t first, strip *strips) {
    uint32_t even = m->output_columns & ~1u;
    for (uint32_t i = first; i < CHANNELS; i++, strips++) {
        strips->constants = constants[first_channel + i];
        strips->output = m->output + first_channel + i;
        strips->row = (int32_t)m->output_row_bytes;
        strips->step = (int32_t)m->output_column_bytes;
        strips->begin = m->packed + 2u * i;
        strips->end = strips->begin + even * COLUMN_WORDS;
        strips->odd = (int32_t)(m->output_columns - even);
        strips->advance = (int32_t)(2u * m->output_row_bytes - even * m->output_column_bytes);
        strips->last = i == CHANNELS - 1u;
    }
}

/* All outputs of these channels. */
ML_INLINE void some_channels(const image *m, const channel *constants, uint32_t first_channel, uint32_t first,
                             bool common) {
    strip strips[CHANNELS];
    set_up(m, constants, first_channel, first, strips);
    uint32_t row = 0u - m->pad_rows;
    pack_pair(m, row, first_channel, 0);
    for (uint32_t y = 0, upper = 0; y < m->output_rows; y += 2, upper ^= 1u) {
        row += 2;
        pack_pair(m, row, first_channel, upper ^ 1u);
        for (uint32_t i = 0; y + 1u == m->output_rows && i < CHANNELS - first; i++) {
            strips[i].row = 0;
        }
        outputs(strips, upper, common);
    }
}

ml_status ml_depthwise_3x3_s8_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_3x3_s8_args *a = args;
    const ml_window *w = &a->window;
    uint32_t columns = a->along_height ? w->output_height : w->output_width;
    bool sound = w->input_channels >= CHANNELS && w->output_channels == w->input_channels &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], sizeof(channel), w->input_channels, 1, 1, 1) &&
                 ml_holds(&operands[3], sizeof(column), columns + 2u, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* An image as its strips see it: rows are those of the image, or its columns. */
static image image_of(const ml_depthwise_3x3_s8_args *a, uint32_t *packed) {
    const ml_window *w = &a->window;
    uint32_t pixel = w->input_channels;
    image m = {.padding = (uint8_t)a->zero_point * 0x01010101u, .packed = packed};
    if (a->along_height) {
        m.rows = w->input_width, m.columns = w->input_height;
        m.output_rows = w->output_width, m.output_columns = w->output_height;
        m.pad_rows = w->pad_left, m.pad_columns = w->pad_top;
        m.row_bytes = m.output_row_bytes = pixel;
        m.column_bytes = w->input_width * pixel, m.output_column_bytes = w->output_width * pixel;
    } else {
        m.rows = w->input_height, m.columns = w->input_width;
        m.output_rows = w->output_height, m.output_columns = w->output_width;
        m.pad_rows = w->pad_top, m.pad_columns = w->pad_left;
        m.column_bytes = m.output_column_bytes = pixel;
        m.row_bytes = w->input_width * pixel, m.output_row_bytes = w->output_width * pixel;
    }
    return m;
}

ML_INLINE int32_t depthwise(const ml_depthwise_3x3_s8_args *a, void *const *operands, bool common) {
    uint32_t channels = a->window.input_channels;
    image m = image_of(a, operands[3]);
    m.input = operands[0], m.output = operands[2];
    pad_columns(&m);
    for (uint32_t batch = 0; batch < a->window.batches; batch++) {
        for (uint32_t first = 0; first < channels; first += CHANNELS) {
            uint32_t done = first + CHANNELS > channels ? first + CHANNELS - channels : 0; /* of the last four */
            some_channels(&m, operands[1], first - done, done, common);
        }
        m.input += a->window.input_height * a->window.input_width * channels;
        m.output += a->window.output_height * a->window.output_width * channels;
    }
    return 0;
}

int32_t ml_depthwise_3x3_s8(const void *args, void *const *operands) { return depthwise(args, operands, false); }

ml_status ml_depthwise_3x3_common_s8_check(const void *args, const ml_operand *operands) {
    return ml_depthwise_3x3_s8_check(args, operands);
}

int32_t ml_depthwise_3x3_common_s8(const void *args, void *const *operands) { return depthwise(args, operands, true); }
