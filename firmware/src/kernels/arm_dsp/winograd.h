/* What the kernels by Winograd's algorithm have in common: two tiles of 2x2 outputs, side by side, and two channels at
 * a time, whose inputs are transformed into a patch of POSITIONS.
 *
 * The file that includes it defines STRIDE, of windows, POSITIONS, OTHER_WORDS, which weights of two channels have
 * beside products', and `transform_four` and `multiply`. */
#ifndef ML_WINOGRAD_H
#define ML_WINOGRAD_H

#include "../window.h"
#include "simd.h"

#define SUMS 4u /* (tile, channel): (0, 0), (1, 0), (0, 1), (1, 1) */
#define ROWS (STRIDE + 3u) /* of inputs under tiles; columns under both */
#define COLUMNS (3u * STRIDE + 3u)
#define CORNERS 4u /* of a tile of outputs: right lower, right upper, left lower, left upper */

/* The outputs of two tiles, all channels. What lies outside is written where something inside is written later. */
typedef struct job {
    int8_t *pixels[CORNERS][2]; /* of both tiles; the second of a corner is written first */
    int8_t *end; /* of the very last */
    const uint32_t *patch;
    uint32_t position_bytes; /* of the patch */
} job;

typedef struct block {
    const int8_t *pixels[COLUMNS][ROWS];
    uint32_t *patch; /* [position][quad][word][tile] */
    uint32_t channels;
} block;

/* B' d B of both tiles, for the inputs of four channels from `channel` on. */
static void transform_four(const block *b, uint32_t channel);

/* All outputs of both tiles. */
static void multiply(const job *j, const int32_t *weights);

#ifdef __ARM_FEATURE_DSP
/* Both tiles' sums of a channel. */
typedef struct both_tiles {
    int32_t tiles[2];
} both_tiles;

/* clang-format off */
/* r0 inputs, r1 weights, r7 and r11 to lr sums. Two LDRD right after an LDM take a cycle less than another LDM. */
#define QUAD                                                                                          \
    "ldmia r0!, {r2, r3, r4, r5}\n ldrd r6, r8, [r1], #8\n ldrd r9, r10, [r1], #8\n"                 \
    "smlad r7, r6, r2, r7\n smlad r11, r6, r3, r11\n smlad r12, r8, r2, r12\n smlad lr, r8, r3, lr\n" \
    "smlad r7, r9, r4, r7\n smlad r11, r9, r5, r11\n smlad r12, r10, r4, r12\n smlad lr, r10, r5, lr\n"
#define ZEROS "mov r7, #0\n mov r11, #0\n mov r12, #0\n mov lr, #0\n"
#define STARTS "ldrd r7, r12, [r1], #8\n mov r11, r7\n mov lr, r12\n"
#define KEEP(to) "strd r7, r11, %[" to "]\n strd r12, lr, %[" to "_upper]\n"
#define TAKE(from) "ldrd r7, r11, %[" from "]\n ldrd r12, lr, %[" from "_upper]\n"
/* What is kept beside the sums; the sum of both, beside them or in their place. */
#define KEPT(from) "ldrd r2, r3, %[" from "]\n ldrd r4, r5, %[" from "_upper]\n"
#define KEEP_OTHER(to) "strd r6, r8, %[" to "]\n strd r9, r10, %[" to "_upper]\n"
#define ADD_ASIDE "add r6, r2, r7\n add r8, r3, r11\n add r9, r4, r12\n add r10, r5, lr\n"
#define ADD "add r7, r2, r7\n add r11, r3, r11\n add r12, r4, r12\n add lr, r5, lr\n"
/* The output of x times a power of 2. */
#define OUTPUT(x, to)                                                                                 \
    "and r5, r4, " x ", asr #31\n smmla " x ", " x ", r2, r3\n sub " x ", " x ", r5\n"                \
    "ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n strb " x ", " to "\n"
#define CORNER(pixels)                                                                                \
    "ldmia r1!, {r2, r3, r4}\n ldrd r8, r9, %[" pixels "]\n" OUTPUT("r11", "[r9], #1") OUTPUT("r7", "[r8], #1") \
    "ldrd r2, r3, [r1], #8\n ldr r4, [r1], #4\n" OUTPUT("lr", "[r9], #1") OUTPUT("r12", "[r8], #1") "strd r8, r9, %[" pixels "]\n"
/* clang-format on */
#else
typedef struct sums {
    int32_t at[SUMS];
} sums;

typedef struct stream {
    const uint32_t *inputs;
    const int32_t *weights;
    uint32_t words; /* of the patch, of one position */
} stream;

/* `to` and the products of one position. */
static sums with_products(stream *s, sums to) {
    for (uint32_t i = 0; i < s->words; i += 2, s->inputs += 2, s->weights += 2) {
        for (uint32_t k = 0; k < SUMS; k++) {
            to.at[k] = ml_smlad((uint32_t)s->weights[k / 2u], s->inputs[k % 2u], to.at[k]);
        }
    }
    return to;
}

