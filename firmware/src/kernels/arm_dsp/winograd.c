/* CONV_2D 3x3 of stride 1, int8, by Winograd's F(2x2, 3x3) in integers: 16 products in place of 36 for four outputs.
 * S. Winograd, Arithmetic complexity of computations, 1980; A. Lavin, S. Gray, Fast algorithms for convolutional neural
 * networks, CVPR 2016.
 *
 * Two tiles of 2x2 outputs, side by side, and two channels at a time. Y = A' ((G g G') * (B' d B)) A: the host has
 * transformed the weights, with 2G in place of G, so that sums are four times what they should be; those of the last
 * row and of the last column are negated. Sums may wrap on the way, since what they come to fits 32 bits.
 *
 * Weights are a stream, for each two channels: 16 positions, columns 1, 2, 0, 3 and in each rows 1, 2, 0, 3; in each
 * for every four inputs the words (0, 2) of both channels, then (1, 3); then 4 * start of both; (multiplier, offset,
 * shift) of both. See sdk/variants/arm_dsp_winograd.py. */
#include "../window.h"
#include "simd.h"

#define POSITIONS 16u
#define SUMS 4u /* (tile, channel): (0, 0), (1, 0), (0, 1), (1, 1) */
#define ROWS 4u
#define COLUMNS 6u /* of inputs under two tiles */

typedef struct sums {
    int32_t at[SUMS];
} sums;

typedef struct stream {
    const uint32_t *inputs;
    const int32_t *weights;
    uint32_t sixteens; /* of channels */
} stream;

/* next_column(): both rows of outputs from the next four positions, which are one column: rows[0] = M1 + M2 + M0 and
 * rows[1] = M1 - M2 - M3. */
#ifdef __ARM_FEATURE_DSP
/* r0 inputs, r1 weights, r7 and r11 to lr sums. */
#define QUAD                                                                                          \
    "ldmia r0!, {r2, r3, r4, r5}\n ldmia r1!, {r6, r8, r9, r10}\n"                                    \
    "smlad r7, r6, r2, r7\n smlad r11, r6, r3, r11\n smlad r12, r8, r2, r12\n smlad lr, r8, r3, lr\n" \
    "smlad r7, r9, r4, r7\n smlad r11, r9, r5, r11\n smlad r12, r10, r4, r12\n smlad lr, r10, r5, lr\n"
/* Adds the products of one position. */
#define POSITION                                           \
    "ldr r2, %[bytes]\n add r2, r0, r2\n str r2, %[end]\n" \
    "1:" QUAD QUAD QUAD QUAD "ldr r2, %[end]\n cmp r0, r2\n bne 1b\n ldr r2, %[rows]\n"
#define ZERO "mov r7, #0\n mov r11, #0\n mov r12, #0\n mov lr, #0\n"
#define SUMS_LIST "{r7, r11, r12, lr}\n"

