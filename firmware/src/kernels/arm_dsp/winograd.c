/* CONV_2D 3x3 of stride 1, int8, by Winograd's F(2x2, 3x3) in integers: 16 products in place of 36 for four outputs.
 * S. Winograd, Arithmetic complexity of computations, 1980; A. Lavin, S. Gray, Fast algorithms for convolutional neural
 * networks, CVPR 2016.
 *
 * Two tiles of 2x2 outputs, side by side, and two channels at a time. Y = A' ((G g G') * (B' d B)) A: the host has
 * transformed the weights, with 2G in place of G for rows; columns 1 and 2 lack their factor of 1/2, so that what they
 * add up to is halved here. Sums are then twice what they should be, as requantization wants them. Weights of the last
 * row and of the last column are negated. Sums may wrap on the way, but for those that are halved.
 *
 * Weights are a stream, for each two channels: columns 1, 2, 0, 3; in each two start values, then rows 1, 2, 0, 3; in
 * each for every four inputs the words (0, 2) of both channels, then (1, 3). Then (multiplier, offset, shift) of both
 * channels. See sdk/variants/arm_dsp_winograd.py. */
#include "../window.h"
#include "simd.h"

#define POSITIONS 16u
#define SUMS 4u /* (tile, channel): (0, 0), (1, 0), (0, 1), (1, 1) */
#define ROWS 4u
#define COLUMNS 6u /* of inputs under two tiles */
#define PIXELS 4u /* of a row of outputs */

typedef struct sums {
    int32_t at[SUMS];
} sums;

/* The outputs of two tiles, all channels. */
typedef struct job {
    int32_t pixels[PIXELS - 1u]; /* where other pixels than the first of a row lie from there: 0 outside the image */
    int8_t *lower, *upper; /* the first pixels of both rows; the same where the lower row lies outside */
    int8_t *end; /* of the first pixel */
    const uint32_t *patch;
    uint32_t position_bytes; /* of the patch */
    sums columns[ROWS][2]; /* 1, 2, 0, 3: both rows of outputs */
} job;

/* What lies outside is written where something inside is written later: the last pixels first, the lower row first.
 * Rows of outputs are M1 + M2 + M0 and M1 - M2 - M3 of the positions of a column; columns follow from those alike. */
#ifdef __ARM_FEATURE_DSP
/* clang-format off */
/* r0 inputs, r1 weights, r7 and r11 to lr sums. */
#define QUAD                                                                                          \
    "ldmia r0!, {r2, r3, r4, r5}\n ldmia r1!, {r6, r8, r9, r10}\n"                                    \
    "smlad r7, r6, r2, r7\n smlad r11, r6, r3, r11\n smlad r12, r8, r2, r12\n smlad lr, r8, r3, lr\n" \
    "smlad r7, r9, r4, r7\n smlad r11, r9, r5, r11\n smlad r12, r10, r4, r12\n smlad lr, r10, r5, lr\n"
/* Adds the products of one position. */
#define SIXTEEN QUAD QUAD QUAD QUAD
#define MORE                                                                                          \
    "ldr r2, %[bytes]\n add r2, r0, r2\n str r2, %[end]\n"                                            \
    "1:" SIXTEEN "ldr r2, %[end]\n cmp r0, r2\n bne 1b\n"
#define SUMS_LIST "{r7, r11, r12, lr}\n"
#define COLUMN(position)                                                                              \
    "ldrd r7, r12, [r1], #8\n mov r11, r7\n mov lr, r12\n" position                                   \
    "ldr r2, %[rows]\n stmia r2, " SUMS_LIST "mov r7, #0\n mov r11, #0\n mov r12, #0\n mov lr, #0\n"  \
    position "ldr r2, %[rows]\n ldmia r2!, {r3, r4, r5, r6}\n"                                        \
    "sub r3, r3, r7\n sub r4, r4, r11\n sub r5, r5, r12\n sub r6, r6, lr\n stmia r2, {r3, r4, r5, r6}\n" \
    "add r7, r3, r7, lsl #1\n add r11, r4, r11, lsl #1\n add r12, r5, r12, lsl #1\n"                  \
    "add lr, r6, lr, lsl #1\n" position "ldr r2, %[rows]\n stmia r2!, " SUMS_LIST "ldmia r2, " SUMS_LIST \
    position "ldr r2, %[rows]\n add r2, r2, #16\n stmia r2!, " SUMS_LIST "str r2, %[rows]\n"
