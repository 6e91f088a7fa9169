/* CONV_2D and FULLY_CONNECTED, int8: all channels of a block of pixels, one after the other.
 *
 * The inputs under the windows of the block are widened to 16 bits once, with 128 added, which the start values undo: a
 * word holds inputs (0, 2) or (1, 3) of four. A row of a window is filled up to a multiple of four with what has
 * weights of 0. Weights are words like that, for each channel those of a window and the first of them once more. */
#include "../thumb/rescale.h"
#include "../window_rows.h"

#define OFFSETS 0x80808080u /* 128 for each input of four */
#define EVEN_BYTES 0x00FF00FFu

/* The assembly code knows where its members lie. */
typedef struct block {
    const uint32_t *inputs;
    const uint32_t *weights;
    const ml_channel *channels;
    int8_t *output; /* of the first pixel */
    int8_t *end; /* of its channels */
    uint32_t quads; /* of inputs */
    uint32_t next; /* how far apart the outputs of pixels lie */
    uint32_t last; /* how far behind the first pixel's those of the last one */
    uint32_t kept; /* a register */
} block;

#if defined(__XTENSA__)
/* clang-format off */
#define SIGN "srai a14, a14, 31\n slli a14, a14, 13\n add a15, a15, a14\n"
/* a2: block; a3: inputs; a4: weights; a5: quads; a6: start; a7, a8: parts of the multiplier; a9: offset; a10, a11: least
 * and greatest sum; a12: output; a13: of the last pixel; a0: from one pixel to the next; a14, a15: sums. Pointers lie a
 * word behind what is loaded next; m0 and m1 hold inputs, m2 and m3 weights. What loops begin with lies in one word. */
#define RUN_BLOCK(sign)                                                                      \
    __asm__ volatile(                                                                        \
        "s32i a0, a2, 32\n l32i a0, a2, 24\n"                                                \
        "l32i a4, a2, 4\n addi a4, a4, -4\n l32i a5, a2, 20\n l32i a12, a2, 12\n"            \
        "l32i a15, a2, 28\n add a13, a12, a15\n sub a12, a12, a0\n"                          \
        "1: l32i a14, a2, 8\n l32i a6, a14, 0\n l32i a9, a14, 4\n l32i a7, a14, 8\n"         \
        "l32i a10, a14, 12\n l32i a11, a14, 16\n addi a14, a14, 20\n s32i a14, a2, 8\n"      \
        "extui a8, a7, 16, 16\n sext a7, a7, 15\n ssr a10\n srai a10, a10, 8\n"              \
        "l32i a3, a2, 0\n addi a3, a3, -4\n"                                                 \
        "ldinc m2, a4\n ldinc m0, a3\n ldinc m1, a3\n j 2f\n"                                \
        ".balign 4\n"                                                                        \
        "2: wsr a6, acclo\n add.n a12, a12, a0\n loop a5, 3f\n"                              \
        "mula.dd.ll.ldinc m3, a4, m0, m2\n mula.dd.hh.ldinc m0, a3, m0, m2\n"                \
        "mula.dd.ll.ldinc m2, a4, m1, m3\n mula.dd.hh.ldinc m1, a3, m1, m3\n"                \
        "3: rsr a14, acclo\n slli a15, a5, 3\n sub a4, a4, a15\n"                            \
        "max a14, a14, a10\n min a14, a14, a11\n"                                            \
        "mull a15, a14, a7\n srai a15, a15, 13\n add a15, a15, a9\n"                         \
        "mull a14, a14, a8\n add a15, a15, a14\n" sign                                       \
        "sra a15, a15\n s8i a15, a12, 0\n bne a12, a13, 2b\n"                                \
        "addx8 a4, a5, a4\n l32i a15, a2, 28\n l32i a14, a2, 16\n addi a13, a13, 1\n"        \
        "sub a12, a13, a15\n beq a12, a14, 4f\n sub a12, a12, a0\n j 1b\n"                   \
        "4: l32i a0, a2, 32\n"                                                               \
        : "+r"(b)                                                                            \
        :                                                                                    \
        : "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11", "a12", "a13", "a14", "a15", "memory")
/* clang-format on */

static void run_block(block *job, bool has_sign) {
    register block *b __asm__("a2") = job;
    if (has_sign) {
        RUN_BLOCK(SIGN);
    } else {
        RUN_BLOCK("");
    }
}
#else
static int32_t product(uint32_t input, uint32_t weight) {
    return (int16_t)input * (int16_t)weight + ((int32_t)input >> 16) * ((int32_t)weight >> 16);
}

