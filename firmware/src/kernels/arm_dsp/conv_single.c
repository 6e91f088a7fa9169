/* CONV_2D, int8: kernels of 3 by 3 over images of one channel, for outputs that are clamped to their zero point or
 * above: pixel by pixel, the window in five registers for all channels.
 *
 * They hold rows (a, b, c) of the window as (a0, a2), (b0, b2), (c0, c2), (a1, b1), (c1, c3): c3 lies beside the
 * window, and its weight is 0. */
#include "../window.h"
#include "simd.h"

#define CHANNELS 4u /* without a loop */
#define WINDOW_BYTES 4u /* of a row, as it is read */

/* Weights in the order of the window and start value, times the power of 2 that gives the channel the common shift. */
typedef struct channel {
    uint32_t weights[5];
    int32_t start, multiplier, offset;
} channel;

/* Windows side by side: `at` is the first byte of the next. */
typedef struct run {
    const int8_t *at;
    uint32_t down, step; /* bytes to the window's next row, and to the next window */
    uint32_t count; /* not 0 */
    const channel *channels, *end;
    int8_t *output;
} run;

/* Computes all channels of the windows of `given`; returns the end of the outputs. */
#ifdef __ARM_FEATURE_DSP
/* clang-format off */
/* Registers: r0-r4 the window, r5-r9 weights, then multiplier and offset, r10 sum, r11 output, r12 end, lr channels. */
#define CHANNEL                                                                                       \
    "ldmia lr!, {r5-r10}\n smlad r10, r0, r5, r10\n smlad r10, r1, r6, r10\n smlad r10, r2, r7, r10\n" \
    "smlad r10, r3, r8, r10\n smlad r10, r4, r9, r10\n ldmia lr!, {r5, r6}\n"                         \
    "smmla r10, r10, r5, r6\n ssat r10, #8, r10, asr #" ML_TEXT(COMMON_SHIFT) "\n strb r10, [r11], #1\n"
__attribute__((noinline)) static int8_t *windows(const run *given) {
    run r = *given;
    register int8_t *output __asm__("r11") = r.output;
    __asm__ volatile(
        "1: ldrd r5, r6, %[at]\n ldrd r7, r8, %[step]\n ldrd lr, r12, %[channels]\n"
        "add r9, r5, r6, lsl #1\n ldr r1, [r5, r6]\n ldr r0, [r5]\n ldr r2, [r9]\n add r5, r5, r7\n str r5, %[at]\n"
        "subs r8, r8, #1\n str r8, %[count]\n"
        "sxtb16 r3, r0, ror #8\n sxtb16 r4, r1, ror #8\n pkhbt r3, r3, r4, lsl #16\n sxtb16 r4, r2, ror #8\n"
        "sxtb16 r0, r0\n sxtb16 r1, r1\n sxtb16 r2, r2\n"
        "2:" CHANNEL CHANNEL CHANNEL CHANNEL "cmp lr, r12\n bne 2b\n ldr r5, %[count]\n cmp r5, #0\n bne 1b"
        : "+r"(output), [at] "+m"(r.at), [count] "+m"(r.count)
        : "m"(r.down), [step] "m"(r.step), [channels] "m"(r.channels), "m"(r.end)
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r12", "lr", "cc", "memory");
    return output;
}
/* clang-format on */
#else
static int8_t *windows(const run *given) {
    int8_t *output = given->output;
    const int8_t *at = given->at;
    for (uint32_t left = given->count; left != 0; left--, at += given->step) {
        uint32_t a = ml_load_word(at), b = ml_load_word(at + given->down), c = ml_load_word(at + 2u * given->down);
        uint32_t ab = ml_lower_halves(ml_odd_bytes(a), ml_odd_bytes(b));
        uint32_t window[] = {ml_even_bytes(a), ml_even_bytes(b), ml_even_bytes(c), ab, ml_odd_bytes(c)};
        for (const channel *out = given->channels; out != given->end; out++) {
            int32_t sum = out->start;
            for (uint32_t i = 0; i < 5; i++) {
                sum = ml_smlad(window[i], out->weights[i], sum);
            }
            sum = ml_smmla(sum, out->multiplier, out->offset) >> COMMON_SHIFT;
            *output++ = (int8_t)ml_saturate_s8(sum);
        }
    }
    return output;
}
#endif

ml_status ml_conv_single_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_single_s8_args *a = args;
    const ml_window *w = &a->window;
    bool sound = w->input_channels == 1 && w->output_channels != 0 && w->output_channels % CHANNELS == 0 &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], sizeof(channel), w->output_channels, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* One window that lies outside the image in part, or whose last word does. */
static int8_t *edge(const ml_conv_single_s8_args *a, const int8_t *image, uint32_t top, uint32_t left, run r) {
    const ml_window *w = &a->window;
    int8_t window[3u * WINDOW_BYTES], padding = (int8_t)a->padding;
    for (uint32_t y = 0; y < 3; y++) {
        for (uint32_t x = 0; x < WINDOW_BYTES; x++) {
            window[y * WINDOW_BYTES + x] = *(const int8_t *)ml_pixel(w, image, top + y, left + x, 1, &padding);
        }
    }
    r.at = window, r.down = WINDOW_BYTES, r.count = 1;
    return windows(&r);
}

/* How many windows of a row that begin at column `left` and further on lie inside. */
static uint32_t count_inside(const ml_window *w, uint32_t left) {
    if (w->input_width < WINDOW_BYTES || left > w->input_width - WINDOW_BYTES) {
        return 0;
    }
    return (w->input_width - WINDOW_BYTES - left) / ML_MAX(w->stride_width, 1u) + 1u;
}

static int8_t *one_image(const ml_conv_single_s8_args *a, const int8_t *image, run r) {
    const ml_window *w = &a->window;
    uint32_t top = 0u - w->pad_top;
    for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
        bool inside = top < w->input_height && w->input_height - top >= 3;
        uint32_t left = 0u - w->pad_left;
        for (uint32_t x = 0, count; x < w->output_width; x += count, left += count * w->stride_width) {
            count = inside ? ML_MIN(count_inside(w, left), w->output_width - x) : 0;
            if (count == 0) {
                r.output = edge(a, image, top, left, r);
                count = 1;
            } else {
                r.at = image + top * w->input_width + left, r.count = count;
                r.output = windows(&r);
            }
        }
    }
    return r.output;
}

int32_t ml_conv_single_s8(const void *args, void *const *operands) {
    const ml_conv_single_s8_args *a = args;
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    const channel *channels = operands[1];
    run r = {NULL, w->input_width, w->stride_width, 0, channels, channels + w->output_channels, operands[2]};
    for (uint32_t batch = 0; batch < w->batches; batch++, image += w->input_height * w->input_width) {
        r.output = one_image(a, image, r);
    }
    return 0;
}
