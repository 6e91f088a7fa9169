/* CONV_2D and FULLY_CONNECTED, int8, two products a multiplication: a word holds the inputs of two pixels, (b << 16) +
 * a, and so does its product with a weight.
 *
 * Products are added up in twos before the halves are told apart: the host has seen to it that the lower half of such a
 * sum stays in 16 bits. A pair of sums is a word of everything, modulo 2^32, and the sum of the upper halves; what is
 * left of the first without the second is the sum of the lower halves.
 *
 * Four pixels are spread out to words at a time, for all channels: [taps][2]. A row of a window is filled up to an even
 * number of taps with what has weights of 0. Weights are bytes: [taps / 2][4 channels][2] for each four channels, and
 * [taps] for each one that is left over. */
#include "../window_rows.h"
#include "rescale.h"

#define PIXELS 4u
#define CHANNELS 4u
#define GROUP_TAPS 2u
#define HALF 0x8000u

typedef struct block {
    const uint32_t *inputs;
    uint32_t groups; /* of taps */
    uint32_t next[PIXELS]; /* how far each pixel's outputs lie from the first one's */
    int32_t low, high; /* of outputs */
    bool has_sign;
} block;

/* Of two pairs of pixels. */
typedef struct sums {
    uint32_t all[2], high[2];
} sums;

typedef struct four {
    sums channels[CHANNELS];
} four;

/* Adds up the products of four pixels and `count` channels. HALF is added to each group, so that a shift makes its
 * upper half, and is part of `all`. */
ML_INLINE void add_groups(const uint32_t *x, const int8_t *weights, uint32_t groups, sums *s, uint32_t count) {
    memset(s, 0, count * sizeof *s);
    for (; groups != 0; groups--, x += 2u * GROUP_TAPS, weights += GROUP_TAPS * count) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t w0 = (uint32_t)weights[2u * i], w1 = (uint32_t)weights[2u * i + 1u];
            uint32_t group0 = x[0] * w0 + x[2] * w1 + HALF, group1 = x[1] * w0 + x[3] * w1 + HALF;
            s[i].all[0] += group0;
            s[i].all[1] += group1;
            s[i].high[0] += (uint32_t)((int32_t)group0 >> 16);
            s[i].high[1] += (uint32_t)((int32_t)group1 >> 16);
        }
    }
}

#if defined(__riscv) && !defined(__riscv_e)
/* clang-format off */
#define SPLIT(all, high, into) \
    "add " into ", " into ", %[half]\n add " all ", " all ", " into "\n srai " into ", " into ", 16\n" \
    "add " high ", " high ", " into "\n"
#define CHANNEL(at0, at1, all0, all1, high0, high1) \
    "lb t4, " at0 "(%[w])\n lb t5, " at1 "(%[w])\n" \
    "mul t6, t0, t4\n mul ra, t2, t5\n mul t4, t1, t4\n mul t5, t3, t5\n" \
    "add t6, t6, ra\n add t4, t4, t5\n" SPLIT(all0, high0, "t6") SPLIT(all1, high1, "t4")
#define GROUP(x0, x1, x2, x3, w0, w1, w2, w3, w4, w5, w6, w7) \
    "lw t0, " x0 "(%[x])\n lw t1, " x1 "(%[x])\n lw t2, " x2 "(%[x])\n lw t3, " x3 "(%[x])\n" \
    CHANNEL(w0, w1, "s0", "s1", "s2", "s3") CHANNEL(w2, w3, "s4", "s5", "s6", "s7") \
    CHANNEL(w4, w5, "s8", "s9", "s10", "s11") CHANNEL(w6, w7, "a0", "a1", "a2", "a3")
#define FOUR(line, r0, r1, r2, r3, at) \
    line " " r0 ", " at "+%[s]\n" line " " r1 ", 4+" at "+%[s]\n" \
    line " " r2 ", 8+" at "+%[s]\n" line " " r3 ", 12+" at "+%[s]\n"

/* All registers there are: compilers would move sums to memory and back. The loop takes two groups in a round, and
 * begins with the second one where their number is odd. */
ML_INLINE void add_four_channels(const uint32_t *x, const int8_t *weights, uint32_t groups, four *s) {
    uint32_t odd = groups & 1u;
    s->channels[0].all[0] = odd;
    register const uint32_t *at __asm__("a4") = x - 4u * odd, *end __asm__("a5") = x + 4u * groups;
    register const int8_t *w __asm__("a6") = weights - 8u * odd;
    register uint32_t half __asm__("a7") = HALF;
    __asm__ volatile(
        "lw t0, %[s]\n"
        "li s0, 0\n li s1, 0\n li s2, 0\n li s3, 0\n li s4, 0\n li s5, 0\n li s6, 0\n li s7, 0\n"
        "li s8, 0\n li s9, 0\n li s10, 0\n li s11, 0\n li a0, 0\n li a1, 0\n li a2, 0\n li a3, 0\n"
        "bnez t0, 2f\n"
        "1:" GROUP("0", "4", "8", "12", "0", "1", "2", "3", "4", "5", "6", "7")
        "2:" GROUP("16", "20", "24", "28", "8", "9", "10", "11", "12", "13", "14", "15")
        "addi %[x], %[x], 32\n addi %[w], %[w], 16\n bne %[x], %[end], 1b\n"
        FOUR("sw", "s0", "s1", "s2", "s3", "0") FOUR("sw", "s4", "s5", "s6", "s7", "16")
        FOUR("sw", "s8", "s9", "s10", "s11", "32") FOUR("sw", "a0", "a1", "a2", "a3", "48")
        : [x] "+r"(at), [w] "+r"(w), [s] "+m"(*s)
        : [end] "r"(end), [half] "r"(half)
        : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "ra", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9",
          "s10", "s11", "a0", "a1", "a2", "a3", "memory");
}
/* clang-format on */
#else
ML_INLINE void add_four_channels(const uint32_t *x, const int8_t *weights, uint32_t groups, four *s) {
    add_groups(x, weights, groups, s->channels, CHANNELS);
}
#endif

