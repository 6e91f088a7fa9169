/* DEPTHWISE_CONV_2D, int8: kernels of 3 by 3, both strides 1 or both 2, for outputs that are clamped to their zero
 * point or above.
 *
 * Input rows come in pairs: a word holds (a, b) or (c, d) of one channel and column, and words of weights are (w0, w1)
 * and (w1, w2) of a column. Then w0 a + w1 b + w2 c and w0 b + w1 c + w2 d are two multiplications each. With a stride
 * of 1 two pairs give two output rows, with one of 2 they give the first of these. Four channels are brought into this
 * form at a time, with padding, so that nothing branches on a tap. All of the image is done for them before the next
 * four: the output may lie over the input. */
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

/* Two output rows of one channel, or, with strides of 2, one. */
typedef struct strip {
    channel constants;
    int8_t *output;
    int32_t other; /* from an output to the lower one, which is written first; 0 where there is none */
    int32_t step; /* from an output to the next of its row */
    const uint32_t *end; /* of the columns where outputs begin that are computed `many` at a time, which is not 0 */
    const uint32_t *rest; /* and of all */
    const uint32_t *begin;
    int32_t advance; /* from the first output that is not one of these to the next rows */
    int32_t last; /* whether this is the last channel */
} strip;

/* One of the kernels. */
typedef struct kind {
    uint32_t stride; /* of rows and columns */
    bool common; /* whether all channels have COMMON_SHIFT */
} kind;

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
#define SCALE_EACH(x) "smmlar " x ", " x ", r12, lr\n"
#define SHIFT_EACH(x) "asr " x ", " x ", r12\n ssat " x ", #8, " x "\n"
#define SCALE_COMMON(x) "smmla " x ", " x ", r12, lr\n"
#define SHIFT_COMMON(x) "ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n"
#define MULTIPLIER "ldrd r12, lr, [r0, %[multiplier]]\n"
/* From here on lr is the output, r12 the other. */
#define PLACE_EACH(shifts) "ldrd r12, lr, [r0, %[shift]]\n" shifts "ldr r12, [r0, %[other]]\n"
#define PLACE_COMMON(shifts) "ldrd lr, r12, [r0, %[output]]\n" shifts
#define START "ldr r11, [r0, %[start]]\n"

/* Two columns of two outputs. */
#define MANY_1(p, q, how)                                                                             \
    LOAD("], #32") START UPPER("r8", "r2", "r3", p, q, "r11") LOWER("r9", "r2", "r3", p, q, "r11")    \
    LOAD("], #32") LEFT("r4", "r5", p, q)                                                             \
    UPPER("r10", "r2", "r3", p, q, "r11") LOWER("r11", "r2", "r3", p, q, "r11")                       \
    LOAD("]") LEFT("r6", "r7", p, q) RIGHT("r4", "r5", p, q)                                          \
    LOAD(", #32]") RIGHT("r6", "r7", p, q)                                                            \
    MULTIPLIER SCALE_##how("r8") SCALE_##how("r9") SCALE_##how("r10") SCALE_##how("r11")              \
    PLACE_##how(SHIFT_##how("r8") SHIFT_##how("r9") SHIFT_##how("r10") SHIFT_##how("r11"))            \
    "strb r9, [lr, r12]\n strb r8, [lr]\n"                                                            \
    "ldrd r8, r9, [r0, %[step]]\n add lr, lr, r8\n strb r11, [lr, r12]\n strb r10, [lr]\n"            \
    "add lr, lr, r8\n str lr, [r0, %[output]]\n cmp r1, r9\n"
/* The last column. */
#define REST_1(p, q, how)                                                                             \
    LOAD("]") START UPPER("r8", "r2", "r3", p, q, "r11") LOWER("r9", "r2", "r3", p, q, "r11")         \
    LOAD(", #32]") LEFT("r4", "r5", p, q) LOAD(", #64]") LEFT("r6", "r7", p, q)                       \
    MULTIPLIER SCALE_##how("r8") SCALE_##how("r9") PLACE_##how(SHIFT_##how("r8") SHIFT_##how("r9"))   \
    "strb r9, [lr, r12]\n strb r8, [lr]\n"

