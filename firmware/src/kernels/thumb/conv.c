/* CONV_2D, two products a multiply: a word holds two signed numbers, (high << 16) + low, and so does what comes of
 * multiplying it. With weights at their own size the two are inputs of two pixels; where they may take twice that,
 * weights of two output channels.
 *
 * Products are added up in twos before the halves are told apart: the host has seen to it that no low half of a group
 * leaves 16 bits. A sum has a word of everything, modulo 2^32, and a sum of the high halves; what is left of the first
 * without the second is the sum of the low halves.
 *
 * Some pixels at a time are spread out to words, taps in pairs: [pairs of taps][2][2 taps]. */
#include "../window.h"
#include "rescale.h"

#define GROUP_TAPS 2u

/* What two pairs of sums start with and come to: of words, and of high halves. */
typedef struct sums {
    uint32_t all[2], high[2];
} sums;

static inline int32_t low_sum(const sums *s, uint32_t i) { return (int32_t)(s->all[i] - (s->high[i] << 16)); }

#if defined(__thumb__) && !defined(__thumb2__)
/* Adds the products of two words of inputs and of the weights in `w0` and `w1`. The shift leaves in the carry whether
 * the low half is negative. */
#define HALF_GROUP(w0, w1, all, high) \
    "ldmia %[inputs]!, {r2, r3}\n"    \
    "muls r2, " w0 ", r2\n"           \
    "muls r3, " w1 ", r3\n"           \
    "adds r2, r2, r3\n"               \
    "add %[" all "], r2\n"            \
    "asrs r2, r2, #16\n"              \
    "adcs %[" high "], %[" high "], r2\n"

/* The loop over groups, four in one round, entered where what is left is a whole number of rounds. */
#define GROUPS(group0, group1, group2, group3, next)                                                                   \
    __asm__ volatile(".syntax unified\n"                                                                               \
                     "add pc, %[skip]\n"                                                                               \
                     "nop\n"                                                                                           \
                     "1:\n" group0 group1 group2 group3 next "cmp %[inputs], %[end]\n"                                 \
                     "bne 1b"                                                                                          \
                     : [inputs] "+l"(inputs), [weights] "+l"(weights), [all0] "+h"(s->all[0]), [all1] "+h"(s->all[1]), \
                       [high0] "+l"(s->high[0]), [high1] "+l"(s->high[1])                                              \
                     : [end] "h"(end), [skip] "h"(skip)                                                                \
                     : "r2", "r3", "r4", "r5", "cc", "memory")

ML_INLINE void add_wide(sums *s, const uint32_t *inputs, const uint32_t *weights, uint32_t groups) {
    const uint32_t *end = inputs + 4u * groups;
    uint32_t skip = ((0u - groups) & 3u) * 30u;
#define WIDE \
    "ldmia %[weights]!, {r4, r5}\n" HALF_GROUP("r4", "r5", "all0", "high0") HALF_GROUP("r4", "r5", "all1", "high1")
    GROUPS(WIDE, WIDE, WIDE, WIDE, "");
}

ML_INLINE void add_narrow(sums *s, const uint32_t *inputs, const int8_t *weights, uint32_t groups) {
    const uint32_t *end = inputs + 4u * groups;
    uint32_t skip = (0u - groups) & 3u;
    weights -= GROUP_TAPS * skip;
    skip *= 36u;
#define NARROW(at)                     \
    "ldrh r4, [%[weights], #" at "]\n" \
    "sxtb r5, r4\n"                    \
    "lsls r4, r4, #16\n"               \
    "asrs r4, r4, #24\n" HALF_GROUP("r5", "r4", "all0", "high0") HALF_GROUP("r5", "r4", "all1", "high1")
    GROUPS(NARROW("0"), NARROW("2"), NARROW("4"), NARROW("6"), "adds %[weights], %[weights], #8\n");
}
#else
static inline void add_group(sums *s, const uint32_t *inputs, uint32_t weight0, uint32_t weight1) {
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t group = inputs[2u * i] * weight0 + inputs[2u * i + 1u] * weight1;
        s->all[i] += group;
        s->high[i] += (uint32_t)((int32_t)group >> 16) + ((group >> 15) & 1u);
    }
}

static void add_wide(sums *s, const uint32_t *inputs, const uint32_t *weights, uint32_t groups) {
    for (; groups != 0; groups--, inputs += 4, weights += GROUP_TAPS) {
        add_group(s, inputs, weights[0], weights[1]);
    }
}

