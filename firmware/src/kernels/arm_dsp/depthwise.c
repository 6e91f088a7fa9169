/* DEPTHWISE_CONV_2D, int8, one output a channel, kernels of any size: pixel by pixel, four channels at a time.
 *
 * Taps are taken in pairs: of the words that hold four channels of each, SXTB16 and PKH make a word of both taps for
 * each channel, which is multiplied with a word of two weights. A tap outside the image reads zero points. */
#include "../window.h"
#include "simd.h"

#define CHANNELS 4u /* at a time */
#define MOST_TAPS 50u

/* What a program has behind the weights of four channels, which are doubled. */
typedef struct rounding {
    int32_t multiplier, offset, shift;
} rounding;

static uint32_t pairs_of(const ml_window *w) { return ((uint32_t)w->kernel_height * w->kernel_width + 1u) / 2u; }

ml_status ml_depthwise_s8_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_s8_args *a = args;
    const ml_window *w = &a->window;
    uint32_t blocks = w->input_channels / CHANNELS + (w->input_channels % CHANNELS != 0);
    bool sound = w->input_channels >= CHANNELS && w->output_channels == w->input_channels && pairs_of(w) != 0 &&
                 2u * pairs_of(w) <= MOST_TAPS && ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, blocks, CHANNELS, 4u + pairs_of(w), 1) &&
                 ml_holds(&operands[3], 1, w->input_channels, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* Four channels of one pixel, `first` being those of the window's first tap; returns the constants of the next four. */
#ifdef __ARM_FEATURE_DSP
#define ROUNDED(sum, to)                                                                      \
    "ldm r3!, {r8, r9, r10}\n smmlar r11, " sum ", r8, r9\n add r11, r11, " sum ", asr #31\n" \
    "asr r11, r11, r10\n ssat r11, #8, r11\n strb r11, [%[output], " to "]\n"
static const int32_t *four_channels(const uintptr_t *taps, const uintptr_t *end, uintptr_t first,
                                    const int32_t *constants, int8_t *output) {
    register const int32_t *r3 __asm__("r3") = constants;
    __asm__ volatile("ldm r3!, {r4-r7}\n"
                     "1: ldrd r8, r9, [%[taps]], #8\n ldr r8, [r8, %[first]]\n ldr r9, [r9, %[first]]\n"
                     "pkhbt r10, r8, r9, lsl #16\n pkhtb r9, r9, r8, asr #16\n"
                     "sxtb16 r8, r10\n sxtb16 r10, r10, ror #8\n ldrd r11, r12, [r3], #8\n"
                     "smlad r4, r8, r11, r4\n smlad r5, r10, r12, r5\n"
                     "sxtb16 r8, r9\n sxtb16 r9, r9, ror #8\n ldrd r11, r12, [r3], #8\n"
                     "smlad r6, r8, r11, r6\n smlad r7, r9, r12, r7\n"
                     "cmp %[taps], %[end]\n bne 1b\n" ROUNDED("r4", "#0") ROUNDED("r5", "#1") ROUNDED("r6", "#2")
                         ROUNDED("r7", "#3")
                     : "+r"(r3), [taps] "+r"(taps)
                     : [end] "r"(end), [first] "r"(first), [output] "r"(output)
                     : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "cc", "memory");
    return r3;
}
#else
static const int32_t *four_channels(const uintptr_t *taps, const uintptr_t *end, uintptr_t first,
                                    const int32_t *constants, int8_t *output) {
    int32_t sums[CHANNELS];
    memcpy(sums, constants, sizeof sums);
    for (constants += CHANNELS; taps != end; taps += 2, constants += CHANNELS) {
        uint32_t a = ml_load_word((const void *)(first + taps[0])), b = ml_load_word((const void *)(first + taps[1]));
        uint32_t low = ml_lower_halves(a, b), high = ml_upper_halves(a, b);
        sums[0] = ml_smlad(ml_even_bytes(low), (uint32_t)constants[0], sums[0]);
        sums[1] = ml_smlad(ml_odd_bytes(low), (uint32_t)constants[1], sums[1]);
        sums[2] = ml_smlad(ml_even_bytes(high), (uint32_t)constants[2], sums[2]);
        sums[3] = ml_smlad(ml_odd_bytes(high), (uint32_t)constants[3], sums[3]);
    }
    const rounding *r = (const rounding *)(const void *)constants;
    for (uint32_t i = 0; i < CHANNELS; i++, r++) {
        int32_t y = (ml_smmlar(sums[i], r->multiplier, r->offset) + (sums[i] >> 31)) >> (r->shift & 31);
        output[i] = (int8_t)ml_saturate_s8(y);
    }
    return (const int32_t *)(const void *)r;
}
#endif

/* Where the taps of the window whose top left one is (top, left) lie, counted from `first`; outside the image
 * that is `padding`. The last pair is filled up with the first tap, whose weight there is 0: it moves with the window.
 */
static void find_taps(const ml_window *w, uintptr_t image, uintptr_t first, uintptr_t padding, uint32_t top,
                      uint32_t left, uintptr_t *taps) {
    const uintptr_t *start = taps;
    for (uint32_t ky = 0; ky < w->kernel_height; ky++, top += w->dilation_height) {
        for (uint32_t kx = 0, x = left; kx < w->kernel_width; kx++, x += w->dilation_width) {
            bool inside = top < w->input_height && x < w->input_width;
            *taps++ = (inside ? image + (top * w->input_width + x) * w->input_channels : padding) - first;
        }
    }
    *taps = *start;
}

/* All channels of one pixel; some of the last four may be done already. */
static void all_channels(const ml_window *w, const uintptr_t *taps, uintptr_t first, const int32_t *constants,
                         int8_t *output) {
    const uintptr_t *end = taps + 2u * pairs_of(w);
    uint32_t last = w->input_channels - CHANNELS;
    for (uint32_t channel = 0; channel < last; channel += CHANNELS) {
        constants = four_channels(taps, end, first + channel, constants, output + channel);
    }
    four_channels(taps, end, first + last, constants, output + last);
}

/* Whether all of the `kernel` taps from `origin` on lie below `size`. */
static bool inside(uint32_t origin, uint32_t kernel, uint32_t dilation, uint32_t size) {
    return origin < size && origin + (kernel - 1u) * dilation < size;
}

static int8_t *one_image(const ml_window *w, uintptr_t image, void *const *operands, int8_t *output) {
    uintptr_t taps[MOST_TAPS];
    uint32_t top = 0u - w->pad_top;
    for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
        bool row_inside = inside(top, w->kernel_height, w->dilation_height, w->input_height);
        bool known = false; /* where the taps lie: as in the last window, if both are inside */
        uint32_t left = 0u - w->pad_left;
        for (uint32_t x = 0; x < w->output_width; x++, left += w->stride_width, output += w->input_channels) {
            uintptr_t first = image + (top * w->input_width + left) * w->input_channels;
            bool whole = row_inside && inside(left, w->kernel_width, w->dilation_width, w->input_width);
            if (!whole || !known) {
                find_taps(w, image, first, (uintptr_t)operands[3], top, left, taps);
            }
            known = whole;
            all_channels(w, taps, first, operands[1], output);
        }
    }
    return output;
}

int32_t ml_depthwise_s8(const void *args, void *const *operands) {
    const ml_depthwise_s8_args *a = args;
    const ml_window *w = &a->window;
    uintptr_t image = (uintptr_t)operands[0];
    int8_t *output = operands[2];
    for (uint32_t batch = 0; batch < w->batches; batch++) {
        output = one_image(w, image, operands, output);
        image += w->input_height * w->input_width * w->input_channels;
    }
    return 0;
}