static sums added(sums x, sums y) {
    for (uint32_t k = 0; k < SUMS; k++) {
        x.at[k] += y.at[k];
    }
    return x;
}

static sums start_of(stream *s) {
    const int32_t *w = s->weights;
    s->weights += 2;
    return (sums){{w[0], w[0], w[1], w[1]}};
}

/* The outputs x times powers of 2 of one corner of both tiles. */
static void write_corner(stream *s, int8_t **pixels, sums x) {
    for (uint32_t channel = 0; channel < 2; channel++, s->weights += 3) {
        for (uint32_t tile = 2; tile-- != 0;) {
            int32_t sum = x.at[2u * channel + tile];
            int32_t high = ml_smmla(sum, s->weights[0], s->weights[1]) - ((sum >> 31) & s->weights[2]);
            *pixels[tile]++ = (int8_t)ml_saturate_s8(high >> COMMON_SHIFT);
        }
    }
}
#endif

/* Where the inputs of the block lie whose first outputs are in row y and column x. */
static void find_pixels(block *b, const ml_window *w, const int8_t *image, uint32_t y, uint32_t x,
                        const int8_t *padding) {
    uint32_t top = STRIDE * y - w->pad_top, column = STRIDE * x - w->pad_left, row_bytes = w->input_width * b->channels;
    uint32_t offset = top * row_bytes + column * b->channels; /* what has wrapped wraps back */
    bool whole = top < w->input_height && top + ROWS - 1u < w->input_height;
    for (uint32_t k = 0; k < COLUMNS; k++, column++, offset += b->channels) {
        const int8_t **to = b->pixels[k], *from = image + offset;
        bool inside = column < w->input_width;
        if (whole && inside) {
            to[0] = from, to[1] = from + row_bytes, to[2] = from + 2u * row_bytes, to[3] = from + 3u * row_bytes;
            to[ROWS - 1u] = from + (ROWS - 1u) * row_bytes;
            continue;
        }
        for (uint32_t i = 0, at = offset; i < ROWS; i++, at += row_bytes) {
            to[i] = inside && top + i < w->input_height ? image + at : padding;
        }
    }
}

/* The block whose first outputs are in row y and column x. */
static job job_of(const block *b, const ml_window *w, int8_t *output, uint32_t y, uint32_t x) {
    uint32_t channels = w->output_channels, below = y + 1u < w->output_height ? w->output_width * channels : 0;
    uint32_t columns = w->output_width - x;
    int8_t *first = output + (y * w->output_width + x) * channels;
    job j = {.end = first + channels, .patch = b->patch, .position_bytes = 4u * b->channels};
    for (uint32_t tile = 0; tile < 2; tile++) {
        int8_t *left = first + (2u * tile < columns ? 2u * tile * channels : 0);
        int8_t *right = first + (2u * tile + 1u < columns ? (2u * tile + 1u) * channels : 0);
        j.pixels[0][tile] = right + below, j.pixels[1][tile] = right;
        j.pixels[2][tile] = left + below, j.pixels[3][tile] = left;
    }
    return j;
}

/* Operands: input, stream of weights, output, scratch for the patch and one pixel of padding. */
static ml_status check(const ml_conv_winograd_args *a, const ml_operand *operands) {
    const ml_window *w = &a->window;
    uint32_t inputs = w->input_channels, outputs = w->output_channels;
    bool sound = inputs != 0 && (inputs & 15u) == 0 && inputs < 1u << 16 && (outputs & 1u) == 0 && outputs != 0 &&
                 outputs < 1u << 16 && ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, outputs / 2u, inputs * POSITIONS + OTHER_WORDS, 1, 1) &&
                 ml_holds(&operands[3], 1, inputs, 4u * POSITIONS + 1u, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static int32_t convolve(const ml_conv_winograd_args *a, void *const *operands) {
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    int8_t *output = operands[2];
    block b = {.patch = operands[3], .channels = w->input_channels};
    int8_t *padding = (int8_t *)(b.patch + POSITIONS * b.channels);
    memset(padding, (int8_t)a->padding, b.channels);
    for (uint32_t n = 0; n < w->batches; n++) {
        for (uint32_t y = 0; y < w->output_height; y += 2) {
            for (uint32_t x = 0; x < w->output_width; x += 4) {
                find_pixels(&b, w, image, y, x, padding);
                for (uint32_t channel = 0; channel < b.channels; channel += 4) {
                    transform_four(&b, channel);
                }
                job j = job_of(&b, w, output, y, x);
                multiply(&j, operands[1]);
            }
        }
        image += w->input_height * w->input_width * b.channels;
        output += w->output_height * w->output_width * w->output_channels;
    }
    return 0;
}

#endif
