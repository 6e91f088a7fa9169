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

/* What a program has for each channel. */
typedef struct channel {
    uint32_t taps[6]; /* (w0, w1) and (w1, w2) of the left column, then the others; doubled */
    int32_t start, multiplier, offset, shift;
} channel;

/* Two output rows of one channel. */
typedef struct strip {
    channel constants;
    int8_t *output;
    int32_t row; /* from the upper output to the lower; 0 where there is none, which the upper one then overwrites */
    int32_t step; /* from an output to the next of its row */
    const uint32_t *end; /* where the last two outputs' columns begin */
} strip;

#ifdef __ARM_FEATURE_DSP
/* Registers: r0 strip, r1 column, r2-r7 taps, r8 and r9 sums of the upper and lower output, r10 and r11 of those to
 * their right, r12 and lr inputs, `upper` and `lower` pair. */
#define SUMS(up, down, lower_taps, upper_taps, upper, lower, from_up, from_down) \
    "smlad " up ", " lower_taps ", " upper ", " from_up "\n"                     \
    "smlatb " down ", " upper ", " lower_taps ", " from_down "\n"                \
    "smlabt " up ", " lower ", " upper_taps ", " up "\n"                         \
    "smlad " down ", " upper_taps ", " lower ", " down "\n"
#define SCALED(x) "smmlar " x ", " x ", r12, lr\n"
#define SHIFTED(x) "asr " x ", " x ", r12\n ssat " x ", #8, " x "\n"
#define FIELDS                                                                                         \
    [scale] "i"(offsetof(strip, constants.multiplier)), [shift] "i"(offsetof(strip, constants.shift)), \
        [output] "i"(offsetof(strip, output)), [start] "i"(offsetof(strip, constants.start)),          \
        [row] "i"(offsetof(strip, row)), [step] "i"(offsetof(strip, step))

/* Outputs two by two up to the end, which must not be there yet. */
#define TWO_COLUMNS(upper, lower)                                                                                                                  \
    "ldm r0, {r2-r7}\n"                                                                                                                            \
    "1: ldrd r12, lr, [r1], #32\n ldr r11, [r0, %[start]]\n" SUMS("r8", "r9", "r2", "r3", upper, lower, "r11", "r11") "ldrd r12, lr, [r1]\n" SUMS( \
        "r8", "r9", "r4", "r5", upper, lower, "r8",                                                                                                \
        "r9") "smlad r10, r2, " upper ", r11\n smlatb r11, " upper ", r2, r11\n"                                                                   \
              "smlabt r10, " lower ", r3, r10\n smlad r11, r3, " lower ", r11\n"                                                                   \
              "ldrd r12, lr, [r1, #32]\n" SUMS("r8", "r9", "r6", "r7", upper, lower, "r8", "r9")                                                   \
                  SUMS("r10", "r11", "r4", "r5", upper, lower, "r10", "r11") "ldrd r12, lr, [r1, #64]\n" SUMS(                                     \
                      "r10", "r11", "r6", "r7", upper, lower, "r10",                                                                               \
                      "r11") "ldrd r12, lr, [r0, %[scale]]\n" SCALED("r8") SCALED("r9") SCALED("r10")                                              \
                      SCALED("r11") "ldrd r12, lr, [r0, %[shift]]\n" SHIFTED("r8") SHIFTED("r9") SHIFTED("r10")                                    \
                          SHIFTED("r11") "ldr r12, [r0, %[row]]\n strb r9, [lr, r12]\n strb r8, [lr]\n"                                            \
                                         "ldrd r8, r9, [r0, %[step]]\n add lr, lr, r8\n strb r11, [lr, r12]\n strb "                               \
                                         "r10, [lr]\n add lr, lr, r8\n"                                                                            \
                                         "str lr, [r0, %[output]]\n add r1, r1, #32\n cmp r1, r9\n bne 1b\n"