static void add_narrow(sums *s, const uint32_t *inputs, const int8_t *weights, uint32_t groups) {
    for (; groups != 0; groups--, inputs += 4, weights += GROUP_TAPS) {
        add_group(s, inputs, (uint32_t)weights[0], (uint32_t)weights[1]);
    }
}
#endif

/* Where the next inputs of one pixel of a block go. */
typedef struct place {
    uint32_t *word;
    bool odd; /* the second of a pair of taps */
    bool upper; /* inputs are added to the upper halves of words */
} place;

static inline void put(place *p, int32_t input) {
    *p->word = p->upper ? *p->word + ((uint32_t)input << 16) : (uint32_t)input;
    p->word += p->odd ? 3 : 1;
    p->odd = !p->odd;
}

/* Inputs that lie `step` bytes apart: 1, or 0 for one that is repeated. */
static void spread(place *p, const int8_t *from, uint32_t count, uint32_t step) {
    if (p->odd && count != 0) {
        put(p, *from);
        from += step;
        count--;
    }
    uint32_t *to = p->word;
    const int8_t *next = from + step;
    if (p->upper) {
        for (; count >= GROUP_TAPS; count -= GROUP_TAPS, to += 4, from += 2u * step, next += 2u * step) {
            to[0] += (uint32_t)*from << 16;
            to[1] += (uint32_t)*next << 16;
        }
    } else {
        for (; count >= GROUP_TAPS; count -= GROUP_TAPS, to += 4, from += 2u * step, next += 2u * step) {
            to[0] = (uint32_t)*from;
            to[1] = (uint32_t)*next;
        }
    }
    p->word = to;
    if (count != 0) {
        put(p, *from);
    }
}

/* Spreads the inputs under the window whose top left tap is (top, left). */
static void spread_window(const ml_window *w, const int8_t *image, uint32_t top, uint32_t left, int8_t zero_point,
                          place to) {
    for (uint32_t ky = 0; ky < w->kernel_height; ky++, top += w->dilation_height) {
        uint32_t column = left;
        for (uint32_t kx = 0, taps; kx < w->kernel_width; kx += taps, column += taps * w->dilation_width) {
            const int8_t *pixel = ml_pixel(w, image, top, column, w->input_channels, NULL);
            bool run = pixel != NULL && w->dilation_width == 1;
            taps = run ? ML_MIN(w->kernel_width - kx, w->input_width - column) : 1u;
            spread(&to, pixel != NULL ? pixel : &zero_point, taps * w->input_channels, pixel != NULL);
        }
    }
    if (to.odd) {
        put(&to, 0); /* meets a weight of 0 */
    }
}

/* The pixel that is computed next. */
typedef struct cursor {
    const int8_t *image;
    uint32_t y, x;
} cursor;

static void spread_next(const ml_window *w, cursor *c, int8_t zero_point, place to) {
    spread_window(w, c->image, c->y * w->stride_height - w->pad_top, c->x * w->stride_width - w->pad_left, zero_point,
                  to);
    if (++c->x == w->output_width) {
        c->x = 0;
        if (++c->y == w->output_height) {
            c->y = 0;
            c->image += w->input_height * w->input_width * w->input_channels;
        }
    }
}

/* Two outputs of one channel; where both go to one place, it is the first that stays. */
static inline void finish(const ml_quantized *q, const ml_channel *c, int32_t sum0, int8_t *to0, int32_t sum1,
                          int8_t *to1) {
    if (!ml_is_long(c)) {
        ml_rescale_two(c, &sum0, &sum1);
    } else {
        sum0 = ml_rescaled_long(q, c, sum0);
        sum1 = ml_rescaled_long(q, c, sum1);
    }
    *to1 = (int8_t)sum1;
    *to0 = (int8_t)sum0;
}

static uint32_t groups_of(const ml_window *w) {
    return (w->kernel_height * w->kernel_width * w->input_channels + GROUP_TAPS - 1u) / GROUP_TAPS;
}