static void next_column(stream *s, sums rows[2]) {
    register const uint32_t *inputs __asm__("r0") = s->inputs;
    register const int32_t *weights __asm__("r1") = s->weights;
    uint32_t bytes = 64u * s->sixteens, end;
    __asm__ volatile(
        ZERO POSITION
        "stmia r2, " SUMS_LIST ZERO POSITION "ldmia r2!, {r3, r4, r5, r6}\n"
        "sub r3, r3, r7\n sub r4, r4, r11\n sub r5, r5, r12\n sub r6, r6, lr\n stmia r2, {r3, r4, r5, r6}\n"
        "add r7, r3, r7, lsl #1\n add r11, r4, r11, lsl #1\n add r12, r5, r12, lsl #1\n"
        "add lr, r6, lr, lsl #1\n" POSITION "stmia r2!, " SUMS_LIST "ldmia r2, " SUMS_LIST POSITION
        "add r2, r2, #16\n stmia r2, " SUMS_LIST
        : "+r"(inputs), "+r"(weights), [end] "=m"(end)
        : [bytes] "m"(bytes), [rows] "m"(rows)
        : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    s->inputs = inputs, s->weights = weights;
}
#else
/* Adds the products of one position. */
static void add_products(stream *s, sums *to) {
    for (uint32_t i = 0; i < 8u * s->sixteens; i++, s->inputs += 2, s->weights += 2) {
        for (uint32_t k = 0; k < SUMS; k++) {
            to->at[k] = ml_smlad((uint32_t)s->weights[k / 2u], s->inputs[k % 2u], to->at[k]);
        }
    }
}

static void next_column(stream *s, sums rows[2]) {
    sums a = {{0, 0, 0, 0}}, b = a;
    add_products(s, &a);
    add_products(s, &b);
    for (uint32_t k = 0; k < SUMS; k++) {
        rows[0].at[k] = a.at[k] + b.at[k];
        rows[1].at[k] = a.at[k] - b.at[k];
    }
    add_products(s, &rows[0]);
    add_products(s, &rows[1]);
}
#endif

/* a B' of four: a0 - a2, a1 + a2, a2 - a1, a1 - a3; the second first, then the third, the first, the last. */
#define TRANSFORM(a0, a1, a2, a3, to, stride)                                                                          \
    (to)[0] = ml_add_halves(a1, a2), (to)[stride] = ml_sub_halves(a2, a1), (to)[2 * (stride)] = ml_sub_halves(a0, a2), \
    (to)[3 * (stride)] = ml_sub_halves(a1, a3)

typedef struct block {
    const int8_t *pixels[ROWS][COLUMNS];
    int8_t *outputs[2][2][2]; /* [row][column of a tile][tile]; NULL outside the image */
    uint32_t *patch; /* [position][quad][word][tile] */
    uint32_t channels;
} block;

/* Transforms half of the inputs of four channels, from `channel` on. */
ML_INLINE void transform_words(const block *b, uint32_t channel, uint32_t half) {
    uint32_t columns[COLUMNS * ROWS], stride = ROWS * b->channels;
    for (uint32_t x = 0; x < COLUMNS; x++) {
        uint32_t four[ROWS];
#pragma GCC unroll 4
        for (uint32_t y = 0; y < ROWS; y++) {
            uint32_t word = ml_load_word(b->pixels[y][x] + channel);
            four[y] = half == 0 ? ml_even_bytes(word) : ml_odd_bytes(word);
        }
        TRANSFORM(four[0], four[1], four[2], four[3], columns + ROWS * x, 1);
    }
    uint32_t *to = b->patch + channel + half * 2u;
    for (uint32_t y = 0; y < ROWS; y++, to += b->channels) {
        const uint32_t *row = columns + y;
        TRANSFORM(row[0], row[4], row[8], row[12], to, stride);
        TRANSFORM(row[8], row[12], row[16], row[20], to + 1, stride);
    }
}

/* Writes one output of both tiles and channels, wherever they lie in the image: `sum` has four times what it should. */
static inline void put(int8_t *const tiles[2], const sums *sum, const int32_t *constants, uint32_t channel) {
#pragma GCC unroll 4
    for (uint32_t k = 0; k < SUMS; k++) {
        const int32_t *scale = constants + 2 + k / 2u * 3u;
        int8_t *to = tiles[k % 2u];
        int32_t doubled = (sum->at[k] + constants[k / 2u]) >> 1;
        int32_t high = ml_smmlar(doubled, scale[0], scale[1]) + (doubled >> 31);
        if (to != NULL) {
            to[channel + k / 2u] = (int8_t)ml_saturate_s8(high >> (scale[2] & 31));
        }
    }
}

/* All channels of two tiles. */
static void multiply(const block *b, const int32_t *weights, uint32_t outputs) {
    stream s = {b->patch, weights, b->channels / 16u};
    for (uint32_t channel = 0; channel < outputs; channel += 2, s.inputs = b->patch, s.weights += 8) {
        sums columns[4][2]; /* 1, 2, 0, 3 */
        for (uint32_t i = 0; i < 4; i++) {
            next_column(&s, columns[i]);
        }
        for (uint32_t row = 0; row < 2; row++) {
            sums left, right;
#pragma GCC unroll 4
            for (uint32_t k = 0; k < SUMS; k++) {
                int32_t one = columns[0][row].at[k], two = columns[1][row].at[k];
                left.at[k] = one + two + columns[2][row].at[k];
                right.at[k] = one - two + columns[3][row].at[k];
            }
            put(b->outputs[row][0], &left, s.weights, channel);
            put(b->outputs[row][1], &right, s.weights, channel);
        }
    }
}

/* Prepares the block whose first outputs are in row y and column x. */
static void prepare(block *b, const ml_window *w, const int8_t *image, int8_t *output, uint32_t y, uint32_t x,
                    const int8_t *padding) {
    for (uint32_t i = 0; i < ROWS * COLUMNS; i++) {
        uint32_t row = y - w->pad_top + i / COLUMNS, column = x - w->pad_left + i % COLUMNS;
        b->pixels[i / COLUMNS][i % COLUMNS] = ml_pixel(w, image, row, column, b->channels, padding);
    }
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t row = y + i / 4u, column = x + i % 4u;
        bool inside = row < w->output_height && column < w->output_width;
        b->outputs[i / 4u][i % 2u][i % 4u / 2u] =
            inside ? output + (row * w->output_width + column) * w->output_channels : NULL;
    }
    for (uint32_t channel = 0; channel < b->channels; channel += 4) {
        transform_words(b, channel, 0);
        transform_words(b, channel, 1);
    }
}

/* Operands: input, stream of weights, output, scratch for the patch and one pixel of padding. */
ml_status ml_conv_winograd_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_winograd_s8_args *a = args;
    const ml_window *w = &a->window;
    uint32_t inputs = w->input_channels, outputs = w->output_channels;
    bool sound = inputs != 0 && (inputs & 15u) == 0 && inputs < 1u << 16 && (outputs & 1u) == 0 && outputs != 0 &&
                 outputs < 1u << 16 && ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, outputs / 2u, inputs * POSITIONS + 8u, 1, 1) &&
                 ml_holds(&operands[3], 1, inputs, 4u * POSITIONS + 1u, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_conv_winograd_s8(const void *args, void *const *operands) {
    const ml_conv_winograd_s8_args *a = args;
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    int8_t *output = operands[2];
    block b = {.patch = operands[3], .channels = w->input_channels};
    int8_t *padding = (int8_t *)(b.patch + POSITIONS * b.channels);
    memset(padding, (int8_t)a->padding, b.channels);
    for (uint32_t n = 0; n < w->batches; n++) {
        for (uint32_t y = 0; y < w->output_height; y += 2) {
            for (uint32_t x = 0; x < w->output_width; x += 4) {
                prepare(&b, w, image, output, y, x, padding);
                multiply(&b, operands[1], w->output_channels);
            }
        }
        image += w->input_height * w->input_width * b.channels;
        output += w->output_height * w->output_width * w->output_channels;
    }
    return 0;
}
