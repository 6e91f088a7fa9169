/* CONV_2D 3x3 of stride 1, int8, by Winograd's F(2x2, 3x3) in integers: 16 products in place of 36 for four outputs.
 * S. Winograd, Arithmetic complexity of computations, 1980; A. Lavin, S. Gray, Fast algorithms for convolutional neural
 * networks, CVPR 2016.
 *
 * Two tiles of 2x2 outputs, side by side, and two channels at a time. Y = A' ((G g G') * (B' d B)) A: the host has
 * transformed the weights, with 2G in place of G, and multiplied them by the power of 2 that gives their channel the
 * common shift, of which the 4 is a part. What lies in the last row or column is negated. Sums may wrap on the way.
 *
 * Of the sums M of a column rows of outputs are M1 + M2 + M0 and M1 - M2 + M3, and columns of outputs follow from
 * columns alike. Columns 1 and 2 serve both: of them a = M1 + (M0 + M3) / 2 and b = M2 + (M0 - M3) / 2 are kept, the
 * halves being part of the weights. Where a1 - a2 and b1 - b2 go on with M1 and M2 of column 3, a + b + M0 and
 * a - b + M3 are outputs; with a1 + a2, b1 + b2 and column 0 those to the left.
 *
 * Weights are a stream, for each two channels: columns 1 and 2, rows 0, 3, 1, 2; columns 3 and 0, rows 2, 1, 3, 0. In
 * each for every four inputs the words (0, 2) of both channels, then (1, 3). Before rows 0 and 3 of column 1 half the
 * start values; after rows 3 and 0 of columns 3 and 0 (multiplier, offset, sign) of both channels. See
 * sdk/variants/arm_dsp_winograd.py. */
#define STRIDE 1u
#define POSITIONS 16u
#define OTHER_WORDS 28u
#include "winograd.h"

#ifdef __ARM_FEATURE_DSP
/* clang-format off */
/* Adds the products of one position. */
#define SIXTEEN QUAD QUAD QUAD QUAD
#define MORE                                                                                          \
    "ldr r2, %[bytes]\n add r2, r0, r2\n str r2, %[end]\n"                                            \
    "1:" SIXTEEN "ldr r2, %[end]\n cmp r0, r2\n bne 1b\n"
/* What is kept less the sums, or the sums less what is kept. */
#define SUBTRACT_ASIDE "sub r6, r2, r7\n sub r8, r3, r11\n sub r9, r4, r12\n sub r10, r5, lr\n"
#define SUBTRACT "sub r7, r2, r7\n sub r11, r3, r11\n sub r12, r4, r12\n sub lr, r5, lr\n"
#define SUBTRACT_FROM "sub r7, r7, r2\n sub r11, r11, r3\n sub r12, r12, r4\n sub lr, lr, r5\n"
/* Rows 0 and 3 of columns 1 and 2: a goes on, b is kept. */
#define HALVES(first, position) \
    first position KEEP("one") first position KEPT("one") SUBTRACT_ASIDE KEEP_OTHER("one") ADD
#define COLUMN_1(position) HALVES(STARTS, position) position KEEP("a") TAKE("one") position KEEP("b")
#define COLUMN_2(position)                                                                            \
    HALVES(ZEROS, position) position KEPT("a") ADD_ASIDE KEEP_OTHER("a") SUBTRACT KEEP("difference")  \
    TAKE("one") position KEPT("b") ADD_ASIDE KEEP_OTHER("b") SUBTRACT
/* Both outputs of one column, of its b, in the sums, and its a. */
#define OUTPUT_COLUMN(a, position, lower, upper)                                                      \
    position KEEP("one") TAKE(a) position KEPT("one") ADD_ASIDE KEEP_OTHER("one") SUBTRACT_FROM \
    position CORNER(lower) TAKE("one") position CORNER(upper)