/* One output alone. */
#define FIRST(x, p, q) UPPER(x, "r2", "r3", p, q, "r11")
#define MIDDLE(x, p, q) LOAD("], #32") UPPER(x, "r4", "r5", p, q, x)
#define LAST(x, p, q) UPPER(x, "r6", "r7", p, q, x)

/* Four outputs, of every other column. */
#define MANY_2(p, q, how)                                                                             \
    LOAD("], #32") START FIRST("r8", p, q) MIDDLE("r8", p, q)                                         \
    LOAD("], #32") LAST("r8", p, q) FIRST("r9", p, q) MIDDLE("r9", p, q)                              \
    LOAD("], #32") LAST("r9", p, q) FIRST("r10", p, q) MIDDLE("r10", p, q)                            \
    LOAD("], #32") LAST("r10", p, q) FIRST("r11", p, q) MIDDLE("r11", p, q) LOAD("]") LAST("r11", p, q) \
    MULTIPLIER SCALE_##how("r8") SCALE_##how("r9") SCALE_##how("r10") SCALE_##how("r11")              \
    PLACE_##how(SHIFT_##how("r8") SHIFT_##how("r9") SHIFT_##how("r10") SHIFT_##how("r11"))            \
    "strb r8, [lr]\n strb r9, [lr, r12]\n add lr, lr, r12, lsl #1\n"                                  \
    "strb r10, [lr]\n strb r11, [lr, r12]\n add lr, lr, r12, lsl #1\n str lr, [r0, %[output]]\n"      \
    "ldr r8, [r0, %[end]]\n cmp r1, r8\n"
/* Those that are left, one by one. */
#define REST_2(p, q, how)                                                                             \
    "ldr r10, [r0, %[output]]\n"                                                                      \
    "4:" LOAD("], #32") START FIRST("r8", p, q) MIDDLE("r8", p, q) LOAD("]") LAST("r8", p, q)         \
    MULTIPLIER SCALE_##how("r8") PLACE_##how(SHIFT_##how("r8")) "strb r8, [r10]\n add r10, r10, r12\n" \
    "ldr r8, [r0, %[rest]]\n cmp r1, r8\n bne 4b\n"

/* Behind both kinds of outputs lr is what `output` is. */
#define STRIPS(stride, p, q, how)                                                                     \
    "0: ldm r0, {r2-r7}\n ldr r1, [r0, %[begin]]\n"                                                   \
    "1:" MANY_##stride(p, q, how) "bne 1b\n ldr r8, [r0, %[rest]]\n cmp r1, r8\n beq 3f\n"            \
    REST_##stride(p, q, how)                                                                          \
    "3: ldrd r8, r9, [r0, %[advance]]\n add lr, lr, r8\n str lr, [r0, %[output]]\n"                   \
    "add r0, r0, %[size]\n cmp r9, #0\n beq 0b\n"

/* The same for a last row below which all is padding: w2 is part of the start value, r11. Registers: r3, r5 and r7
 * multiplier, offset and shift; r10 step, r12 inputs, lr output. */
#define ADD_TAP(x, w01, from) "smlad " x ", " w01 ", r12, " from "\n"
#define FINISH_EACH(x) "smmlar " x ", " x ", r3, r5\n asr " x ", " x ", r7\n ssat " x ", #8, " x "\n"
#define FINISH_COMMON(x) "smmla " x ", " x ", r3, r5\n ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n"
#define LONE_STRIPS(how)                                                                              \
    "0: ldm r0, {r2-r7}\n ldr r1, [r0, %[begin]]\n ldr r11, [r0, %[start]]\n ldr r10, [r0, %[step]]\n" \
    "ldrd r3, r5, [r0, %[multiplier]]\n ldrd r7, lr, [r0, %[shift]]\n"                              \
    "1: ldr r12, [r1], #32\n" ADD_TAP("r8", "r2", "r11")                                              \
    "ldr r12, [r1], #32\n" ADD_TAP("r8", "r4", "r8") ADD_TAP("r9", "r2", "r11")                       \
    "ldr r12, [r1]\n" ADD_TAP("r8", "r6", "r8") ADD_TAP("r9", "r4", "r9")                             \
    "ldr r12, [r1, #32]\n" ADD_TAP("r9", "r6", "r9") FINISH_##how("r8") FINISH_##how("r9")            \
    "strb r8, [lr]\n strb r9, [lr, r10]\n add lr, lr, r10, lsl #1\n"                                 \
    "ldr r12, [r0, %[end]]\n cmp r1, r12\n bne 1b\n ldr r12, [r0, %[rest]]\n cmp r1, r12\n beq 3f\n"  \
    "ldr r12, [r1]\n" ADD_TAP("r8", "r2", "r11") "ldr r12, [r1, #32]\n" ADD_TAP("r8", "r4", "r8")    \
    "ldr r12, [r1, #64]\n" ADD_TAP("r8", "r6", "r8") FINISH_##how("r8") "strb r8, [lr]\n"            \
    "3: ldr r12, [r0, %[last]]\n add r0, r0, %[size]\n cmp r12, #0\n beq 0b\n"

