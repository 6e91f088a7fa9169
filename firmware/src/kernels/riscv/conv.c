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
#include "single.h"

#define PIXELS 4u
#define CHANNELS 4u
#define GROUP_TAPS ML_GROUP
#define HALF 0x8000u

/* Some channels of four pixels. The assembly code knows where its members lie. */
typedef struct block {
    uint32_t *inputs;
    const uint32_t *end;
    const int8_t *weights;
    const ml_channel *channels, *fours; /* the next channel; the end of those that come in fours */
    int8_t *to[PIXELS];
    int32_t low, high; /* of outputs */
    uint32_t has_sign;
    uint32_t odd; /* whether groups are */
} block;

/* The next channels, `count` at a time, for which HALF is added to each group, so that a shift makes its upper half. */
ML_INLINE void run_channels(block *b, const ml_channel *end, uint32_t count) {
    while (b->channels != end) {
        uint32_t all[2 * CHANNELS], high[2 * CHANNELS];
        for (uint32_t i = 0; i < count; i++) {
            high[2 * i] = high[2 * i + 1] = (uint32_t)b->channels[i].start;
            all[2 * i] = all[2 * i + 1] = high[2 * i] + (high[2 * i] << 16);
        }
        for (const uint32_t *x = b->inputs; x != b->end; x += 2u * GROUP_TAPS, b->weights += GROUP_TAPS * count) {
            for (uint32_t i = 0; i < 2u * count; i++) {
                const int8_t *w = b->weights + (i & ~1u);
                uint32_t w0 = (uint32_t)w[0], w1 = (uint32_t)w[1];
                uint32_t group = x[i & 1u] * w0 + x[2u + (i & 1u)] * w1;
                all[i] += group;
                high[i] += (uint32_t)((int32_t)(group + HALF) >> 16);
            }
        }
        for (uint32_t i = 0; i < 2u * count; i++) {
            const ml_channel *c = b->channels + i / 2u;
            uint32_t low = all[i] - (high[i] << 16), p = 2u * (i & 1u);
            *b->to[p]++ = (int8_t)ml_rescaled(c, low, b->has_sign, b->low, b->high);
            *b->to[p + 1u]++ = (int8_t)ml_rescaled(c, high[i], b->has_sign, b->low, b->high);
        }
        b->channels += count;
    }
}

#if defined(__riscv) && !defined(__riscv_e)
/* clang-format off */
/* t0 to t3: inputs; a4: where they lie; a5: their end; a6: weights; a7: HALF; s and a0 to a3: for each channel both sums
 * of everything and both of upper halves. */
#define START(at, all0, all1, high0, high1) \
    "lw " high0 ", " at "(a4)\n slli " all0 ", " high0 ", 16\n add " all0 ", " all0 ", " high0 "\n" \
    "mv " all1 ", " all0 "\n mv " high1 ", " high0 "\n"
#define SPLIT(all, high, into) \
    "add " all ", " all ", " into "\n add " into ", " into ", a7\n srai " into ", " into ", 16\n" \
    "add " high ", " high ", " into "\n"
#define CHANNEL(at0, at1, all0, all1, high0, high1) \
    "lb t4, " at0 "(a6)\n lb t5, " at1 "(a6)\n" \
    "mul t6, t0, t4\n mul ra, t2, t5\n mul t4, t1, t4\n mul t5, t3, t5\n" \
    "add t6, t6, ra\n add t4, t4, t5\n" SPLIT(all0, high0, "t6") SPLIT(all1, high1, "t4")
#define GROUP(x0, x1, x2, x3, w0, w1, w2, w3, w4, w5, w6, w7) \
    "lw t0, " x0 "(a4)\n lw t1, " x1 "(a4)\n lw t2, " x2 "(a4)\n lw t3, " x3 "(a4)\n" \
    CHANNEL(w0, w1, "s0", "s1", "s2", "s3") CHANNEL(w2, w3, "s4", "s5", "s6", "s7") \
    CHANNEL(w4, w5, "s8", "s9", "s10", "s11") CHANNEL(w6, w7, "a0", "a1", "a2", "a3")
/* t0 to t3: outputs; a4: channels; a5, a6: the least and greatest output; ra: whether there is a sign; a7, t4, t5:
 * multiplier, offset and shift. */
#define OUTPUT(sum, to) \
    "slli t6, " sum ", 2\n mulh t6, t6, a7\n add t6, t6, t4\n" \
    "beqz ra, 4f\n srli " sum ", " sum ", 31\n slli " sum ", " sum ", 1\n sub t6, t6, " sum "\n" \
    "4: sra t6, t6, t5\n bge t6, a5, 5f\n mv t6, a5\n 5: bge a6, t6, 6f\n mv t6, a6\n 6: sb t6, " to "\n"
#define OUTPUTS(i, multiplier, offset, shift, all0, all1, high0, high1) \
    "lw a7, " multiplier "(a4)\n lw t4, " offset "(a4)\n lw t5, " shift "(a4)\n" \
    "slli t6, " high0 ", 16\n sub " all0 ", " all0 ", t6\n slli t6, " high1 ", 16\n sub " all1 ", " all1 ", t6\n" \
    OUTPUT(all0, i "(t0)") OUTPUT(high0, i "(t1)") OUTPUT(all1, i "(t2)") OUTPUT(high1, i "(t3)")