#define SLOTS(name) [name] "=m"(name[0]), [name##_upper] "=m"(name[1])
#define DEFINE_MULTIPLY(name, position)                                                               \
    __attribute__((noinline)) static void name(const job *j, const int32_t *weights) {                \
        job f = *j;                                                                                   \
        register const uint32_t *r0 __asm__("r0");                                                    \
        register const int32_t *r1 __asm__("r1") = weights; /* not before f is copied */              \
        const void *end;                                                                              \
        both_tiles one[2], a[2], b[2], difference[2];                                                 \
        __asm__ volatile(                                                                             \
            "0: ldr r0, %[patch]\n" COLUMN_1(position) COLUMN_2(position)                             \
            OUTPUT_COLUMN("difference", position, "corner_0", "corner_1") TAKE("b")                   \
            OUTPUT_COLUMN("a", position, "corner_2", "corner_3")                                      \
            "ldr r2, %[channels_end]\n cmp r8, r2\n bne 0b\n"                                        \
            : "=&r"(r0), "+r"(r1), SLOTS(one), SLOTS(a), SLOTS(b), SLOTS(difference), [end] "=m"(end), \
              [corner_0] "+m"(f.pixels[0]), [corner_1] "+m"(f.pixels[1]), [corner_2] "+m"(f.pixels[2]), \
              [corner_3] "+m"(f.pixels[3])                                                            \
            : [bytes] "m"(f.position_bytes), [patch] "m"(f.patch), [channels_end] "m"(f.end)          \
            : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
    }
/* clang-format on */
DEFINE_MULTIPLY(multiply_sixteen, SIXTEEN)
DEFINE_MULTIPLY(multiply_more, MORE)

static void multiply(const job *j, const int32_t *weights) {
    if (j->position_bytes == 64) {
        multiply_sixteen(j, weights);
    } else {
        multiply_more(j, weights);
    }
}
#else
static sums subtracted(sums x, sums y) {
    for (uint32_t k = 0; k < SUMS; k++) {
        x.at[k] -= y.at[k];
    }
    return x;
}

typedef struct kept {
    sums a, b;
} kept;

/* Column 1, which has the start values, or 2. */
static kept inner_column(stream *s, bool first) {
    sums zero = {{0, 0, 0, 0}}, half = with_products(s, first ? start_of(s) : zero);
    sums other = with_products(s, first ? start_of(s) : zero);
    sums a = with_products(s, added(half, other));
    return (kept){a, with_products(s, subtracted(half, other))};
}

static void write_column(stream *s, int8_t *(*corners)[2], kept from) {
    sums b = with_products(s, from.b), a = with_products(s, from.a);
    write_corner(s, corners[0], with_products(s, subtracted(a, b)));
    write_corner(s, corners[1], with_products(s, added(a, b)));
}

static void multiply(const job *j, const int32_t *weights) {
    job f = *j;
    stream s = {j->patch, weights, j->position_bytes / 4u};
    for (; f.pixels[CORNERS - 1u][0] != f.end; s.inputs = j->patch) {
        kept one = inner_column(&s, true), two = inner_column(&s, false);
        write_column(&s, f.pixels, (kept){subtracted(one.a, two.a), subtracted(one.b, two.b)});
        write_column(&s, f.pixels + 2, (kept){added(one.a, two.a), added(one.b, two.b)});
    }
}
#endif

/* First columns, then rows. Of four a it is a0 - a2, a1 - a3, a1 + a2, a2 - a1: the first, the last, the second, the
 * third. */
#ifdef __ARM_FEATURE_DSP
/* clang-format off */
#define HALF(rotation)                                                                                \
    "sxtb16 r8, r4" rotation "\n sxtb16 r12, r5" rotation "\n sxtb16 lr, r6" rotation "\n"            \
    "sxtb16 r9, r7" rotation "\n sadd16 r10, r12, lr\n ssub16 r11, lr, r12\n ssub16 r8, r8, lr\n"     \
    "ssub16 r9, r12, r9\n stmia r2!, {r8, r9, r10, r11}\n"
/* Words of one row of transformed columns; `at`: of the first column, and of the output. Stores side by side take a
 * cycle less. */
#define ROW(at, to)                                                                                   \
    "ldr r4, [r2, #" at "]\n ldr r5, [r2, #" at " + 32]\n ldr r6, [r2, #" at " + 64]\n"               \
    "ldr r7, [r2, #" at " + 96]\n ldr r8, [r2, #" at " + 128]\n ldr r9, [r2, #" at " + 160]\n"        \
    "sadd16 r10, r5, r6\n sadd16 r11, r7, r8\n strd r10, r11, [r0, #" to "]\n"                        \
    "ssub16 r10, r6, r8\n ssub16 r11, r5, r7\n ssub16 r4, r4, r6\n ssub16 r9, r7, r9\n"             \
    "ssub16 r6, r6, r5\n ssub16 r8, r8, r7\n"                                                        \
    "strd r6, r8, [r3, #" to "]\n strd r11, r9, [lr, #" to "]\n strd r4, r10, [r12, #" to "]\n"
static void transform_four(const block *b, uint32_t channel) {
    uint32_t columns[COLUMNS][2][ROWS], bytes = 4u * b->channels, *rows_end = columns[0][1], *to = b->patch + channel;
    register const void *r0 __asm__("r0") = b->pixels;
    register uint32_t r1 __asm__("r1") = channel;
    register uint32_t *r2 __asm__("r2") = columns[0][0], *r3 __asm__("r3") = r2 + sizeof columns / 4u;
    __asm__ volatile(
        "1: ldmia r0!, {r4, r5, r6, r7}\n ldr r4, [r4, r1]\n ldr r5, [r5, r1]\n ldr r6, [r6, r1]\n"
        "ldr r7, [r7, r1]\n" HALF("") HALF(", ror #8") "cmp r2, r3\n bne 1b\n"
        "ldr r0, %[to]\n ldr r1, %[bytes]\n sub r2, r2, %[size]\n add r3, r0, r1, lsl #2\n"
        "add lr, r3, r1, lsl #3\n sub lr, lr, r1\n add r12, lr, r1, lsl #2\n"
        "2:" ROW("0", "0") ROW("16", "8")
        "add r0, r0, r1\n add r3, r3, r1\n sub r12, r12, r1\n sub lr, lr, r1\n add r2, r2, #4\n"
        "ldr r4, %[rows_end]\n cmp r2, r4\n bne 2b"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "=m"(columns)
        : [to] "m"(to), [bytes] "m"(bytes), [rows_end] "m"(rows_end), [size] "i"(sizeof columns)
        : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
/* clang-format on */
#else
/* Inputs (0, 2) of four, or (1, 3), for column i of what is transformed. */
static void transform_half(const block *b, uint32_t channel, uint32_t half) {
    uint32_t columns[COLUMNS][ROWS], stride = b->channels, *to = b->patch + channel + half * 2u;
    for (uint32_t x = 0; x < COLUMNS; x++) {
        uint32_t a[ROWS];
        for (uint32_t y = 0; y < ROWS; y++) {
            uint32_t word = ml_load_word(b->pixels[x][y] + channel);
            a[y] = half == 0 ? ml_even_bytes(word) : ml_odd_bytes(word);
        }
        columns[x][0] = ml_sub_halves(a[0], a[2]), columns[x][1] = ml_sub_halves(a[1], a[3]);
        columns[x][2] = ml_add_halves(a[1], a[2]), columns[x][3] = ml_sub_halves(a[2], a[1]);
    }
    for (uint32_t y = 0; y < ROWS; y++) {
        for (uint32_t tile = 0; tile < 2; tile++) {
            uint32_t *const first = to + tile, *const last = first + (POSITIONS - 1u) * stride;
            const uint32_t(*a)[ROWS] = columns + 2u * tile;
            first[y * stride] = ml_add_halves(a[1][y], a[2][y]);
            first[(ROWS + y) * stride] = ml_sub_halves(a[2][y], a[1][y]);
            last[-(int32_t)((ROWS + y) * stride)] = ml_sub_halves(a[1][y], a[3][y]);
            last[-(int32_t)(y * stride)] = ml_sub_halves(a[0][y], a[2][y]);
        }
    }
}

static void transform_four(const block *b, uint32_t channel) {
    transform_half(b, channel, 0);
    transform_half(b, channel, 1);
}
#endif

ml_status ml_conv_winograd_s8_check(const void *args, const ml_operand *operands) { return check(args, operands); }

int32_t ml_conv_winograd_s8(const void *args, void *const *operands) { return convolve(args, operands); }
