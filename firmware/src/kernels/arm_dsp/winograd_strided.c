/* CONV_2D 3x3 of stride 2, int8, by Winograd's F(2, 2) in integers: 25 products in place of 36 for four outputs.
 * S. Winograd, Arithmetic complexity of computations, 1980.
 *
 * Two tiles of 2x2 outputs, side by side, and two channels at a time. Along an axis both outputs of the inputs d are
 * y0 = (g0 + g2) d2 + g0 (d0 - d2) + g1 d1 and y1 = (g0 + g2) d2 + g2 (d4 - d2) + g1 d3: a product that they share, and
 * two of their own. The host has transformed the weights, and multiplied them by the power of 2 that gives their
 * channel the common shift. Sums may wrap on the way.
 *
 * In each position of the patch, as of the weights, what is shared comes first, then what y1 has alone, then what y0
 * has: of rows where columns share; of rows for the right outputs; of rows for the left ones. So each sum is one run:
 * what all share, what the lower ones share, the upper ones; what the right ones share, the right lower has, the right
 * upper; the left likewise.
 *
 * Weights are a stream, for each two channels: two start values; for each four inputs of a position the words (0, 2)
 * of both channels, then (1, 3); behind what a corner has alone (multiplier, offset, sign) of both channels. See
 * sdk/variants/arm_dsp_winograd.py. */
#define STRIDE 2u
#define POSITIONS 25u
#define OTHER_WORDS 26u
#include "winograd.h"

#define AXIS 5u /* positions along one */

#ifdef __ARM_FEATURE_DSP
/* clang-format off */
#define UNTIL(end, quads) "1:" quads "ldr r2, %[" end "]\n cmp r0, r2\n bne 1b\n"
#define SIXTEEN QUAD QUAD QUAD QUAD
#define MORE(end) UNTIL(end, SIXTEEN SIXTEEN)
#define SLOTS(name) [name] "=m"(name[0]), [name##_upper] "=m"(name[1])
/* Both corners of a column of outputs, whose shared sums follow, then their own. */
#define OUTPUT_COLUMN(shared, own_lower, own_upper, lower, upper)                                     \
    ZEROS MORE(shared) KEPT("top") ADD_ASIDE KEEP_OTHER("one") KEPT("bottom") ADD                     \
    MORE(own_lower) CORNER(lower) TAKE("one") MORE(own_upper) CORNER(upper)