/* The output of twice the sum x. */
#define OUTPUT(x, to)                                                                                 \
    "smmlar r12, " x ", r6, r8\n add r12, r12, " x ", asr #31\n asr r12, r12, r9\n ssat r12, #8, r12\n" \
    "strb r12, " to "\n"
/* Four outputs of one channel; `at`: its sums in column 1. */
#define OUTPUTS(row, at)                                                                              \
    "ldrd r7, r10, [r0, %[columns] + " at "]\n ldrd r11, r12, [r0, %[columns] + 32 + " at "]\n"        \
    "add lr, r7, r11\n sub r7, r7, r11\n add r11, r10, r12\n sub r10, r10, r12\n"                     \
    "ldr r12, [r0, %[columns] + 64 + " at "]\n add lr, r12, lr, asr #1\n"                             \
    "ldr r12, [r0, %[columns] + 68 + " at "]\n add r11, r12, r11, asr #1\n"                           \
    "ldr r12, [r0, %[columns] + 96 + " at "]\n add r7, r12, r7, asr #1\n"                             \
    "ldr r12, [r0, %[columns] + 100 + " at "]\n add r10, r12, r10, asr #1\n ldr r2, [r0, " row "]\n"  \
    OUTPUT("r10", "[r2, r5]") OUTPUT("r11", "[r2, r4]") OUTPUT("r7", "[r2, r3]") OUTPUT("lr", "[r2], #1") \
    "str r2, [r0, " row "]\n"