/* `has_sign` saves work where no sum that is kept is negative. */
static void run_block(block *b, bool has_sign) {
    (void)has_sign;
    const uint32_t *weights = b->weights;
    for (int8_t *output = b->output; output != b->end; output++, weights += 2u * b->quads + 1u) {
        const ml_channel *c = b->channels++;
        const uint32_t *inputs = b->inputs;
        for (uint32_t at = 0; at <= b->last; at += b->next) {
            int32_t sum = c->start;
            for (uint32_t i = 0; i < 2u * b->quads; i++) {
                sum += product(*inputs++, weights[i]);
            }
            output[at] = ml_rescaled(&c->scale, sum, true);
        }
    }
}
#endif

static inline uint32_t load_word(const int8_t *aligned) {
    uint32_t word;
    __builtin_memcpy(&word, __builtin_assume_aligned(aligned, 4), sizeof word);
    return word;
}

static inline uint32_t *widen_word(uint32_t word, uint32_t *to) {
    word ^= OFFSETS;
    to[0] = word & EVEN_BYTES;
    to[1] = word >> 8 & EVEN_BYTES;
    return to + 2;
}

/* Up to four inputs; behind the last of them comes what is not 0, but has weights of 0. */
static inline uint32_t *widen_bytes(const int8_t *from, uint32_t count, uint32_t *to) {
    const uint8_t *b = (const uint8_t *)from;
    uint32_t word = b[0];
    if (count > 1) word |= (uint32_t)b[1] << 8;
    if (count > 2) word |= (uint32_t)b[2] << 16;
    if (count > 3) word |= (uint32_t)b[3] << 24;
    return widen_word(word, to);
}

/* Widens `count` inputs, filled up; returns the end of what it has written. */
static uint32_t *widen(const int8_t *from, uint32_t count, uint32_t *to) {
    const int8_t *end = from + (count & ~3u);
    if (((uintptr_t)from & 3u) == 0) {
        for (; from != end; from += 4) {
            to = widen_word(load_word(from), to);
        }
    } else {
        for (; from != end; from += 4) {
            to = widen_bytes(from, 4, to);
        }
    }
    return (count & 3u) == 0 ? to : widen_bytes(from, count & 3u, to);
}

static uint32_t *widen_window(const ml_rows *g, ml_place place, uint32_t *to) {
    for (uint32_t ky = 0, down = 0; ky < g->window->kernel_height; ky++, down += g->window->dilation_height) {
        to = widen(ml_row(g, place, down, 0), g->row_bytes, to);
    }
    return to;
}

/* Operands: input, weights, channels, output, scratch for windows, two words, and a row. */
ml_status ml_conv_block_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_block_args *a = args;
    const ml_window *w = &a->window;
    uint64_t row_bytes = (uint64_t)w->kernel_width * w->input_channels;
    uint64_t quads = (row_bytes + 3u) / 4u * w->kernel_height;
    uint64_t scratch = (quads * a->pixels + 1u) * 8u + (ml_rows_stay_inside(w) ? 0 : row_bytes);
    bool sound = quads != 0 && quads < 1u << 24 && row_bytes < 1u << 24 && a->pixels != 0 && w->output_channels != 0 &&
                 scratch <= operands[4].bytes &&
                 ml_holds(&operands[1], 4, w->output_channels, 2u * (uint32_t)quads + 1u, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), w->output_channels, 1, 1, 1) &&
                 ml_window_holds(w, &operands[0], 1, &operands[3], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_conv_block_s8(const void *args, void *const *operands) {
    const ml_conv_block_args *a = args;
    const ml_window *w = &a->window;
    uint32_t channels = w->output_channels;
    uint32_t quads = (w->kernel_width * w->input_channels + 3u) / 4u * w->kernel_height;
    block b = {.inputs = operands[4], .quads = quads, .next = channels};
    ml_rows g = ml_rows_of(w, operands[0], (uint32_t *)operands[4] + 2u * (quads * a->pixels + 1u), a->padding);
    int8_t *output = operands[3];
    for (uint32_t image = 0; image < w->batches; image++, g.image += w->input_height * g.image_row_bytes) {
        ml_cursor next = ml_first_place(w);
        for (uint32_t left = w->output_height * w->output_width, count; left != 0; left -= count) {
            uint32_t *to = operands[4];
            count = ML_MIN(left, a->pixels);
            for (uint32_t i = 0; i < count; i++) {
                ml_place place;
                ml_next_places(w, &next, 1, 1, &place);
                to = widen_window(&g, place, to);
            }
            b.weights = operands[1];
            b.channels = operands[2];
            b.output = output;
            b.end = output + channels;
            b.last = (count - 1u) * channels;
            run_block(&b, a->has_sign != 0);
            output += count * channels;
        }
    }
    return 0;
}