/* Not part of its caller: then what lies on the stack is in reach of LDRD. */
__attribute__((noinline)) static void multiply(const job *j, const int32_t *weights) {
    static const uint8_t counts[] = {1, 2, 2, 2, 4, 4, 2, 4, 4};
    job f = *j;
    const uint32_t *ends[sizeof counts], *at = f.patch;
    both_tiles one[2], top[2], bottom[2];
    for (uint32_t i = 0; i < sizeof counts; i++) {
        ends[i] = at += counts[i] * f.position_bytes / 4u;
    }
    register const uint32_t *r0 __asm__("r0");
    register const int32_t *r1 __asm__("r1") = weights; /* not before f is copied: that takes r0 to r3 */
    __asm__ volatile(
        "0: ldr r0, %[patch]\n" STARTS UNTIL("all", SIXTEEN) KEEP("one") MORE("lower") KEEP("bottom")
        TAKE("one") MORE("upper") KEEP("top")
        OUTPUT_COLUMN("right", "right_lower", "right_upper", "corner_0", "corner_1")
        OUTPUT_COLUMN("left", "left_lower", "left_upper", "corner_2", "corner_3")
        "ldr r2, %[channels_end]\n cmp r8, r2\n bne 0b\n"
        : "=&r"(r0), "+r"(r1), SLOTS(one), SLOTS(top), SLOTS(bottom), [corner_0] "+m"(f.pixels[0]),
          [corner_1] "+m"(f.pixels[1]), [corner_2] "+m"(f.pixels[2]), [corner_3] "+m"(f.pixels[3])
        : [patch] "m"(f.patch), [channels_end] "m"(f.end), [all] "m"(ends[0]), [lower] "m"(ends[1]), [upper] "m"(ends[2]),
          [right] "m"(ends[3]), [right_lower] "m"(ends[4]), [right_upper] "m"(ends[5]), [left] "m"(ends[6]),
          [left_lower] "m"(ends[7]), [left_upper] "m"(ends[8])
        : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
/* clang-format on */
#else
static sums with_positions(stream *s, uint32_t count, sums to) {
    for (; count != 0; count--) {
        to = with_products(s, to);
    }
    return to;
}

static void multiply(const job *j, const int32_t *weights) {
    job f = *j;
    stream s = {j->patch, weights, j->position_bytes / 4u};
    for (; f.pixels[CORNERS - 1u][0] != f.end; s.inputs = j->patch) {
        sums zero = {{0, 0, 0, 0}}, all = with_products(&s, start_of(&s));
        sums lower = with_positions(&s, 2, all), upper = with_positions(&s, 2, all);
        for (uint32_t corner = 0; corner < CORNERS; corner += 2) {
            sums both = with_positions(&s, 2, zero);
            write_corner(&s, f.pixels[corner], with_positions(&s, 4, added(lower, both)));
            write_corner(&s, f.pixels[corner + 1u], with_positions(&s, 4, added(upper, both)));
        }
    }
}
#endif

/* One column of transformed rows. */
static inline void transform_half(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t *to) {
    to[0] = c, to[COLUMNS] = ml_sub_halves(e, c), to[2u * COLUMNS] = d;
    to[3u * COLUMNS] = ml_sub_halves(a, c), to[4u * COLUMNS] = b;
}

/* Of the inputs of four channels from `channel` on, (0, 2), and behind them (1, 3). */
static inline void transform_column(const int8_t *const *from, uint32_t channel, uint32_t *to) {
    uint32_t a = ml_load_word(from[0] + channel), b = ml_load_word(from[1] + channel);
    uint32_t c = ml_load_word(from[2] + channel), d = ml_load_word(from[3] + channel);
    uint32_t e = ml_load_word(from[4] + channel);
    transform_half(ml_even_bytes(a), ml_even_bytes(b), ml_even_bytes(c), ml_even_bytes(d), ml_even_bytes(e), to);
    to += AXIS * COLUMNS;
    transform_half(ml_odd_bytes(a), ml_odd_bytes(b), ml_odd_bytes(c), ml_odd_bytes(d), ml_odd_bytes(e), to);
}

/* Rows of transformed columns; `to`: of the first position. */
static inline void transform_rows(const uint32_t *a, uint32_t *to, uint32_t stride) {
    uint32_t *right = to + AXIS * stride, *left = right + 2u * AXIS * stride;
    for (const uint32_t *end = a + AXIS * COLUMNS; a != end; a += COLUMNS) {
        to[0] = a[2], to[1] = a[6], to += stride;
        right[0] = ml_sub_halves(a[4], a[2]), right[1] = ml_sub_halves(a[8], a[6]), right += stride;
        right[0] = a[3], right[1] = a[7], right += stride;
        left[0] = ml_sub_halves(a[0], a[2]), left[1] = ml_sub_halves(a[4], a[6]), left += stride;
        left[0] = a[1], left[1] = a[5], left += stride;
    }
}

__attribute__((noinline)) static void transform_four(const block *b, uint32_t channel) {
    uint32_t columns[2][AXIS * COLUMNS], *to = b->patch + channel;
    for (uint32_t x = 0; x < COLUMNS; x++) {
        transform_column(b->pixels[x], channel, columns[0] + x);
    }
    transform_rows(columns[0], to, b->channels);
    transform_rows(columns[1], to + 2, b->channels);
}

ml_status ml_conv_winograd_strided_s8_check(const void *args, const ml_operand *operands) {
    return check(args, operands);
}

int32_t ml_conv_winograd_strided_s8(const void *args, void *const *operands) { return convolve(args, operands); }