/* All registers there are: compilers would move sums to memory and back. The loop takes two groups in a round, and
 * begins with the second one where their number is odd. */
ML_INLINE void run_fours(block *b) {
    __asm__ volatile(
        "1: lw a4, 12+%[b]\n"
        START("0", "s0", "s1", "s2", "s3") START("16", "s4", "s5", "s6", "s7")
        START("32", "s8", "s9", "s10", "s11") START("48", "a0", "a1", "a2", "a3")
        "lw a4, %[b]\n lw a5, 4+%[b]\n lw a6, 8+%[b]\n lui a7, 8\n lw t0, 48+%[b]\n"
        "beqz t0, 2f\n addi a4, a4, -16\n addi a6, a6, -8\n j 3f\n"
        "2:" GROUP("0", "4", "8", "12", "0", "1", "2", "3", "4", "5", "6", "7")
        "3:" GROUP("16", "20", "24", "28", "8", "9", "10", "11", "12", "13", "14", "15")
        "addi a4, a4, 32\n addi a6, a6, 16\n bne a4, a5, 2b\n"
        "sw a6, 8+%[b]\n lw a4, 12+%[b]\n lw a5, 36+%[b]\n lw a6, 40+%[b]\n lw ra, 44+%[b]\n"
        "lw t0, 20+%[b]\n lw t1, 24+%[b]\n lw t2, 28+%[b]\n lw t3, 32+%[b]\n"
        OUTPUTS("0", "4", "8", "12", "s0", "s1", "s2", "s3")
        OUTPUTS("1", "20", "24", "28", "s4", "s5", "s6", "s7")
        OUTPUTS("2", "36", "40", "44", "s8", "s9", "s10", "s11")
        OUTPUTS("3", "52", "56", "60", "a0", "a1", "a2", "a3")
        "addi t0, t0, 4\n addi t1, t1, 4\n addi t2, t2, 4\n addi t3, t3, 4\n"
        "sw t0, 20+%[b]\n sw t1, 24+%[b]\n sw t2, 28+%[b]\n sw t3, 32+%[b]\n"
        "lw t0, 16+%[b]\n addi a4, a4, 64\n sw a4, 12+%[b]\n beq a4, t0, 7f\n j 1b\n 7:"
        : [b] "+m"(*b)
        :
        : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "ra", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9",
          "s10", "s11", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "memory");
}
/* clang-format on */
#else
ML_INLINE void run_fours(block *b) { run_channels(b, b->fours, CHANNELS); }
#endif

/* All channels of four pixels. */
static void run_block(const block *first, uint32_t channels) {
    block b = *first;
    if (b.channels != b.fours) {
        run_fours(&b);
    }
    run_channels(&b, first->channels + channels, 1);
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

/* All channels of a single pixel: in a block it would take the time of four. */
static void run_pixel(const block *b, const ml_rows *g, ml_place place, int8_t *output) {
    const ml_window *w = g->window;
    int8_t *inputs = (int8_t *)b->inputs, *to = inputs;
    for (uint32_t ky = 0, down = 0; ky < w->kernel_height; ky++, down += w->dilation_height) {
        memmove(to, ml_row(g, place, down, 0), g->row_bytes);
        to += (g->row_bytes + 1u) & ~1u;
    }
    const ml_single single = {.inputs = inputs,
                              .weights = b->weights,
                              .channels = b->channels,
                              .output = output,
                              .input_count = (uint32_t)(to - inputs),
                              .output_count = w->output_channels,
                              .has_sign = b->has_sign != 0,
                              .low = b->low,
                              .high = b->high};
    ml_run_single(&single);
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
    block b = {.inputs = inputs, .end = inputs + 2u * GROUP_TAPS * groups, .weights = operands[1]};
    b.channels = operands[2];
    b.fours = b.channels + (channels & ~(CHANNELS - 1u));
    b.low = a->low;
    b.high = a->high;
    b.has_sign = a->has_sign;
    b.odd = groups & 1u;
    ml_rows g = ml_rows_of(w, operands[0], inputs + 2u * GROUP_TAPS * groups, a->padding);
    int8_t *output = operands[3];
    for (uint32_t image = 0; image < w->batches; image++, g.image += w->input_height * g.image_row_bytes) {
        ml_cursor next = ml_first_place(w);
        for (uint32_t left = w->output_height * w->output_width, count; left != 0; left -= count) {
            ml_place places[PIXELS];
            count = ML_MIN(left, PIXELS);
            ml_next_places(w, &next, count, PIXELS, places);
            if (count == 1) {
                run_pixel(&b, &g, places[0], output);
                output += channels;
                continue;
            }
            spread_windows(&g, places, inputs);
            for (uint32_t p = 0; p < PIXELS; p++) {
                b.to[p] = output + ML_MIN(p, count - 1u) * channels;
            }
            run_block(&b, channels);
            output += count * channels;
        }
    }
    return 0;
}