#define RUN(code)                                                                                     \
    __asm__ volatile(code : "+r"(r0)                                                                  \
                     : [start] "i"(offsetof(strip, constants.start)), [shift] "i"(offsetof(strip, constants.shift)), \
                       [multiplier] "i"(offsetof(strip, constants.multiplier)), [other] "i"(offsetof(strip, other)), \
                       [output] "i"(offsetof(strip, output)), [step] "i"(offsetof(strip, step)),      \
                       [end] "i"(offsetof(strip, end)), [rest] "i"(offsetof(strip, rest)), [begin] "i"(offsetof(strip, begin)), \
                       [advance] "i"(offsetof(strip, advance)), [last] "i"(offsetof(strip, last)), [size] "i"(sizeof(strip))             \
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

#define EITHER(stride, how)                    \
    if (upper == 0) {                          \
        RUN(STRIPS(stride, "r12", "lr", how)); \
    } else {                                   \
        RUN(STRIPS(stride, "lr", "r12", how)); \
    }
/* clang-format on */

/* `lone`: for strides of 1, whether it is a last row below which all is padding; then `upper` is 0. */
ML_INLINE void outputs(strip *strips, uint32_t upper, kind k, bool lone) {
    register strip *r0 __asm__("r0") = strips;
    if (k.stride == 2) {
        EITHER(2, COMMON)
    } else if (k.common && lone) {
        RUN(LONE_STRIPS(COMMON));
    } else if (k.common) {
        EITHER(1, COMMON)
    } else if (lone) {
        RUN(LONE_STRIPS(EACH));
    } else {
        EITHER(1, EACH)
    }
}
#else
static int8_t finished(const channel *c, int32_t sum, bool common) {
    int32_t y = common ? ml_smmla(sum, c->multiplier, c->offset) >> COMMON_SHIFT
                       : ml_smmlar(sum, c->multiplier, c->offset) >> (c->shift & 31);
    return (int8_t)ml_saturate_s8(y);
}

/* The outputs of one column; `pair`: where it begins. */
static void outputs_at(const strip *s, int8_t *to, const uint32_t *pair, uint32_t upper, kind k, bool lone) {
    const channel *c = &s->constants;
    int32_t up = c->start, down = c->start;
    for (uint32_t i = 0; i < 6; i += 2, pair += COLUMN_WORDS) {
        uint32_t p = pair[upper], q = pair[1u - upper];
        up = ml_smlad(c->taps[i], p, up);
        if (lone) {
            continue;
        }
        up = ml_smlabt(q, c->taps[i + 1], up);
        down = ml_smlad(c->taps[i + 1], q, ml_smlabt(c->taps[i], p, down));
    }
    if (k.stride == 1 && !lone) {
        to[s->other] = finished(c, down, k.common);
    }
    to[0] = finished(c, up, k.common);
}

/* The outputs of all strips; `upper` says which row pair is the upper one. */
static void outputs(strip *s, uint32_t upper, kind k, bool lone) {
    for (;; s++) {
        const uint32_t *at = s->begin;
        for (; at != s->end; at += k.stride * COLUMN_WORDS, s->output += s->step) {
            outputs_at(s, s->output, at, upper, k, lone);
        }
        for (int8_t *to = s->output; at != s->rest; at += k.stride * COLUMN_WORDS, to += s->step) {
            outputs_at(s, to, at, upper, k, lone);
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

/* Two rows of four channels become a pair in each of `count` columns, which is not 0. */
#ifdef __ARM_FEATURE_DSP
#define PACK                                                                                          \
    "ldr %[x], [%[a]]\n ldr %[y], [%[b]]\n add %[a], %[a_step]\n add %[b], %[b_step]\n"               \
    "pkhbt %[z], %[x], %[y], lsl #16\n pkhtb %[y], %[y], %[x], asr #16\n"                             \
    "sxtb16 %[x], %[z]\n sxtb16 %[z], %[z], ror #8\n str %[x], [%[to]], #8\n str %[z], [%[to]], #8\n" \
    "sxtb16 %[x], %[y]\n sxtb16 %[y], %[y], ror #8\n str %[x], [%[to]], #8\n str %[y], [%[to]], #8\n"
static void pack(line a, line b, uint32_t count, uint32_t *to) {
    uint32_t x, y, z, *end = to + count * COLUMN_WORDS;
    __asm__ volatile("tst %[count], #1\n bne 2f\n 1:" PACK "2:" PACK "cmp %[to], %[end]\n bne 1b"
                     : [a] "+r"(a.pixel), [b] "+r"(b.pixel), [to] "+r"(to), [x] "=&r"(x), [y] "=&r"(y), [z] "=&r"(z)
                     : [a_step] "r"(a.step), [b_step] "r"(b.step), [end] "r"(end), [count] "r"(count)
                     : "cc", "memory");
}
#else
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
#endif

/* What is to be done for one image. A row is what a strip goes along: `depthwise_3x3` says which axis that is. */
typedef struct image {
    const int8_t *input;
    int8_t *output;
    uint32_t rows, columns, output_rows, output_columns, pad_rows, pad_columns;
    uint32_t row_bytes, column_bytes, output_row_bytes, output_column_bytes; /* from one to the next */
    uint32_t padding; /* four zero points */
    uint32_t *packed, *inner; /* columns, the first of them that is not padding */
} image;

static line row_of(const image *m, uint32_t row, uint32_t first_channel) {
    if (row >= m->rows) {
        return (line){(const int8_t *)&m->padding, 0};
    }
    return (line){m->input + row * m->row_bytes + first_channel, m->column_bytes};
}

/* Packs the row pair `row`, `row` + 1 of four channels, between the columns of padding. */
static void pack_pair(const image *m, uint32_t row, uint32_t first_channel, uint32_t pair) {
    line a = row_of(m, row, first_channel), b = row_of(m, row + 1u, first_channel);
    pack(a, b, m->columns, m->inner + pair);
}

/* Fills `columns` with padding, and says which of them the image is packed to, from `inner` on. */
static void pad_columns(image *m, uint32_t columns) {
    line outside = {(const int8_t *)&m->padding, 0};
    pack(outside, outside, columns, m->packed);
    pack(outside, outside, columns, m->packed + 1);
    uint32_t before = ML_MIN(m->pad_columns, columns - 1u);
    m->columns = ML_MIN(m->columns, columns - before);
    m->inner = m->packed + before * COLUMN_WORDS;
}

/* Sets up what strips of all channels have in common. */
static void set_up(const image *m, uint32_t stride, strip *s) {
    uint32_t many = m->output_columns & (stride == 1 ? ~1u : ~3u);
    uint32_t rows_bytes = stride == 1 ? 2u * m->output_row_bytes : m->output_row_bytes;
    for (uint32_t i = 0; i < CHANNELS; i++, s++) {
        s->step = (int32_t)m->output_column_bytes;
        s->begin = m->packed + 2u * i;
        s->end = s->begin + many * stride * COLUMN_WORDS;
        s->rest = s->begin + m->output_columns * stride * COLUMN_WORDS;
        s->advance = (int32_t)(rows_bytes - many * m->output_column_bytes);
        s->last = i == CHANNELS - 1u;
    }
}

/* Makes a strip one of the last row, below which all is `padding`, or something that is not to be left out, for 0. */
static void end_strip(strip *s, int32_t padding) {
    const uint32_t *taps = s->constants.taps;
    int32_t below = ML_UPPER(taps[1]) + ML_UPPER(taps[3]) + ML_UPPER(taps[5]);
    s->constants.start = (int32_t)((uint32_t)s->constants.start + (uint32_t)(padding * below));
    s->other = 0;
}

/* All outputs of channels `first` to 3 of those from `first_channel` on. */
ML_INLINE void some_channels(const image *m, strip *strips, const channel *constants, uint32_t first_channel,
                             uint32_t first, kind k) {
    for (uint32_t i = 0; i < CHANNELS; i++) {
        strips[i].constants = constants[first_channel + i];
        strips[i].output = m->output + first_channel + i;
        strips[i].other = (int32_t)(k.stride == 1 ? m->output_row_bytes : m->output_column_bytes);
    }
    uint32_t row = 0u - m->pad_rows, upper = ((m->output_rows + 1u) / 2u + 1u) & 1u; /* 0 for the last rows */
    pack_pair(m, row, first_channel, upper);
    for (uint32_t y = 0; y < m->output_rows; y += 3u - k.stride, upper ^= 1u) {
        bool last = k.stride == 1 && y + 1u == m->output_rows, lone = last && row + 2u >= m->rows;
        row += 2;
        if (!lone) {
            pack_pair(m, row, first_channel, upper ^ 1u);
        }
        for (uint32_t i = 0; last && i < CHANNELS; i++) {
            end_strip(&strips[i], lone ? (int8_t)m->padding : 0);
        }
        outputs(strips + first, upper, k, lone);
    }
}

/* How many columns the windows of an axis reach over. */
static uint32_t packed_columns(uint32_t outputs, uint32_t stride) { return (outputs - 1u) * stride + 3u; }

static ml_status check(const ml_depthwise_3x3_s8_args *a, const ml_operand *operands, uint32_t stride) {
    const ml_window *w = &a->window;
    uint32_t outputs = a->along_height ? w->output_height : w->output_width;
    bool sound = w->input_channels >= CHANNELS && w->output_channels == w->input_channels && w->input_height != 0 &&
                 w->input_width != 0 && outputs >= 2u * stride &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], sizeof(channel), w->input_channels, 1, 1, 1) &&
                 ml_holds(&operands[3], sizeof(column), packed_columns(outputs, stride), 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

ml_status ml_depthwise_3x3_s8_check(const void *args, const ml_operand *operands) { return check(args, operands, 1); }

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

ML_INLINE int32_t depthwise(const ml_depthwise_3x3_s8_args *a, void *const *operands, kind k) {
    uint32_t channels = a->window.input_channels;
    image m = image_of(a, operands[3]);
    m.input = operands[0], m.output = operands[2];
    pad_columns(&m, packed_columns(m.output_columns, k.stride));
    strip strips[CHANNELS];
    set_up(&m, k.stride, strips);
    for (uint32_t batch = 0; batch < a->window.batches; batch++) {
        for (uint32_t first = 0; first < channels; first += CHANNELS) {
            uint32_t done = first + CHANNELS > channels ? first + CHANNELS - channels : 0; /* of the last four */
            some_channels(&m, strips, operands[1], first - done, done, k);
        }
        m.input += a->window.input_height * a->window.input_width * channels;
        m.output += a->window.output_height * a->window.output_width * channels;
    }
    return 0;
}

int32_t ml_depthwise_3x3_s8(const void *args, void *const *operands) {
    return depthwise(args, operands, (kind){1, false});
}

ml_status ml_depthwise_3x3_common_s8_check(const void *args, const ml_operand *operands) {
    return check(args, operands, 1);
}

int32_t ml_depthwise_3x3_common_s8(const void *args, void *const *operands) {
    return depthwise(args, operands, (kind){1, true});
}

ml_status ml_depthwise_3x3_strided_s8_check(const void *args, const ml_operand *operands) {
    return check(args, operands, 2);
}

int32_t ml_depthwise_3x3_strided_s8(const void *args, void *const *operands) {
    return depthwise(args, operands, (kind){2, true});
}