/* The last output of rows of odd length. */
#define ONE_COLUMN(upper, lower)                                                                                               \
    "ldm r0, {r2-r7}\n ldrd r12, lr, [r1]\n ldr r9, [r0, %[start]]\n" SUMS(                                                    \
        "r8", "r9", "r2", "r3", upper, lower, "r9",                                                                            \
        "r9") "ldrd r12, lr, [r1, #32]\n" SUMS("r8", "r9", "r4", "r5", upper, lower, "r8",                                     \
                                               "r9") "ldrd r12, lr, [r1, #64]\n" SUMS("r8", "r9", "r6", "r7", upper,           \
                                                                                      lower, "r8",                             \
                                                                                      "r9") "ldrd r12, lr, [r0, "              \
                                                                                            "%[scale]]\n" SCALED("r8") SCALED( \
                                                                                                "r9") "ldrd r12, "             \
                                                                                                      "lr, [r0, "              \
                                                                                                      "%[shift]]"              \
                                                                                                      "\n" SHIFTED(            \
                                                                                                          "r"                  \
                                                                                                          "8")                 \
                                                                                                          SHIFTED(             \
                                                                                                              "r"              \
                                                                                                              "9") "l"         \
                                                                                                                   "d"         \
                                                                                                                   "r"         \
                                                                                                                   " "         \
                                                                                                                   "r"         \
                                                                                                                   "1"         \
                                                                                                                   "2"         \
                                                                                                                   ","         \
                                                                                                                   " "         \
                                                                                                                   "["         \
                                                                                                                   "r"         \
                                                                                                                   "0"         \
                                                                                                                   ","         \
                                                                                                                   " "         \
                                                                                                                   "%"         \
                                                                                                                   "["         \
                                                                                                                   "r"         \
                                                                                                                   "o"         \
                                                                                                                   "w"         \
                                                                                                                   "]"         \
                                                                                                                   "]"         \
                                                                                                                   "\n "       \
                                                                                                                   "s"         \
                                                                                                                   "t"         \
                                                                                                                   "r"         \
                                                                                                                   "b"         \
                                                                                                                   " "         \
                                                                                                                   "r"         \
                                                                                                                   "9"         \
                                                                                                                   ","         \
                                                                                                                   " "         \
                                                                                                                   "["         \
                                                                                                                   "l"         \
                                                                                                                   "r"         \
                                                                                                                   ","         \
                                                                                                                   " "         \
                                                                                                                   "r"         \
                                                                                                                   "1"         \
                                                                                                                   "2"         \
                                                                                                                   "]"         \
                                                                                                                   "\n "       \
                                                                                                                   "s"         \
                                                                                                                   "t"         \
                                                                                                                   "r"         \
                                                                                                                   "b"         \
                                                                                                                   " "         \
                                                                                                                   "r"         \
                                                                                                                   "8"         \
                                                                                                                   ","         \
                                                                                                                   " "         \
                                                                                                                   "["         \
                                                                                                                   "l"         \
                                                                                                                   "r"         \
                                                                                                                   "]"         \
                                                                                                                   "\n"

