/* CONV_2D and FULLY_CONNECTED, int8: blocks of three pixels and two channels.
 *
 * The inputs under the windows of three pixels are widened to 16 bits once, for all channels: see patch.h.
 *
 * Weights are a stream, for each pair of channels: two start values; words for each four inputs, two (`pair`) or four
 * (`wide`); (multiplier, offset, shift) of the lower channel and of the upper, but for the shift that all have in
 * common. sdk/variants/arm_dsp_conv.py makes it.
 */
#include "patch.h"

typedef struct block {
    uint32_t *patch, *patch_end;
    int8_t *output, *output_end; /* of the first pixel; an even number of channels */
    int32_t second, third; /* where the other pixels' outputs lie from there */
    const int32_t *weights;
    uint32_t quads; /* of inputs */
    uint32_t more; /* blocks behind it, of single pixels of whole quads that lie there; an image for size has no such */
    const int8_t *input; /* of the next of them */
    uint32_t inputs; /* of a pixel */
} block;

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
/* The same for a sum times the power of 2 that gives its channel the common shift. */
#define COMMON(x, to) \
    "smmla " x ", " x ", r0, r1\n ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n strb " x ", " to "\n"
#define SCALES "ldmia lr!, {r0, r1, r2}\n"
#define COMMON_SCALES "ldrd r0, r1, [lr], #8\n"
#define CHANNEL(out, scales, x, y, z) scales out(z, "[r11, r4]") out(y, "[r11, r3]") out(x, "[r11], #1")

/* An image for size asks in each block whether there is an upper channel; others see to it that there is: last_channel
 */
#ifdef __OPTIMIZE_SIZE__
#define IF_UPPER(end_again) end_again "cmp r11, r12\n beq 11f\n"
#else
#define IF_UPPER(end_again)
#endif
/* Goes to the next block, if there is one, and widens its inputs: what `pair` kernels leave to their caller, for the
 * sake of their size. */
#define WIDE_NEXT                                                                                  \
    "ldr r0, %[more]\n subs r0, r0, #1\n bmi 11f\n str r0, %[more]\n"                              \
    "add r11, r11, r4\n add r12, r11, r3\n strd r11, r12, %[output]\n"                             \
    "ldrd r0, r2, %[input]\n add r1, r0, r2\n add r2, r1, r2\n ldrd r11, r12, %[patch]\n"          \
    "21: ldr r6, [r0], #4\n ldr r7, [r1], #4\n ldr r8, [r2], #4\n sxtb16 r3, r6\n sxtb16 r4, r7\n" \
    "sxtb16 r5, r8\n sxtb16 r6, r6, ror #8\n sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n"      \
    "stmia r11!, {r3-r8}\n cmp r11, r12\n bne 21b\n str r2, %[input]\n ldr lr, %[weights]\n b 1b\n"
#define PAIR_NEXT

/* All channels of one block, and of those behind it. The first four inputs turn start values into sums; a loop of 4, 8
 * or 16 times four does the others, which the table enters where their number asks for it. */