/* All channels of two pixels; `next` is how far the second one's outputs lie from the first one's. */
static void two_pixels(const ml_thumb_conv_2d_args *a, void *const *operands, int8_t *output, uint32_t next) {
    const ml_window *w = &a->window;
    const uint32_t *weights = operands[1];
    const ml_channel *c = operands[2];
    uint32_t groups = groups_of(w);
    for (uint32_t left = w->output_channels; left != 0; c += 2, weights += GROUP_TAPS * groups) {
        uint32_t low = (uint32_t)c[0].start, high = (uint32_t)c[1].start, all = low + (high << 16);
        sums s = {{all, all}, {high, high}};
        add_wide(&s, operands[4], weights, groups);
        uint32_t one = left > 1;
        finish(&a->quantized, &c[1], (int32_t)s.high[0], output + one, (int32_t)s.high[1], output + next + one);
        finish(&a->quantized, &c[0], low_sum(&s, 0), output, low_sum(&s, 1), output + next);
        output += 1u + one;
        left -= 1u + one;
    }
}

/* All channels of four pixels; `next` is how far the outputs of each lie from the first one's. */
static void four_pixels(const ml_thumb_conv_2d_args *a, void *const *operands, int8_t *output, const uint32_t *next) {
    const ml_window *w = &a->window;
    const int8_t *weights = operands[1];
    const ml_channel *c = operands[2];
    uint32_t groups = groups_of(w);
    for (uint32_t left = w->output_channels; left != 0; left--, c++, weights += GROUP_TAPS * groups, output++) {
        uint32_t start = (uint32_t)c->start, all = start + (start << 16);
        sums s = {{all, all}, {start, start}};
        add_narrow(&s, operands[4], weights, groups);
        finish(&a->quantized, c, low_sum(&s, 1), output + next[1], (int32_t)s.high[1], output + next[2]);
        finish(&a->quantized, c, low_sum(&s, 0), output, (int32_t)s.high[0], output + next[0]);
    }
}

static ml_status check(const ml_thumb_conv_2d_args *a, const ml_operand *operands, uint32_t together,
                       uint32_t weight_bytes) {
    const ml_window *w = &a->window;
    if (w->output_channels > UINT32_MAX - together || !ml_window_holds(w, &operands[0], 1, &operands[3], 1) ||
        !ml_holds(&operands[4], 8, w->kernel_height, w->kernel_width, w->input_channels, 1)) {
        return ML_ERR_OPERAND;
    }
    uint32_t groups = groups_of(w), sets = (w->output_channels + together - 1u) / together;
    bool sound = groups != 0 && ml_holds(&operands[4], 16, groups, 1, 1, 1) &&
                 ml_holds(&operands[1], weight_bytes, sets, groups, GROUP_TAPS, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), sets, together, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

ml_status ml_conv_2d_s8_channel_pairs_check(const void *args, const ml_operand *operands) {
    return check(args, operands, 2, 4);
}

int32_t ml_conv_2d_s8_channel_pairs(const void *args, void *const *operands) {
    const ml_thumb_conv_2d_args *a = args;
    const ml_window *w = &a->window;
    cursor at = {operands[0], 0, 0};
    int8_t *output = operands[3], zero_point = (int8_t)a->quantized.input_zero_point;
    for (uint32_t left = w->batches * w->output_height * w->output_width, count; left != 0; left -= count) {
        count = ML_MIN(left, 2u);
        for (uint32_t i = 0; i < count; i++) {
            spread_next(w, &at, zero_point, (place){(uint32_t *)operands[4] + 2u * i, false, false});
        }
        two_pixels(a, operands, output, (count - 1u) * w->output_channels);
        output += count * w->output_channels;
    }
    return 0;
}

ml_status ml_conv_2d_s8_pixel_pairs_check(const void *args, const ml_operand *operands) {
    return check(args, operands, 1, 1);
}

int32_t ml_conv_2d_s8_pixel_pairs(const void *args, void *const *operands) {
    const ml_thumb_conv_2d_args *a = args;
    const ml_window *w = &a->window;
    cursor at = {operands[0], 0, 0};
    int8_t *output = operands[3], zero_point = (int8_t)a->quantized.input_zero_point;
    for (uint32_t left = w->batches * w->output_height * w->output_width, count; left != 0; left -= count) {
        count = ML_MIN(left, 4u);
        uint32_t next[3];
        for (uint32_t i = 0; i < count; i++) {
            spread_next(w, &at, zero_point, (place){(uint32_t *)operands[4] + (i & 2u), false, i & 1u});
        }
        for (uint32_t i = 0; i < 3; i++) {
            next[i] = ML_MIN(i + 1u, count - 1u) * w->output_channels;
        }
        four_pixels(a, operands, output, next);
        output += count * w->output_channels;
    }
    return 0;
}
