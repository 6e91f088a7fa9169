/* DEPTHWISE_CONV_2D, int8, one output a channel, kernels of any size: pixel by pixel, four channels at a time.
 *
 * Taps are taken in pairs: of the words that hold four channels of each, PKH and SXTB16 make a word of both taps for
 * each channel, which is multiplied with a word of two weights. There are two pairs for each four taps, and a last tap
 * by itself, as most kernels have them; what lies outside the image reads zero points. */
#include "../window.h"
#include "simd.h"

#define CHANNELS 4u /* at a time */
#define MOST_TAPS 49u

static uint32_t quads_of(const ml_window *w) {
    return ML_MAX(((uint32_t)w->kernel_height * w->kernel_width + 2u) / 4u, 1u);
}

ml_status ml_depthwise_s8_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_s8_args *a = args;
    const ml_window *w = &a->window;
    uint32_t blocks = w->input_channels / CHANNELS + (w->input_channels % CHANNELS != 0);
    bool sound = w->input_channels >= CHANNELS && w->output_channels == w->input_channels && w->kernel_height != 0 &&
                 w->kernel_width != 0 && (uint32_t)w->kernel_height * w->kernel_width <= MOST_TAPS &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, blocks, 8u * quads_of(w) + 2u + 4u * CHANNELS, 1, 1) &&
                 ml_holds(&operands[3], 1, w->input_channels, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* One pixel's window: its taps, counted from the first, then what the loop over channels needs. */
typedef struct table {
    uintptr_t taps[MOST_TAPS + 2u];
} table;

/* Four channels after four, `first` to `last` being where each begins in the window's first tap. Returns the constants
 * of the next four. */
#ifdef __ARM_FEATURE_DSP
/* clang-format off */
#define ROUND(sum, to)                                                                            \
    "ldm r3!, {r8, r9, r10}\n smmlar r11, " sum ", r8, r9\n add r11, r11, " sum ", asr #31\n"     \
    "asr r11, r11, r10\n ssat r11, #8, r11\n strb r11, [r12, " to "]\n"
#define PAIR                                                                                      \
    "ldrd r8, r9, [r0], #8\n ldr r8, [r8, r2]\n ldr r9, [r9, r2]\n"                               \
    "pkhbt r10, r8, r9, lsl #16\n pkhtb r9, r9, r8, asr #16\n"                                    \
    "sxtb16 r8, r10\n sxtb16 r10, r10, ror #8\n ldrd r11, lr, [r3], #8\n"                         \
    "smlad r4, r8, r11, r4\n smlad r5, r10, lr, r5\n"                                             \
    "sxtb16 r8, r9\n sxtb16 r9, r9, ror #8\n ldrd r11, lr, [r3], #8\n"                            \
    "smlad r6, r8, r11, r6\n smlad r7, r9, lr, r7\n"
static const int32_t *channels_of(table *t, uint32_t quads, uintptr_t first, uintptr_t last, const int32_t *constants,
                                  int8_t *output) {
    uintptr_t *end = &t->taps[4u * quads];
    end[1] = (uintptr_t)t;
    end[2] = last;
    register uintptr_t *r0 __asm__("r0") = t->taps, *r1 __asm__("r1") = end, r2 __asm__("r2") = first;
    register const int32_t *r3 __asm__("r3") = constants;
    register int8_t *r12 __asm__("r12") = output;
    __asm__ volatile(
        "0: ldm r3!, {r4-r7}\n"
        "1:" PAIR PAIR "cmp r0, r1\n bne 1b\n"
        "ldr r8, [r1]\n ldr r8, [r8, r2]\n sxtb16 r9, r8\n sxtb16 r10, r8, ror #8\n ldrd r11, lr, [r3], #8\n"
        "smlabb r4, r9, r11, r4\n smlabb r5, r10, lr, r5\n smlatt r6, r9, r11, r6\n smlatt r7, r10, lr, r7\n"
        ROUND("r4", "#0") ROUND("r5", "#1") ROUND("r6", "#2") ROUND("r7", "#3")
        "ldrd r0, r8, [r1, #4]\n add r2, r2, #4\n add r12, r12, #4\n cmp r2, r8\n bls 0b\n"
        : "+r"(r0), "+r"(r2), "+r"(r3), "+r"(r12)
        : "r"(r1)
        : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "lr", "cc", "memory");
    return r3;
}
/* clang-format on */
#else
static const int32_t *channels_of(table *t, uint32_t quads, uintptr_t first, uintptr_t last, const int32_t *constants,
                                  int8_t *output) {
    for (; first <= last; first += CHANNELS, output += CHANNELS) {
        int32_t sums[CHANNELS];
        memcpy(sums, constants, sizeof sums);
        constants += CHANNELS;
        for (uint32_t i = 0; i < 4u * quads; i += 2, constants += CHANNELS) {
            uint32_t a = ml_load_word((const void *)(first + t->taps[i]));
            uint32_t b = ml_load_word((const void *)(first + t->taps[i + 1u]));
            uint32_t low = ml_lower_halves(a, b), high = ml_upper_halves(a, b);
            sums[0] = ml_smlad(ml_even_bytes(low), (uint32_t)constants[0], sums[0]);
            sums[1] = ml_smlad(ml_odd_bytes(low), (uint32_t)constants[1], sums[1]);
            sums[2] = ml_smlad(ml_even_bytes(high), (uint32_t)constants[2], sums[2]);
            sums[3] = ml_smlad(ml_odd_bytes(high), (uint32_t)constants[3], sums[3]);
        }
        uint32_t tap = ml_load_word((const void *)(first + t->taps[4u * quads]));
        sums[0] = ml_smlabb(ml_even_bytes(tap), (uint32_t)constants[0], sums[0]);
        sums[1] = ml_smlabb(ml_odd_bytes(tap), (uint32_t)constants[1], sums[1]);
        sums[2] = ml_smlatt(ml_even_bytes(tap), (uint32_t)constants[0], sums[2]);
        sums[3] = ml_smlatt(ml_odd_bytes(tap), (uint32_t)constants[1], sums[3]);
        constants += 2;
        for (uint32_t i = 0; i < CHANNELS; i++, constants += 3) { /* multiplier, offset, shift */
            int32_t y = ml_smmlar(sums[i], constants[0], constants[1]) + (sums[i] >> 31);
            output[i] = (int8_t)ml_saturate_s8(y >> (constants[2] & 31));
        }
    }
    return constants;
}
#endif

/* Where the taps of the window whose top left one is (top, left) lie, counted from `first`; outside the image
 * that is `padding`. What is too many is the first tap again, whose weight there is 0: it moves with the window. */
static void find_taps(const ml_window *w, uintptr_t image, uintptr_t first, uintptr_t padding, uint32_t top,
                      uint32_t left, uintptr_t *taps) {
    const uintptr_t *end = taps + 4u * quads_of(w) + 1u;
    const uintptr_t *start = taps;
    for (uint32_t ky = 0; ky < w->kernel_height; ky++, top += w->dilation_height) {
        for (uint32_t kx = 0, x = left; kx < w->kernel_width; kx++, x += w->dilation_width) {
            bool inside = top < w->input_height && x < w->input_width;
            *taps++ = (inside ? image + (top * w->input_width + x) * w->input_channels : padding) - first;
        }
    }
    while (taps != end) {
        *taps++ = *start;
    }
}

/* All channels of one pixel; some of the last four may be done already. */
static void all_channels(const ml_window *w, table *t, uintptr_t first, const int32_t *constants, int8_t *output) {
    uint32_t quads = quads_of(w), last = w->input_channels - CHANNELS;
    constants = channels_of(t, quads, first, first + (last & ~3u), constants, output);
    if ((last & 3u) != 0) {
        channels_of(t, quads, first + last, first + last, constants, output + last);
    }
}

/* Whether all of the `kernel` taps from `origin` on lie below `size`. */
static bool inside(uint32_t origin, uint32_t kernel, uint32_t dilation, uint32_t size) {
    return origin < size && origin + (kernel - 1u) * dilation < size;
}

static int8_t *one_image(const ml_window *w, uintptr_t image, void *const *operands, int8_t *output) {
    table t;
    uint32_t top = 0u - w->pad_top;
    for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
        bool row_inside = inside(top, w->kernel_height, w->dilation_height, w->input_height);
        bool known = false; /* where the taps lie: as in the last window, if both are inside */
        uint32_t left = 0u - w->pad_left;
        for (uint32_t x = 0; x < w->output_width; x++, left += w->stride_width, output += w->input_channels) {
            uintptr_t first = image + (top * w->input_width + left) * w->input_channels;
            bool whole = row_inside && inside(left, w->kernel_width, w->dilation_width, w->input_width);
            if (!whole || !known) {
                find_taps(w, image, first, (uintptr_t)operands[3], top, left, t.taps);
            }
            known = whole;
            all_channels(w, &t, first, operands[1], output);
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