/* clang-format off */
#define DEFINE_BLOCK(name, unrolled, loop, quad, split, out, scales, end_again, next)                                   \
    static void name(const block *b) {                                                                              \
        block f = *b;                                                                                               \
        const void *entry;                                                                                          \
        register const int32_t *weights __asm__("r0") = f.weights;                                                  \
        register uint32_t rest __asm__("r1") = ML_FIRST_ROUND(f.quads - 1u, unrolled);                              \
        __asm__ volatile(                                                                                           \
            "mov lr, r0\n adr r0, 12f\n ldr r0, [r0, r1, lsl #2]\n str r0, %[entry]\n"                              \
            "1: ldrd r11, r12, %[patch]\n ldrd r7, r10, [lr], #8\n" quad(FIRST_UPPER, FIRST_LOWER)                  \
            "ldr pc, %[entry]\n .balign 4\n 12:" ML_ENTRIES_##unrolled                                              \
            loop(quad(UPPER, LOWER)) "cmp r11, r12\n bne 2b\n"                                                      \
            "10:" split "ldrd r11, r12, %[output]\n ldrd r3, r4, %[second]\n"                                       \
            CHANNEL(out, scales, "r8", "r9", "r10") IF_UPPER(end_again) CHANNEL(out, scales, "r5", "r6", "r7") end_again                \
            "str r11, %[output]\n cmp r11, r12\n bne 1b\n" next "11:"                                               \
            : "+r"(weights), "+r"(rest), [output] "+m"(f.output), [end] "+m"(f.output_end), [entry] "=m"(entry),    \
              [more] "+m"(f.more), [input] "+m"(f.input)                                                            \
            : [patch] "m"(f.patch), "m"(f.patch_end), [second] "m"(f.second), "m"(f.third), "m"(f.inputs),          \
              [weights] "m"(f.weights)                                                                              \
            : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");           \
    }
/* clang-format on */
DEFINE_BLOCK(pair_signed, 4, ML_FOUR, PAIR_QUAD, PAIR_SPLIT, SIGNED, SCALES, SIGNED_END, PAIR_NEXT)
DEFINE_BLOCK(pair_unsigned, 4, ML_FOUR, PAIR_QUAD, PAIR_SPLIT, UNSIGNED, SCALES, UNSIGNED_END, PAIR_NEXT)
DEFINE_BLOCK(wide_signed, 8, ML_EIGHT, WIDE_QUAD, WIDE_SPLIT, SIGNED, SCALES, SIGNED_END, WIDE_NEXT)
DEFINE_BLOCK(wide_common, 16, ML_SIXTEEN, WIDE_QUAD, WIDE_SPLIT, COMMON, COMMON_SCALES, UNSIGNED_END, WIDE_NEXT)

#else
/* How sums become outputs: with their sign, which only outputs below the zero point show; without it; with the common
 * shift, for sums times a power of 2. */
typedef enum finish { SIGNED, UNSIGNED, COMMON } finish;

/* The output of the doubled sum x (SMMLAR, SSAT), or of one times a power of 2 (SMMLA). */
static int8_t output_of(int32_t x, const int32_t *scale, finish how) {
    if (how == COMMON) {
        return (int8_t)ml_saturate_s8(ml_smmla(x, scale[0], scale[1]) >> COMMON_SHIFT);
    }
    int32_t high = ml_smmlar(x, scale[0], scale[1]) + (how == SIGNED ? x >> 31 : 0);
    return (int8_t)ml_saturate_s8(high >> (scale[2] & 31));
}

ML_INLINE void one_block(const block *b, bool wide, finish how) {
    const int32_t *w = b->weights;
    uint32_t words = (wide ? 4u : 2u) * b->quads;
    int32_t offsets[PIXELS] = {0, b->second, b->third};
    uint32_t channels = (uint32_t)(b->output_end - b->output);
    uint32_t scale_words = how == COMMON ? 2u : 3u;
    for (uint32_t c = 0; c < channels; c += 2, w += 2u + words + 2u * scale_words) {
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
            to[0] = output_of(lower, scales, how);
            if (c + 1u < channels) {
                to[1] = output_of(upper, scales + scale_words, how);
            }
        }
    }
}

ML_INLINE void any_block(const block *given, bool wide, finish how) {
    block b = *given;
    one_block(&b, wide, how);
    for (; b.more != 0; b.more--, b.input += PIXELS * b.inputs) {
        widen_quads(b.input, b.input + b.inputs, b.input + 2u * b.inputs, b.quads, b.patch);
        b.output += b.second + b.third, b.output_end += b.second + b.third;
        one_block(&b, wide, how);
    }
}

static void pair_signed(const block *b) { any_block(b, false, SIGNED); }
static void pair_unsigned(const block *b) { any_block(b, false, UNSIGNED); }
static void wide_signed(const block *b) { any_block(b, true, SIGNED); }
static void wide_common(const block *b) { any_block(b, true, COMMON); }
#endif

/* Whether each window is the pixel at the output's own place: then an image is a run of them. */
static bool is_pointwise(const ml_window *w) {
    return w->kernel_height == 1 && w->kernel_width == 1 && w->stride_height == 1 && w->stride_width == 1 &&
           w->pad_top == 0 && w->pad_left == 0 && w->output_width == w->input_width &&
           w->output_height <= w->input_height;
}

/* A kernel's way through its blocks. */
#define PAIR_WORDS 2u
#define WIDE_WORDS 4u
typedef struct form {
    void (*run)(const block *);
    uint32_t quad_words, other_words; /* of the weights of two channels */
} form;

/* Operands: input, stream of weights, output, scratch for the patch and for rows of windows or all of them. */
static ml_status check(const ml_conv_three_args *a, const ml_operand *operands, const form *f) {
    const ml_window *w = &a->window;
    uint32_t row_bytes, quads;
    if (__builtin_mul_overflow(w->kernel_width, w->input_channels, &row_bytes) || row_bytes >= 1u << 16 ||
        (quads = quads_of(w, row_bytes)) - 1u >= (1u << 22) - 1u) { /* what follows fits 32 bits */
        return ML_ERR_OPERAND;
    }
    uint32_t rows = is_joined(w, row_bytes) ? 4u * quads * PIXELS : (row_bytes + 3u) / 4u * (PIXELS + 1u) * 4u;
    bool in_place = is_pointwise(w) || ((row_bytes & 3u) == 0 && ml_window_stays_inside(w));
    bool sound =
        w->dilation_width == 1 && w->output_channels - 1u < (1u << 16) - 1u &&
        quads * 8u * PIXELS + (in_place ? 0 : rows) <= operands[3].bytes &&
        ml_holds(&operands[1], 4, (w->output_channels + 1u) / 2u, quads * f->quad_words + f->other_words, 1, 1) &&
        ml_window_holds(w, &operands[0], 1, &operands[2], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

typedef struct job {
    block block;
    const form *form;
    uint32_t channels; /* of the output */
} job;

/* Makes blocks of so many pixels. */
__attribute__((noinline)) static void set_pixels(job *j, uint32_t count) {
    j->block.second = count > 1 ? (int32_t)j->channels : 0;
    j->block.third = (int32_t)((count - 1u) * j->channels);
}

/* The last of an odd number of channels: of what the kernel computes, two channels, one is for nothing. */
__attribute__((noinline)) static void last_channel(const job *j) {
    const block *b = &j->block;
    int8_t both[2u * PIXELS], *to = b->output_end;
    const int32_t *weights = b->weights + j->channels / 2u * (b->quads * j->form->quad_words + j->form->other_words);
    block last = {b->patch, b->patch_end, both, both + 2, 2, 4, weights, b->quads, 0, NULL, 0};
    j->form->run(&last);
    to[b->third] = both[4], to[b->second] = both[2], to[0] = both[0];
}

/* Computes the outputs of the pixels in the patch, and goes on to those behind them. */
__attribute__((noinline)) static void finish_block(job *j) {
    uint32_t odd = SMALL ? 0 : j->channels & 1u;
    j->block.output_end = j->block.output + (j->channels - odd);
    if (j->channels != odd) {
        j->form->run(&j->block);
    }
    if (odd != 0) {
        last_channel(j);
    }
    j->block.output += (uint32_t)j->block.third + j->channels;
}

/* Computes the outputs of whole blocks of single pixels, as many as there are; returns how many pixels. */
static uint32_t pointwise_blocks(const int8_t *from, uint32_t inputs, uint32_t pixels, job *j) {
    uint32_t blocks = pixels / PIXELS;
    if (SMALL || j->form->quad_words != WIDE_WORDS || blocks == 0 || (inputs & 3u) != 0 || (j->channels & 1u) != 0) {
        return 0;
    }
    set_pixels(j, PIXELS);
    widen_quads(from, from + inputs, from + 2u * inputs, inputs / 4u, j->block.patch);
    j->block.more = blocks - 1u, j->block.input = from + PIXELS * inputs, j->block.inputs = inputs;
    finish_block(j);
    j->block.more = 0;
    j->block.output += (blocks - 1u) * PIXELS * j->channels;
    return blocks * PIXELS;
}

/* Does what `convolve` does, where windows are single pixels. */
static void convolve_pointwise(const ml_window *w, const int8_t *from, job *j) {
    uint32_t inputs = w->input_channels, pixels = w->output_height * w->output_width;
    uint32_t done = pointwise_blocks(from, inputs, pixels, j);
    from += done * inputs;
    for (uint32_t left = pixels - done, count; left != 0; left -= count, from += count * inputs) {
        count = ML_MIN(left, PIXELS);
        set_pixels(j, count);
        widen(from, from + (count > 1 ? inputs : 0), from + (count - 1u) * inputs, inputs, j->block.patch);
        finish_block(j);
    }
}

/* The window of the output in `column`; where the window of the first in its row lies. */
typedef struct cursor {
    place at, row;
    uint32_t column;
} cursor;

static inline void go_on(cursor *c, const gather *g, uint32_t pixels) {
    const ml_window *w = g->window;
    c->at.left += pixels * w->stride_width;
    c->at.offset += pixels * w->stride_width * w->input_channels;
    c->column += pixels;
    if (c->column == w->output_width) {
        c->column = 0;
        c->row.top += w->stride_height;
        c->row.offset += w->stride_height * g->image_row_bytes;
        c->at = c->row;
    }
}

/* Whether the next three windows lie side by side, inside. */
static inline bool are_inside(const cursor *c, const gather *g) {
    const ml_window *w = g->window;
    return c->column + PIXELS <= w->output_width && c->at.top < g->inner_rows && c->at.left < g->inner &&
           c->at.left + (PIXELS - 1u) * w->stride_width < g->inner;
}

/* Computes blocks of such windows as long as they go on, as most do; returns how many pixels. */
__attribute__((noinline)) static uint32_t convolve_inside(const gather *g, job *j, cursor *c) {
    const ml_window *w = g->window;
    const int8_t *x = g->image + c->at.offset;
    uint32_t step = w->stride_width * w->input_channels, room = w->output_width - c->column, pixels = 0;
    uint32_t last = c->at.left + (PIXELS - 1u) * w->stride_width;
    do {
        widen_windows(g, x, x + step, x + 2u * step, g->down_bytes);
        finish_block(j);
        x += PIXELS * step, last += PIXELS * w->stride_width, pixels += PIXELS;
    } while (pixels + PIXELS <= room && last < g->inner);
    go_on(c, g, pixels);
    return pixels;
}

/* Fills the patch with the next `count` windows, the last of them more than once where that is fewer than three. */
static void gather_next(const gather *g, cursor *next, uint32_t count) {
    place at[PIXELS];
    for (uint32_t p = 0; p < PIXELS; p++) {
        at[p] = p < count ? next->at : at[p - 1u];
        go_on(next, g, 1);
    }
    if (g->inside) {
        widen_windows(g, g->image + at[0].offset, g->image + at[1].offset, g->image + at[2].offset, g->down_bytes);
    } else if (g->joined) {
        gather_joined(g, at);
    } else {
        gather_padded(g, at);
    }
}

/* Computes one image; `j` has its first outputs, and in the end those behind it. */
static void convolve(const gather *g, job *j) {
    const ml_window *w = g->window;
    place first = {0u - w->pad_top, 0u - w->pad_left,
                   0u - w->pad_top * g->image_row_bytes - w->pad_left * w->input_channels};
    cursor next = {first, first, 0};
    set_pixels(j, PIXELS);
    for (uint32_t left = w->output_height * w->output_width, count; left != 0; left -= count) {
        if (are_inside(&next, g)) {
            count = convolve_inside(g, j, &next);
            continue;
        }
        count = ML_MIN(left, PIXELS);
        gather_next(g, &next, count);
        if (SMALL || count != PIXELS) {
            set_pixels(j, count);
        }
        finish_block(j);
    }
}

/* Once in an image, not in all that call it. */
__attribute__((noinline)) static int32_t convolve_all(const ml_conv_three_args *a, void *const *operands,
                                                      const form *f) {
    const ml_window *w = &a->window;
    uint32_t quads = quads_of(w, w->kernel_width * w->input_channels);
    uint32_t *scratch = operands[3], *end = scratch + 2u * PIXELS * quads;
    job j = {{scratch, end, operands[2], NULL, 0, 0, operands[1], quads, 0, NULL, 0}, f, w->output_channels};
    gather g = {.image = operands[0]};
    set_gather(&g, w, a->padding, scratch, end);
    bool pointwise = is_pointwise(w);
    bool inside = (g.joined || (g.row_bytes & 3u) == 0) && ml_window_stays_inside(w);
    g.inside = !SMALL && inside;
    if (!g.joined && !inside && !pointwise) {
        fill(g.rows + PIXELS * 4u * g.row_quads, g.padding, 4u * g.row_quads);
    }
    for (uint32_t image = 0; image < w->batches; image++, g.image += w->input_height * g.image_row_bytes) {
        if (pointwise) {
            convolve_pointwise(w, g.image, &j);
        } else {
            convolve(&g, &j);
        }
    }
    for (int8_t *at = operands[2]; (a->low > -128 || a->high < 127) && at != j.block.output; at++) {
        *at = (int8_t)ml_clamp(*at, a->low, a->high);
    }
    return 0;
}

#define DEFINE_KERNEL(name, quad_words, other_words, run)                       \
    static const form name##_form = {run, quad_words, other_words};             \
    ml_status ml_##name##_check(const void *args, const ml_operand *operands) { \
        return check(args, operands, &name##_form);                             \
    }                                                                           \
    int32_t ml_##name(const void *args, void *const *operands) { return convolve_all(args, operands, &name##_form); }
DEFINE_KERNEL(conv_pair_s8, PAIR_WORDS, 8, pair_signed)
DEFINE_KERNEL(conv_pair_unsigned_s8, PAIR_WORDS, 8, pair_unsigned)
DEFINE_KERNEL(conv_wide_s8, WIDE_WORDS, 8, wide_signed)
DEFINE_KERNEL(conv_wide_common_s8, WIDE_WORDS, 6, wide_common)