/* The outputs of some (`count`) channels of four pixels. */
ML_INLINE void finish(const block *b, const ml_channel *c, const sums *s, int8_t *output, uint32_t count,
                      bool has_sign) {
    const int8_t *end = output + count;
    for (; output != end; output++, c++, s++) {
        ml_channel channel = *c;
        uint32_t high_start = (uint32_t)channel.start, low_start = high_start - b->groups * HALF;
        uint32_t low0 = low_start + s->all[0] - (s->high[0] << 16), low1 = low_start + s->all[1] - (s->high[1] << 16);
        /* Where pixels have one place, the last is written first. */
        output[b->next[3]] = (int8_t)ml_rescaled(&channel, high_start + s->high[1], has_sign, b->low, b->high);
        output[b->next[2]] = (int8_t)ml_rescaled(&channel, low1, has_sign, b->low, b->high);
        output[b->next[1]] = (int8_t)ml_rescaled(&channel, high_start + s->high[0], has_sign, b->low, b->high);
        output[0] = (int8_t)ml_rescaled(&channel, low0, has_sign, b->low, b->high);
    }
}

/* All channels of four pixels. */
static void any_block(const block *constants, const int8_t *weights, const ml_channel *c, int8_t *output,
                      uint32_t channels) {
    block b = *constants;
    four s;
    for (uint32_t count; channels != 0; channels -= count, c += count, output += count) {
        count = channels >= CHANNELS ? CHANNELS : 1u;
        if (count == CHANNELS) {
            add_four_channels(b.inputs, weights, b.groups, &s);
        } else {
            add_groups(b.inputs, weights, b.groups, s.channels, 1);
        }
        weights += GROUP_TAPS * b.groups * count;
        if (b.has_sign) {
            finish(&b, c, s.channels, output, count, true);
        } else {
            finish(&b, c, s.channels, output, count, false);
        }
    }
}

/* Spreads one row of four windows; returns the end of what it wrote. */
static uint32_t *spread(const int8_t *const rows[PIXELS], uint32_t count, uint32_t *to) {
    const int8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *even = a + (count & ~1u);
#define SPREAD(i) ((uint32_t)a[i] + ((uint32_t)b[i] << 16)), to[2 * (i) + 1] = (uint32_t)c[i] + ((uint32_t)d[i] << 16)
    for (; a != even; a += 2, b += 2, c += 2, d += 2, to += 2u * GROUP_TAPS) {
        to[0] = SPREAD(0);
        to[2] = SPREAD(1);
    }
    if ((count & 1u) != 0) {
        to[0] = SPREAD(0);
        to[2] = to[3] = 0;
        to += 2u * GROUP_TAPS;
    }
    return to;
}

static void spread_windows(const ml_rows *g, const ml_place places[PIXELS], uint32_t *to) {
    for (uint32_t ky = 0, down = 0; ky < g->window->kernel_height; ky++, down += g->window->dilation_height) {
        const int8_t *rows[PIXELS];
        for (uint32_t p = 0; p < PIXELS; p++) {
            rows[p] = ml_row(g, places[p], down, p);
        }
        to = spread(rows, g->row_bytes, to);
    }
}

/* Operands: input, weights, channels, output, scratch for what is spread and for rows. */
ml_status ml_conv_four_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_four_args *a = args;
    const ml_window *w = &a->window;
    uint64_t row_bytes = (uint64_t)w->kernel_width * w->input_channels;
    uint64_t groups = (row_bytes + 1u) / GROUP_TAPS * w->kernel_height;
    uint64_t scratch = groups * 16u + (ml_rows_stay_inside(w) ? 0 : row_bytes * PIXELS);
    bool sound = groups != 0 && groups < 1u << 24 && row_bytes < 1u << 24 && scratch <= operands[4].bytes &&
                 ml_holds(&operands[1], GROUP_TAPS, w->output_channels, (uint32_t)groups, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), w->output_channels, 1, 1, 1) &&
                 ml_window_holds(w, &operands[0], 1, &operands[3], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_conv_four_s8(const void *args, void *const *operands) {
    const ml_conv_four_args *a = args;
    const ml_window *w = &a->window;
    uint32_t *inputs = operands[4], channels = w->output_channels;
    uint32_t groups = (w->kernel_width * w->input_channels + 1u) / GROUP_TAPS * w->kernel_height;
    block b = {inputs, groups, {0}, a->low, a->high, a->has_sign != 0};
    ml_rows g = ml_rows_of(w, operands[0], inputs + 2u * GROUP_TAPS * groups, a->padding);
    int8_t *output = operands[3];
    for (uint32_t image = 0; image < w->batches; image++, g.image += w->input_height * g.image_row_bytes) {
        ml_cursor next = ml_first_place(w);
        for (uint32_t left = w->output_height * w->output_width, count; left != 0; left -= count) {
            ml_place places[PIXELS];
            count = ML_MIN(left, PIXELS);
            ml_next_places(w, &next, count, PIXELS, places);
            spread_windows(&g, places, inputs);
            for (uint32_t p = 0; p < PIXELS; p++) {
                b.next[p] = ML_MIN(p, count - 1u) * channels;
            }
            any_block(&b, operands[1], operands[2], output, channels);
            output += count * channels;
        }
    }
    return 0;
}