#define CHANNEL(at) "ldmia r1!, {r6, r8, r9}\n" OUTPUTS("%[lower]", "16 + " at) OUTPUTS("%[upper]", at)
#define DEFINE_MULTIPLY(name, position)                                                               \
    static void name(job *j, const int32_t *weights) {                                                \
        register job *r0 __asm__("r0") = j;                                                           \
        register const int32_t *r1 __asm__("r1") = weights;                                           \
        const void *rows, *rows_end = j->columns + ROWS, *end;                                        \
        uint32_t bytes = j->position_bytes;                                                           \
        __asm__ volatile(                                                                             \
            "0: add r2, r0, %[columns]\n str r2, %[rows]\n ldr r0, [r0, %[patch]]\n"                  \
            "2:" COLUMN(position) "ldr r3, %[rows_end]\n cmp r2, r3\n bne 2b\n"                       \
            "ldr r0, %[rows_end]\n sub r0, r0, %[size]\n ldm r0, {r3, r4, r5}\n" CHANNEL("0") CHANNEL("8") \
            "ldr r3, [r0, %[channels_end]]\n cmp r2, r3\n bne 0b\n"                                   \
            : "+r"(r0), "+r"(r1), [rows] "=m"(rows), [end] "=m"(end)                                  \
            : [bytes] "m"(bytes), [rows_end] "m"(rows_end), [columns] "i"(offsetof(job, columns)),    \
              [patch] "i"(offsetof(job, patch)), [size] "i"(sizeof(job)), [lower] "i"(offsetof(job, lower)), \
              [upper] "i"(offsetof(job, upper)), [channels_end] "i"(offsetof(job, end))               \
            : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
    }
/* clang-format on */
DEFINE_MULTIPLY(multiply_sixteen, SIXTEEN)
DEFINE_MULTIPLY(multiply_more, MORE)

static void multiply(job *j, const int32_t *weights) {
    if (j->position_bytes == 64) {
        multiply_sixteen(j, weights);
    } else {
        multiply_more(j, weights);
    }
}
#else
typedef struct stream {
    const uint32_t *inputs;
    const int32_t *weights;
    uint32_t words; /* of the patch, of one position */
} stream;

/* Adds the products of one position. */
static void add_products(stream *s, sums *to) {
    for (uint32_t i = 0; i < s->words; i += 2, s->inputs += 2, s->weights += 2) {
        for (uint32_t k = 0; k < SUMS; k++) {
            to->at[k] = ml_smlad((uint32_t)s->weights[k / 2u], s->inputs[k % 2u], to->at[k]);
        }
    }
}

static void next_column(stream *s, sums rows[2]) {
    sums a = {{s->weights[0], s->weights[0], s->weights[1], s->weights[1]}}, b = {{0, 0, 0, 0}};
    s->weights += 2;
    add_products(s, &a);
    add_products(s, &b);
    for (uint32_t k = 0; k < SUMS; k++) {
        rows[0].at[k] = a.at[k] + b.at[k];
        rows[1].at[k] = a.at[k] - b.at[k];
    }
    add_products(s, &rows[0]);
    add_products(s, &rows[1]);
}

/* The output of pixel i of one row and channel. */
static int8_t output_of(const job *j, uint32_t row, uint32_t i, uint32_t channel, const int32_t *scale) {
    uint32_t k = i / 2u + 2u * channel;
    int32_t one = j->columns[0][row].at[k], two = j->columns[1][row].at[k];
    int32_t doubled =
        i % 2u == 0 ? j->columns[2][row].at[k] + ((one + two) >> 1) : j->columns[3][row].at[k] + ((one - two) >> 1);
    int32_t high = ml_smmlar(doubled, scale[0], scale[1]) + (doubled >> 31);
    return (int8_t)ml_saturate_s8(high >> (scale[2] & 31));
}

static void multiply(job *j, const int32_t *weights) {
    stream s = {j->patch, weights, j->position_bytes / 4u};
    for (; j->upper != j->end; s.inputs = j->patch) {
        for (uint32_t i = 0; i < ROWS; i++) {
            next_column(&s, j->columns[i]);
        }
        for (uint32_t channel = 0; channel < 2; channel++, s.weights += 3, j->lower++, j->upper++) {
            for (uint32_t i = 2u * PIXELS; i-- != 0;) {
                int8_t *first = i < PIXELS ? j->upper : j->lower;
                uint32_t pixel = i % PIXELS;
                first[pixel == 0 ? 0 : j->pixels[pixel - 1u]] = output_of(j, i / PIXELS, pixel, channel, s.weights);
            }
        }
    }
}
#endif

typedef struct block {
    const int8_t *pixels[COLUMNS][ROWS];
    uint32_t *patch; /* [position][quad][word][tile] */
    uint32_t channels;
} block;

/* B' d B of both tiles, for the inputs of four channels from `channel` on: first columns, then rows. Of four a it is
 * a1 + a2, a2 - a1, a0 - a2, a1 - a3: the second first, then the third, the first, the last. */
#ifdef __ARM_FEATURE_DSP
/* clang-format off */
#define HALF(rotation)                                                                                \
    "sxtb16 r10, r4" rotation "\n sxtb16 r12, r5" rotation "\n sxtb16 lr, r6" rotation "\n"           \
    "sxtb16 r11, r7" rotation "\n sadd16 r8, r12, lr\n ssub16 r9, lr, r12\n ssub16 r10, r10, lr\n"    \
    "ssub16 r11, r12, r11\n stmia r2!, {r8, r9, r10, r11}\n"
/* Words of one row of transformed columns; `at`: of the first column, and of the output. */
#define ROW(at, to)                                                                                   \
    "ldr r4, [r2, #" at "]\n ldr r5, [r2, #" at " + 32]\n ldr r6, [r2, #" at " + 64]\n"               \
    "ldr r7, [r2, #" at " + 96]\n ldr r8, [r2, #" at " + 128]\n ldr r9, [r2, #" at " + 160]\n"        \
    "sadd16 r10, r5, r6\n sadd16 r11, r7, r8\n strd r10, r11, [r0, #" to "]\n"                        \
    "ssub16 r10, r6, r5\n ssub16 r11, r8, r7\n strd r10, r11, [r3, #" to "]\n"                        \
    "ssub16 r10, r4, r6\n ssub16 r11, r6, r8\n strd r10, r11, [r12, #" to "]\n"                       \
    "ssub16 r10, r5, r7\n ssub16 r11, r7, r9\n strd r10, r11, [lr, #" to "]\n"
static void transform_four(const block *b, uint32_t channel) {
    uint32_t columns[COLUMNS][2][ROWS], bytes = 4u * b->channels, *rows_end = columns[0][1], *to = b->patch + channel;
    register const void *r0 __asm__("r0") = b->pixels;
    register uint32_t r1 __asm__("r1") = channel;
    register uint32_t *r2 __asm__("r2") = columns[0][0], *r3 __asm__("r3") = r2 + sizeof columns / 4u;
    __asm__ volatile(
        "1: ldmia r0!, {r4, r5, r6, r7}\n ldr r4, [r4, r1]\n ldr r5, [r5, r1]\n ldr r6, [r6, r1]\n"
        "ldr r7, [r7, r1]\n" HALF("") HALF(", ror #8") "cmp r2, r3\n bne 1b\n"
        "ldr r0, %[to]\n ldr r1, %[bytes]\n sub r2, r2, %[size]\n add r3, r0, r1, lsl #2\n"
        "add r12, r0, r1, lsl #3\n add lr, r3, r1, lsl #3\n"
        "2:" ROW("0", "0") ROW("16", "8")
        "add r0, r0, r1\n add r3, r3, r1\n add r12, r12, r1\n add lr, lr, r1\n add r2, r2, #4\n"
        "ldr r4, %[rows_end]\n cmp r2, r4\n bne 2b"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "=m"(columns)
        : [to] "m"(to), [bytes] "m"(bytes), [rows_end] "m"(rows_end), [size] "i"(sizeof columns)
        : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
/* clang-format on */
#else
#define TRANSFORM(a0, a1, a2, a3, to, stride)                                                                          \
    (to)[0] = ml_add_halves(a1, a2), (to)[stride] = ml_sub_halves(a2, a1), (to)[2 * (stride)] = ml_sub_halves(a0, a2), \
    (to)[3 * (stride)] = ml_sub_halves(a1, a3)

static void transform_half(const block *b, uint32_t channel, uint32_t half) {
    uint32_t columns[COLUMNS * ROWS], stride = ROWS * b->channels, *to = b->patch + channel + half * 2u;
    for (uint32_t x = 0; x < COLUMNS; x++) {
        uint32_t four[ROWS];
        for (uint32_t y = 0; y < ROWS; y++) {
            uint32_t word = ml_load_word(b->pixels[x][y] + channel);
            four[y] = half == 0 ? ml_even_bytes(word) : ml_odd_bytes(word);
        }
        TRANSFORM(four[0], four[1], four[2], four[3], columns + ROWS * x, 1);
    }
    for (uint32_t y = 0; y < ROWS; y++, to += b->channels) {
        const uint32_t *row = columns + y;
        TRANSFORM(row[0], row[4], row[8], row[12], to, stride);
        TRANSFORM(row[8], row[12], row[16], row[20], to + 1, stride);
    }
}

static void transform_four(const block *b, uint32_t channel) {
    transform_half(b, channel, 0);
    transform_half(b, channel, 1);
}
#endif

/* Fills the patch for the block whose first outputs are in row y and column x. */
static void prepare(block *b, const ml_window *w, const int8_t *image, uint32_t y, uint32_t x, const int8_t *padding) {
    uint32_t left = x - w->pad_left;
    for (uint32_t i = 0, row = y - w->pad_top; i < ROWS; i++, row++) {
        const int8_t *from = image + row * w->input_width * b->channels;
        for (uint32_t k = 0, column = left; k < COLUMNS; k++, column++) {
            bool inside = row < w->input_height && column < w->input_width;
            b->pixels[k][i] = inside ? from + column * b->channels : padding;
        }
    }
    for (uint32_t channel = 0; channel < b->channels; channel += 4) {
        transform_four(b, channel);
    }
}

/* The block whose first outputs are in row y and column x. */
static job job_of(const block *b, const ml_window *w, int8_t *output, uint32_t y, uint32_t x) {
    uint32_t channels = w->output_channels;
    int8_t *upper = output + (y * w->output_width + x) * channels;
    int8_t *lower = y + 1u < w->output_height ? upper + w->output_width * channels : upper;
    job j = {.lower = lower, .upper = upper, .end = upper + channels, .patch = b->patch};
    j.position_bytes = 4u * b->channels;
    for (uint32_t i = 1; i < PIXELS; i++) {
        j.pixels[i - 1u] = x + i < w->output_width ? (int32_t)(i * channels) : 0;
    }
    return j;
}

/* Operands: input, stream of weights, output, scratch for the patch and one pixel of padding. */
ml_status ml_conv_winograd_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_winograd_s8_args *a = args;
    const ml_window *w = &a->window;
    uint32_t inputs = w->input_channels, outputs = w->output_channels;
    bool sound = inputs != 0 && (inputs & 15u) == 0 && inputs < 1u << 16 && (outputs & 1u) == 0 && outputs != 0 &&
                 outputs < 1u << 16 && ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, outputs / 2u, inputs * POSITIONS + 14u, 1, 1) &&
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
                prepare(&b, w, image, y, x, padding);
                job j = job_of(&b, w, output, y, x);
                multiply(&j, operands[1]);
            }
        }
        image += w->input_height * w->input_width * b.channels;
        output += w->output_height * w->output_width * w->output_channels;
    }
    return 0;
}