#define RUN(code)                                                                                                      \
    {                                                                                                                  \
        register strip *r0 __asm__("r0") = s;                                                                          \
        register const uint32_t *r1 __asm__("r1") = at;                                                                \
        __asm__ volatile(code                                                                                          \
                         : "+r"(r1)                                                                                    \
                         : "r"(r0), FIELDS                                                                             \
                         : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
        at = r1;                                                                                                       \
    }

static void outputs(strip *s, const uint32_t *at, uint32_t upper, bool odd) {
    bool even = at != s->end;
    if (upper == 0) {
        if (even) RUN(TWO_COLUMNS("r12", "lr"))
        if (odd) RUN(ONE_COLUMN("r12", "lr"))
    } else {
        if (even) RUN(TWO_COLUMNS("lr", "r12"))
        if (odd) RUN(ONE_COLUMN("lr", "r12"))
    }
}
#else
static int8_t finished(const strip *s, int32_t sum) {
    const channel *c = &s->constants;
    return (int8_t)ml_saturate_s8(ml_smmlar(sum, c->multiplier, c->offset) >> (c->shift & 31));
}

/* The outputs from column `at` on; `upper` says which row pair is the upper one. */
static void outputs(strip *s, const uint32_t *at, uint32_t upper, bool odd) {
    for (const uint32_t *end = s->end + (odd ? sizeof(column) / 4u : 0); at < end; at += sizeof(column) / 4u) {
        int32_t up = s->constants.start, down = s->constants.start;
        const uint32_t *pair = at;
        for (uint32_t i = 0; i < 6; i += 2, pair += sizeof(column) / 4u) {
            uint32_t first = pair[upper], second = pair[1u - upper];
            up = ml_smlabt(second, s->constants.taps[i + 1], ml_smlad(s->constants.taps[i], first, up));
            down = ml_smlad(s->constants.taps[i + 1], second, ml_smlabt(s->constants.taps[i], first, down));
        }
        s->output[s->row] = finished(s, down);
        s->output[0] = finished(s, up);
        s->output += s->step;
    }
}
#endif

typedef struct line {
    const int8_t *pixel; /* four channels of the first pixel */
    uint32_t step; /* bytes from pixel to pixel */
} line;

/* Two rows of four channels become a pair in each column. */
static void pack(line a, line b, uint32_t count, uint32_t *to) {
    for (; count != 0; count--, a.pixel += a.step, b.pixel += b.step, to += sizeof(column) / 4u) {
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
         m->packed + before * (sizeof(column) / 4u) + pair);
}

static void pad_columns(const image *m) {
    line outside = {(const int8_t *)&m->padding, 0};
    for (uint32_t pair = 0; pair < 2; pair++) {
        pack(outside, outside, m->output_columns + 2u, m->packed + pair);
    }
}

/* Channels `first` to 3 of those from `first_channel` on. */
static void four_channels(const image *m, const channel *constants, uint32_t first_channel, uint32_t first) {
    strip strips[CHANNELS];
    uint32_t two_columns = (m->output_columns & ~1u) * (sizeof(column) / 4u);
    for (uint32_t i = first; i < CHANNELS; i++) {
        strips[i].constants = constants[first_channel + i];
        strips[i].step = (int32_t)m->output_column_bytes;
        strips[i].end = m->packed + two_columns + 2u * i;
    }
    uint32_t row = 0u - m->pad_rows;
    int8_t *output = m->output + first_channel;
    pack_pair(m, row, first_channel, 0);
    for (uint32_t y = 0, upper = 0; y < m->output_rows; y += 2, upper ^= 1u, output += 2u * m->output_row_bytes) {
        row += 2;
        pack_pair(m, row, first_channel, upper ^ 1u);
        for (uint32_t i = first; i < CHANNELS; i++) {
            strips[i].output = output + i;
            strips[i].row = y + 1u < m->output_rows ? (int32_t)m->output_row_bytes : 0;
            outputs(&strips[i], m->packed + 2u * i, upper, (m->output_columns & 1u) != 0);
        }
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

int32_t ml_depthwise_3x3_s8(const void *args, void *const *operands) {
    const ml_depthwise_3x3_s8_args *a = args;
    uint32_t channels = a->window.input_channels;
    image m = image_of(a, operands[3]);
    m.input = operands[0], m.output = operands[2];
    pad_columns(&m);
    for (uint32_t batch = 0; batch < a->window.batches; batch++) {
        for (uint32_t first = 0; first < channels; first += CHANNELS) {
            uint32_t done = first + CHANNELS > channels ? first + CHANNELS - channels : 0; /* of the last four */
            four_channels(&m, operands[1], first - done, done);
        }
        m.input += a->window.input_height * a->window.input_width * channels;
        m.output += a->window.output_height * a->window.output_width * channels;
    }
    return 0;
}
