/* CONV_2D and FULLY_CONNECTED, int8: blocks of three pixels and two channels.
 *
 * The inputs under the windows of three pixels are widened to 16 bits once, for all channels: the patch, in which a
 * word holds inputs (0, 2) or (1, 3) of four (SXTB16's order), and words of the three pixels alternate. Each row of a
 * window, or the window where its rows are joined, is filled up to a multiple of four with what has weights of 0.
 *
 * Weights are a stream, for each pair of channels: two start values; words for each four inputs, two (`pair`) or four
 * (`wide`); (multiplier, offset, shift) of the lower channel and of the upper. sdk/variants/arm_dsp_conv.py makes it.
 */
#include "../window.h"
#include "simd.h"

#define PIXELS 3u

typedef struct block {
    const uint32_t *patch, *patch_end;
    int8_t *output, *output_end; /* of the first pixel */
    int32_t second, third; /* where the other pixels' outputs lie from there */
    const int32_t *weights;
    uint32_t quads; /* of inputs */
    uint32_t *scratch; /* the patch, to write */
} block;

/* Widens four inputs of each of three pixels. */
static inline void widen_words(uint32_t x, uint32_t y, uint32_t z, uint32_t *to) {
    to[0] = ml_even_bytes(x), to[1] = ml_even_bytes(y), to[2] = ml_even_bytes(z);
    to[3] = ml_odd_bytes(x), to[4] = ml_odd_bytes(y), to[5] = ml_odd_bytes(z);
}

#ifdef __ARM_FEATURE_DSP
/* Registers: r0-r2 inputs, then multiplier, offset, shift; r3, r4 weights, then `second` and `third`; r5-r7 sums of the
 * upper channel, r8-r10 of the lower; r11 patch, then output; r12 its end; lr weights. */
#define THREE(x, y, z, w, from_x, from_y, from_z) \
    "smlad " x ", " w ", r0, " from_x "\n smlad " y ", " w ", r1, " from_y "\n smlad " z ", " w ", r2, " from_z "\n"
#define UPPER(w) THREE("r5", "r6", "r7", w, "r5", "r6", "r7")
#define LOWER(w) THREE("r8", "r9", "r10", w, "r8", "r9", "r10")
#define FIRST_UPPER(w) THREE("r5", "r6", "r7", w, "r7", "r7", "r7")
#define FIRST_LOWER(w) THREE("r8", "r9", "r10", w, "r10", "r10", "r10")
#define INPUTS "ldmia r11!, {r0, r1, r2}\n"
#define WEIGHTS "ldrd r3, r4, [lr], #8\n"
/* Halfwords 256 * upper + lower: sums of them are 256 * upper + lower too, and sums of their lower bytes are lower. */
#define PAIR_QUAD(upper, lower) \
    INPUTS WEIGHTS upper("r3") "sxtb16 r3, r3\n" lower("r3") INPUTS UPPER("r4") "sxtb16 r4, r4\n" LOWER("r4")
#define PAIR_SPLIT                                                                                           \
    "sub r5, r5, r8\n sub r6, r6, r9\n sub r7, r7, r10\n asr r5, r5, #7\n asr r6, r6, #7\n asr r7, r7, #7\n" \
    "lsl r8, r8, #1\n lsl r9, r9, #1\n lsl r10, r10, #1\n"
#define WIDE_QUAD(upper, lower) INPUTS WEIGHTS lower("r3") upper("r4") INPUTS WEIGHTS LOWER("r3") UPPER("r4")
#define WIDE_SPLIT
/* The output of twice the sum x. Its sign adds something that only outputs below the zero point show. */
#define SIGNED(x, to)                                                                                   \
    "smmlar r12, " x ", r0, r1\n add r12, r12, " x ", asr #31\n asr r12, r12, r2\n ssat r12, #8, r12\n" \
    "strb r12, " to "\n"
#define SIGNED_END "ldr r12, %[end]\n"
#define UNSIGNED(x, to) \
    "smmlar " x ", " x ", r0, r1\n asr " x ", " x ", r2\n ssat " x ", #8, " x "\n strb " x ", " to "\n"
#define UNSIGNED_END
#define CHANNEL(out, x, y, z) "ldmia lr!, {r0, r1, r2}\n" out(z, "[r11, r4]") out(y, "[r11, r3]") out(x, "[r11], #1")

/* All channels of one block. The first four inputs turn start values into sums; a loop of sixteen does the others,
 * which the table enters where their number asks for it. */
#define DEFINE_BLOCK(name, quad, split, out, end_again)                                                             \
    static void name(const block *b) {                                                                              \
        block f = *b;                                                                                               \
        const void *entry;                                                                                          \
        register const int32_t *weights __asm__("r0") = f.weights;                                                  \
        register uint32_t rest __asm__("r1") = f.quads > 1 ? ((f.quads - 2u) & 3u) + 1u : 0u;                       \
        __asm__ volatile(                                                                                           \
            "mov lr, r0\n adr r0, 9f\n ldr r0, [r0, r1, lsl #2]\n str r0, %[entry]\n"                               \
            "1: ldrd r11, r12, %[patch]\n ldrd r7, r10, [lr], #8\n" quad(                                           \
                FIRST_UPPER,                                                                                        \
                FIRST_LOWER) "ldr pc, %[entry]\n"                                                                   \
                             ".balign 4\n 9: .word 7f + 1, 5f + 1, 4f + 1, 3f + 1, 2f + 1\n"                        \
                             "2:" quad(UPPER, LOWER) "3:" quad(UPPER, LOWER) "4:" quad(UPPER, LOWER) "5:" quad(     \
                                 UPPER, LOWER) "cmp r11, r12\n bne 2b\n"                                            \
                                               "7:" split                                                           \
                                               "ldrd r11, r12, %[output]\n ldrd r3, r4, %[second]\n" CHANNEL(       \
                                                   out, "r8", "r9", "r10") end_again                                \
            "cmp r11, r12\n beq 8f\n" CHANNEL(out, "r5", "r6", "r7") end_again                                      \
            "str r11, %[output]\n cmp r11, r12\n bne 1b\n 8:"                                                       \
            : "+r"(weights), "+r"(rest), [output] "+m"(f.output), [entry] "=m"(entry)                               \
            : [patch] "m"(f.patch), "m"(f.patch_end), [second] "m"(f.second), "m"(f.third), [end] "m"(f.output_end) \
            : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");           \
    }
DEFINE_BLOCK(pair_signed, PAIR_QUAD, PAIR_SPLIT, SIGNED, SIGNED_END)
DEFINE_BLOCK(pair_unsigned, PAIR_QUAD, PAIR_SPLIT, UNSIGNED, UNSIGNED_END)
DEFINE_BLOCK(wide_signed, WIDE_QUAD, WIDE_SPLIT, SIGNED, SIGNED_END)
DEFINE_BLOCK(wide_unsigned, WIDE_QUAD, WIDE_SPLIT, UNSIGNED, UNSIGNED_END)

/* Widens `quads` times four inputs, at least four, of each of three pixels; returns the end of what it has written. */
static uint32_t *widen_quads(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads, uint32_t *to) {
    __asm__ volatile("1: ldr r7, [%[x]], #4\n ldr r8, [%[y]], #4\n ldr r9, [%[z]], #4\n"
                     "sxtb16 r4, r7\n sxtb16 r5, r8\n sxtb16 r6, r9\n"
                     "sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n sxtb16 r9, r9, ror #8\n"
                     "stmia %[to]!, {r4-r9}\n subs %[quads], #1\n bne 1b"
                     : [x] "+r"(x), [y] "+r"(y), [z] "+r"(z), [quads] "+r"(quads), [to] "+r"(to)
                     :
                     : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    return to;
}

/* The same for `rows` rows, whose ends lie `skip` bytes before the next ones. */
static void widen_rows(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads, uint32_t skip, uint32_t rows,
                       uint32_t *to) {
    uint32_t left;
    __asm__ volatile(
        "1: ldr %[left], %[quads]\n"
        "2: ldr r7, [%[x]], #4\n ldr r8, [%[y]], #4\n ldr r9, [%[z]], #4\n"
        "sxtb16 r4, r7\n sxtb16 r5, r8\n sxtb16 r6, r9\n"
        "sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n sxtb16 r9, r9, ror #8\n"
        "stmia %[to]!, {r4-r9}\n subs %[left], #1\n bne 2b\n"
        "ldr %[left], %[skip]\n add %[x], %[left]\n add %[y], %[left]\n add %[z], %[left]\n subs %[rows], #1\n bne 1b"
        : [x] "+r"(x), [y] "+r"(y), [z] "+r"(z), [rows] "+r"(rows), [to] "+r"(to), [left] "=&r"(left)
        : [quads] "m"(quads), [skip] "m"(skip)
        : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
}
#else
/* The output of the doubled sum x: with its sign, which only outputs below the zero point show (SMMLAR, SSAT). */
static int8_t output_of(int32_t x, const int32_t *scale, bool has_sign) {
    int32_t high = ml_smmlar(x, scale[0], scale[1]) + (has_sign ? x >> 31 : 0);
    return (int8_t)ml_saturate_s8(high >> (scale[2] & 31));
}

ML_INLINE void any_block(const block *b, bool wide, bool has_sign) {
    const int32_t *w = b->weights;
    uint32_t words = (wide ? 4u : 2u) * b->quads;
    int32_t offsets[PIXELS] = {0, b->second, b->third};
    uint32_t channels = (uint32_t)(b->output_end - b->output);
    for (uint32_t c = 0; c < channels; c += 2, w += words + 8u) {
        const int32_t *scales = w + 2 + words;
        for (uint32_t p = PIXELS; p-- != 0;) {
            int32_t upper = w[0], lower = w[1];
            const uint32_t *x = b->patch + p;
            for (uint32_t i = 0; i < 2u * b->quads; i++, x += PIXELS) {
                uint32_t word = (uint32_t)w[2 + (wide ? 2u * i + 1u : i)];
                upper = ml_smlad(word, *x, upper);
                lower = ml_smlad(wide ? (uint32_t)w[2 + 2u * i] : ml_even_bytes(word), *x, lower);
            }
            upper = wide ? upper : (upper - lower) >> 7;
            lower = wide ? lower : (int32_t)((uint32_t)lower << 1);
            int8_t *to = b->output + offsets[p] + c;
            to[0] = output_of(lower, scales, has_sign);
            if (c + 1u < channels) {
                to[1] = output_of(upper, scales + 3, has_sign);
            }
        }
    }
}

static void pair_signed(const block *b) { any_block(b, false, true); }
static void pair_unsigned(const block *b) { any_block(b, false, false); }
static void wide_signed(const block *b) { any_block(b, true, true); }
static void wide_unsigned(const block *b) { any_block(b, true, false); }

static uint32_t *widen_quads(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads, uint32_t *to) {
    for (; quads != 0; quads--, x += 4, y += 4, z += 4, to += 2u * PIXELS) {
        widen_words(ml_load_word(x), ml_load_word(y), ml_load_word(z), to);
    }
    return to;
}

static void widen_rows(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads, uint32_t skip, uint32_t rows,
                       uint32_t *to) {
    for (skip += 4u * quads; rows != 0; rows--, x += skip, y += skip, z += skip) {
        to = widen_quads(x, y, z, quads, to);
    }
}
#endif

/* The last 1 to 3 of `count` inputs at `from`, filled up. */
static uint32_t last_at(const int8_t *from, uint32_t count) {
    uint32_t rest = count & 3u, word = 0;
    if (count > 4) {
        return ml_load_word(from + count - 4) >> (8u * (4u - rest));
    }
    while (rest-- != 0) {
        word = word << 8 | (uint8_t)from[rest];
    }
    return word;
}

/* Widens `count` inputs of each of three pixels, filled up. */
static void widen(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t count, uint32_t *to) {
    if (count >= 4) {
        to = widen_quads(x, y, z, count / 4u, to);
    }
    if ((count & 3u) != 0) {
        widen_words(last_at(x, count), last_at(y, count), last_at(z, count), to);
    }
}

/* The window of one pixel: its first row and column, and where its first input lies in the image; numbers that have
 * wrapped where that is before the image. */
typedef struct place {
    uint32_t top, left, offset;
} place;

typedef struct gather {
    const ml_window *window;
    const int8_t *image;
    uint32_t *patch;
    int8_t *rows; /* of windows that lie outside in part, for each pixel, and one of padding; or joined windows */
    uint32_t row_bytes, row_quads, quads, image_row_bytes;
    uint32_t down_bytes; /* from a row of a window to the next */
    uint32_t inner,
        inner_rows; /* columns, rows before these begin windows that are read in place, whole quads of them */
    bool joined;
    int8_t padding;
} gather;

/* Whether rows of windows are put together, which takes less quads. */
static bool is_joined(const ml_window *w, uint32_t row_bytes) {
    return w->kernel_height * row_bytes + 3u < ((row_bytes + 3u) & ~3u) * w->kernel_height;
}

static uint32_t quads_of(const ml_window *w, uint32_t row_bytes) {
    bool joined = is_joined(w, row_bytes);
    return joined ? (w->kernel_height * row_bytes + 3u) / 4u : (row_bytes + 3u) / 4u * w->kernel_height;
}

/* From one of three joined windows to the next: the last row is written in whole words. */
static uint32_t joined_bytes(uint32_t quads) { return 4u * quads + 4u; }

/* Set and copy `count` bytes, most often so few that a call would cost more. A hostile program's scratch may overlap
 * its input. */
static inline void fill(int8_t *to, int8_t value, uint32_t count) {
    uint32_t word = (uint8_t)value * 0x01010101u, i = 0;
    for (; i + 4 <= count; i += 4) {
        ml_store_word(to + i, word);
    }
    for (; i < count; i++) {
        to[i] = value;
    }
}

static inline void copy(int8_t *to, const int8_t *from, uint32_t count) {
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        ml_store_word(to + i, ml_load_word(from + i));
    }
    for (; i < count; i++) {
        to[i] = from[i];
    }
}

/* One pixel's window, some columns of which may lie outside. */
typedef struct edge {
    uint32_t top, offset; /* of the first input that lies inside */
    uint32_t before, count; /* inputs of a row outside, inside */
    int8_t *row; /* made there, if not null */
} edge;

static edge edge_of(const gather *g, const place *p, int8_t *row) {
    const ml_window *w = g->window;
    uint32_t skipped = p->left < w->input_width ? 0 : ML_MIN(0u - p->left, w->kernel_width), first = p->left + skipped;
    uint32_t taps = first < w->input_width ? ML_MIN(w->kernel_width - skipped, w->input_width - first) : 0;
    uint32_t before = skipped * w->input_channels;
    return (edge){p->top, p->offset + before, before, taps * w->input_channels, row};
}

/* The row `down` below the window's first one, which lies at `offset` from that. */
static inline const int8_t *row_at(const gather *g, const edge *e, uint32_t down, uint32_t offset) {
    if (e->top + down >= g->window->input_height) {
        return g->rows + PIXELS * 4u * g->row_quads;
    }
    const int8_t *from = g->image + (uint32_t)(e->offset + offset); /* what has wrapped wraps back */
    if (e->row == NULL) {
        return from;
    }
    copy(e->row + e->before, from, e->count);
    return e->row;
}

/* Fills the patch with the windows at three places, some of which lie outside in part. */
static void gather_padded(const gather *g, const place *at) {
    uint32_t dilation = g->window->dilation_height, bytes = 4u * g->row_quads, *patch = g->patch;
    edge edges[PIXELS];
    for (uint32_t p = 0; p < PIXELS; p++) {
        bool whole = at[p].left < g->inner && g->row_bytes == bytes;
        edges[p] = edge_of(g, &at[p], whole ? NULL : g->rows + p * bytes);
        if (!whole) {
            fill(edges[p].row, g->padding, bytes); /* rows have the same columns outside */
        }
    }
    for (uint32_t ky = g->window->kernel_height, down = 0, offset = 0; ky != 0; ky--) {
        patch = widen_quads(row_at(g, &edges[0], down, offset), row_at(g, &edges[1], down, offset),
                            row_at(g, &edges[2], down, offset), g->row_quads, patch);
        down += dilation, offset += g->down_bytes;
    }
}

/* The same for windows whose rows are joined: these alone. */
static void join_padded(const gather *g, const place *at) {
    const ml_window *w = g->window;
    int8_t *window = g->rows;
    for (uint32_t p = 0; p < PIXELS; p++, window += joined_bytes(g->quads)) {
        edge e = edge_of(g, &at[p], NULL);
        int8_t *row = window + e.before;
        fill(window, g->padding, w->kernel_height * g->row_bytes);
        for (uint32_t ky = w->kernel_height; ky != 0; ky--, row += g->row_bytes) {
            if (e.top < w->input_height) {
                copy(row, g->image + e.offset, e.count);
            }
            e.top += w->dilation_height, e.offset += g->down_bytes;
        }
    }
}

/* Joins the rows of three windows that lie inside. */
static void join_inside(const gather *g, const int8_t *x, const int8_t *y, const int8_t *z) {
    uint32_t bytes = joined_bytes(g->quads), skip = g->down_bytes - 4u * g->row_quads;
    int8_t *to = g->rows, *next = to;
    for (uint32_t ky = g->window->kernel_height; ky != 0; ky--, x += skip, y += skip, z += skip) {
        to = next, next += g->row_bytes;
        for (; to < next; to += 4, x += 4, y += 4, z += 4) {
            ml_store_word(to, ml_load_word(x));
            ml_store_word(to + bytes, ml_load_word(y));
            ml_store_word(to + 2u * bytes, ml_load_word(z));
        }
    }
}

/* Fills the patch with the windows at three places. */
static void gather_patch(const gather *g, const place *at) {
    const int8_t *x = g->image + at[0].offset, *y = g->image + at[1].offset, *z = g->image + at[2].offset;
    bool inside = at[0].top < g->inner_rows && at[1].top < g->inner_rows && at[2].top < g->inner_rows &&
                  at[0].left < g->inner && at[1].left < g->inner && at[2].left < g->inner;
    if (!g->joined) {
        if (inside) {
            widen_rows(x, y, z, g->row_quads, g->down_bytes - 4u * g->row_quads, g->window->kernel_height, g->patch);
        } else {
            gather_padded(g, at);
        }
        return;
    }
    if (inside) {
        join_inside(g, x, y, z);
    } else {
        join_padded(g, at);
    }
    uint32_t bytes = joined_bytes(g->quads);
    widen_quads(g->rows, g->rows + bytes, g->rows + 2u * bytes, g->quads, g->patch);
}

/* Whether each window is the pixel at the output's own place: then an image is a run of them. */
static bool is_pointwise(const ml_window *w) {
    return w->kernel_height == 1 && w->kernel_width == 1 && w->stride_height == 1 && w->stride_width == 1 &&
           w->pad_top == 0 && w->pad_left == 0 && w->output_width == w->input_width &&
           w->output_height <= w->input_height;
}

/* Operands: input, stream of weights, output, scratch for the patch and for rows of windows or all of them. */
static ml_status check(const ml_conv_three_args *a, const ml_operand *operands, uint32_t quad_words) {
    const ml_window *w = &a->window;
    uint32_t row_bytes, quads;
    if (__builtin_mul_overflow(w->kernel_width, w->input_channels, &row_bytes) || row_bytes >= 1u << 16 ||
        (quads = quads_of(w, row_bytes)) - 1u >= (1u << 22) - 1u) { /* what follows fits 32 bits */
        return ML_ERR_OPERAND;
    }
    uint32_t rows = is_joined(w, row_bytes) ? joined_bytes(quads) * PIXELS : (row_bytes + 3u) / 4u * (PIXELS + 1u) * 4u;
    bool in_place = is_pointwise(w) || ((row_bytes & 3u) == 0 && ml_window_stays_inside(w));
    bool sound = w->dilation_width == 1 && w->output_channels - 1u < (1u << 16) - 1u &&
                 quads * 8u * PIXELS + (in_place ? 0 : rows) <= operands[3].bytes &&
                 ml_holds(&operands[1], 4, (w->output_channels + 1u) / 2u, quads * quad_words + 8u, 1, 1) &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void clamp_all(const ml_conv_three_args *a, int8_t *at, uint32_t count) {
    for (; count != 0; count--, at++) {
        *at = (int8_t)ml_clamp(*at, a->low, a->high);
    }
}

/* Computes the outputs of the `count` pixels in the patch, and goes on to those behind them. */
static inline void finish_block(const ml_conv_three_args *a, block *b, uint32_t count, void (*run)(const block *)) {
    uint32_t channels = a->window.output_channels;
    b->second = count > 1 ? (int32_t)channels : 0;
    b->third = count > 2 ? 2 * b->second : b->second;
    b->output_end = b->output + channels;
    run(b);
    if (a->low > -128 || a->high < 127) {
        clamp_all(a, b->output, count * channels);
    }
    b->output += count * channels;
}

/* Does what `convolve` does, where windows are single pixels. */
static void convolve_pointwise(const ml_conv_three_args *a, const int8_t *from, block *b, void (*run)(const block *)) {
    uint32_t inputs = a->window.input_channels;
    for (uint32_t left = a->window.output_height * a->window.output_width, count; left != 0; left -= count) {
        count = ML_MIN(left, PIXELS);
        const int8_t *y = from + (count > 1 ? inputs : 0), *z = y + (count > 2 ? inputs : 0);
        widen(from, y, z, inputs, b->scratch);
        finish_block(a, b, count, run);
        from += count * inputs;
    }
}

/* Computes one image; `b` has its first outputs, and in the end those behind it. */
static void convolve(const ml_conv_three_args *a, const gather *g, block *b, void (*run)(const block *)) {
    const ml_window *w = &a->window;
    uint32_t column = 0, step = w->stride_width * w->input_channels;
    place row = {0u - w->pad_top, 0u - w->pad_left,
                 0u - w->pad_top * g->image_row_bytes - w->pad_left * w->input_channels};
    place next = row;
    for (uint32_t left = w->output_height * w->output_width, count; left != 0; left -= count) {
        place places[PIXELS];
        count = ML_MIN(left, PIXELS);
        for (uint32_t p = 0; p < PIXELS; p++) {
            /* Where pixels are left over, the last is computed more than once. */
            places[p] = p < count ? next : places[p - 1u];
            next.left += w->stride_width;
            next.offset += step;
            if (++column == w->output_width) {
                column = 0;
                row.top += w->stride_height;
                row.offset += w->stride_height * g->image_row_bytes;
                next = row;
            }
        }
        gather_patch(g, places);
        finish_block(a, b, count, run);
    }
}

/* How windows are read; `end`: of the patch. */
static gather gather_of(const ml_conv_three_args *a, uint32_t quads, uint32_t *patch, uint32_t *end) {
    const ml_window *w = &a->window;
    gather g = {.window = w, .patch = patch, .rows = (int8_t *)(void *)end, .quads = quads};
    g.padding = (int8_t)a->padding;
    g.row_bytes = w->kernel_width * w->input_channels;
    g.row_quads = (g.row_bytes + 3u) / 4u;
    g.joined = is_joined(w, g.row_bytes);
    g.image_row_bytes = w->input_width * w->input_channels;
    g.down_bytes = w->dilation_height * g.image_row_bytes;
    g.inner = w->input_width >= w->kernel_width ? w->input_width - w->kernel_width + 1u : 0u;
    /* What the last quad of a row reads beyond it must lie in the image. */
    uint32_t reach = (w->kernel_height - 1u) * w->dilation_height + ((g.row_bytes & 3u) != 0 ? 1u : 0u);
    bool inside = w->input_height > reach && ((g.row_bytes & 3u) == 0 || g.image_row_bytes >= 3u);
    g.inner_rows = inside ? w->input_height - reach : 0u;
    return g;
}

static int32_t convolve_all(const ml_conv_three_args *a, void *const *operands, void (*run)(const block *)) {
    const ml_window *w = &a->window;
    uint32_t quads = quads_of(w, w->kernel_width * w->input_channels);
    uint32_t *scratch = operands[3], *end = scratch + 2u * PIXELS * quads;
    block b = {scratch, end, operands[2], NULL, 0, 0, operands[1], quads, scratch};
    gather g = gather_of(a, quads, scratch, end);
    g.image = operands[0];
    bool pointwise = is_pointwise(w);
    if (!pointwise && !g.joined && !((g.row_bytes & 3u) == 0 && ml_window_stays_inside(w))) {
        fill(g.rows + PIXELS * 4u * g.row_quads, g.padding, 4u * g.row_quads);
    }
    for (uint32_t image = 0; image < w->batches; image++, g.image += w->input_height * g.image_row_bytes) {
        if (pointwise) {
            convolve_pointwise(a, g.image, &b, run);
        } else {
            convolve(a, &g, &b, run);
        }
    }
    return 0;
}

/* Adding signs that do not show changes nothing: a small image needs half of the blocks. */
#ifdef __OPTIMIZE_SIZE__
#define SHOWS_SIGN(args) ((void)(args), true)
#else
#define SHOWS_SIGN(args) ((args)->has_sign)
#endif

ml_status ml_conv_pair_s8_check(const void *args, const ml_operand *operands) { return check(args, operands, 2); }

int32_t ml_conv_pair_s8(const void *args, void *const *operands) {
    const ml_conv_three_args *a = args;
    return convolve_all(a, operands, SHOWS_SIGN(a) ? pair_signed : pair_unsigned);
}

ml_status ml_conv_wide_s8_check(const void *args, const ml_operand *operands) { return check(args, operands, 4); }

int32_t ml_conv_wide_s8(const void *args, void *const *operands) {
    const ml_conv_three_args *a = args;
    return convolve_all(a, operands, SHOWS_SIGN(a) ? wide_signed : wide_unsigned);
}
