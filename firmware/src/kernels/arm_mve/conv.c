/* CONV_2D and FULLY_CONNECTED by VMLADAV, 16 products an instruction: four output channels for each load of inputs.
 * The constants are one stream, read once a pixel. For each four channels it holds: int32 starts[4]; weights, 16 of
 * each of the four channels after 16, then what is left over of each; int32 multipliers[4]; int32 shifts[4]. */
#include "mve.h"

#define GROUP_BYTES 48u /* of four channels but for their weights */

typedef struct job {
    const ml_conv_2d_s8_mve_args *args;
    int8_t *patch; /* the inputs under one window; NULL: they are one run of memory already */
    uint32_t taps;
    int32_t low[4], high[4];
} job;

ml_status ml_conv_2d_s8_mve_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_s8_mve_args *a = args;
    const ml_window *w = &a->window;
    uint32_t groups = (w->output_channels + 3u) / 4u;
    if (groups == 0 || w->input_channels == 0 || w->kernel_height == 0 || w->kernel_width == 0 ||
        !ml_holds(&operands[1], 4, groups, w->kernel_height, w->kernel_width, w->input_channels)) {
        return ML_ERR_ARGUMENT;
    }
    uint32_t taps = (uint32_t)w->kernel_height * w->kernel_width * w->input_channels;
    bool sound = ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, groups, taps + GROUP_BYTES / 4u, 1, 1) &&
                 (operands[3].ref == 0 ? ml_window_stays_inside(w) : ml_holds(&operands[3], 1, taps, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* Computes `groups` (not 0) times four channels of one pixel from `stream` on; returns where the stream goes on. A
 * function of its own, because its assembly leaves few registers to others. */
static __attribute__((noinline)) const int8_t *channels(const job *j, const int8_t *x, const int8_t *stream,
                                                        uint32_t groups, int8_t *to) {
    uint32_t chunks = j->taps / 16u, tail = j->taps % 16u;
#if defined(__ARM_FEATURE_MVE)
    int32x4_t low = vldrwq_s32(j->low), high = vldrwq_s32(j->high);
    int32_t zero = j->args->quantized.output_offset;
    __asm__ volatile("vctp.8 %[tail]\n"
                     "1: ldm %[w]!, {r0, r2, r4, r6}\n"
                     "wls lr, %[chunks], 3f\n"
                     "2: vldrb.8 q0, [%[x]], #16\n"
                     "vldrb.8 q1, [%[w]], #64\n"
                     "vmladava.s8 r0, q0, q1\n"
                     "vldrb.8 q1, [%[w], #-48]\n"
                     "vmladava.s8 r2, q0, q1\n"
                     "vldrb.8 q1, [%[w], #-32]\n"
                     "vmladava.s8 r4, q0, q1\n"
                     "vldrb.8 q1, [%[w], #-16]\n"
                     "vmladava.s8 r6, q0, q1\n"
                     "le lr, 2b\n"
                     "3: cbz %[tail], 4f\n"
                     "vpst\n" /* what is loaded beyond the tail of the inputs is 0 */
                     "vldrbt.8 q0, [%[x]]\n"
                     "vldrb.8 q1, [%[w]]\n"
                     "add %[w], %[w], %[tail]\n"
                     "vmladava.s8 r0, q0, q1\n"
                     "vldrb.8 q1, [%[w]]\n"
                     "add %[w], %[w], %[tail]\n"
                     "vmladava.s8 r2, q0, q1\n"
                     "vldrb.8 q1, [%[w]]\n"
                     "add %[w], %[w], %[tail]\n"
                     "vmladava.s8 r4, q0, q1\n"
                     "vldrb.8 q1, [%[w]]\n"
                     "add %[w], %[w], %[tail]\n"
                     "vmladava.s8 r6, q0, q1\n"
                     "4: sub %[x], %[x], %[chunks], lsl #4\n"
                     "vmov d0, r0, r2\n"
                     "vmov d1, r4, r6\n"
                     "vldrw.32 q1, [%[w]], #16\n"
                     "vqrdmulh.s32 q0, q0, q1\n"
                     "vshr.s32 q1, q0, #31\n" /* ties away from zero */
                     "vadd.i32 q0, q0, q1\n"
                     "vldrw.32 q1, [%[w]], #16\n"
                     "vrshl.s32 q0, q0, q1\n"
                     "vadd.i32 q0, q0, %[zero]\n"
                     "vmax.s32 q0, q0, %q[low]\n"
                     "vmin.s32 q0, q0, %q[high]\n"
                     "vstrb.32 q0, [%[to]], #4\n"
                     "subs %[groups], %[groups], #1\n"
                     "bne 1b"
                     : [w] "+r"(stream), [x] "+r"(x), [to] "+r"(to), [groups] "+r"(groups)
                     : [chunks] "r"(chunks), [tail] "l"(tail), [zero] "r"(zero), [low] "w"(low), [high] "w"(high)
                     : "r0", "r2", "r4", "r6", "lr", "q0", "q1", "cc", "memory");
#else
    const ml_quantized *q = &j->args->quantized;
    for (; groups != 0; groups--, to += 4) {
        int32_t sums[4], scales[8];
        memcpy(sums, stream, sizeof sums);
        stream += sizeof sums;
        for (uint32_t i = 0; i < chunks * 4u; i++, stream += 16) {
            sums[i % 4u] += ml_dot_s8(x + i / 4u * 16u, stream, 16);
        }
        for (uint32_t i = 0; i < 4; i++, stream += tail) {
            sums[i] += ml_dot_s8(x + chunks * 16u, stream, tail);
        }
        memcpy(scales, stream, sizeof scales);
        stream += sizeof scales;
        for (uint32_t i = 0; i < 4; i++) {
            to[i] = (int8_t)ml_finish(q, sums[i], (int32_t[]){scales[i], scales[4 + i]});
        }
    }
#endif
    return stream;
}

/* All channels of one pixel. Those that the last four have too many are the first of the next pixels, which overwrite
 * them, but for the `last` pixels. */
static int8_t *pixel(const job *j, const int8_t *x, const int8_t *stream, int8_t *to, bool last) {
    uint32_t outputs = j->args->window.output_channels, rest = outputs % 4u;
    if (!last) {
        channels(j, x, stream, (outputs + 3u) / 4u, to);
        return to + outputs;
    }
    int8_t four[4];
    if (outputs > rest) {
        stream = channels(j, x, stream, outputs / 4u, to);
        to += outputs - rest;
    }
    channels(j, x, stream, 1, four);
    memcpy(to, four, rest);
    return to + rest;
}

/* The part of `kernel` taps from `origin` on that lies in [0, size): the first, and how many. */
typedef struct span {
    uint32_t first, count;
} span;

static span inside(uint32_t origin, uint32_t kernel, uint32_t size) {
    if (origin < size) {
        return (span){0, ML_MIN(kernel, size - origin)};
    }
    uint32_t before = ML_MIN(0u - origin, kernel);
    return (span){before, ML_MIN(kernel - before, size)};
}

/* The inputs under the window whose top left tap is at (top, left); `rows` of them are inside the image. */
static const int8_t *gathered(const job *j, const int8_t *image, span rows, uint32_t top, uint32_t left) {
    const ml_window *w = &j->args->window;
    uint32_t pixel_bytes = w->input_channels, image_row = w->input_width * pixel_bytes;
    if (j->patch == NULL) {
        return image + top * image_row + left * pixel_bytes;
    }
    span columns = inside(left, w->kernel_width, w->input_width);
    uint32_t row = w->kernel_width * pixel_bytes;
    if (rows.count != w->kernel_height || columns.count != w->kernel_width) {
        ml_mve_fill(j->patch, (int8_t)j->args->quantized.input_zero_point, j->taps);
    }
    if (rows.count != 0 && columns.count != 0) {
        const int8_t *from = image + (top + rows.first) * image_row + (left + columns.first) * pixel_bytes;
        int8_t *to = j->patch + rows.first * row + columns.first * pixel_bytes;
        ml_mve_copy_rows(to, row, from, image_row, rows.count, columns.count * pixel_bytes);
    }
    return j->patch;
}

int32_t ml_conv_2d_s8_mve(const void *args, void *const *operands) {
    const ml_conv_2d_s8_mve_args *a = args;
    const ml_window *w = &a->window;
    job j = {a, operands[3], (uint32_t)w->kernel_height * w->kernel_width * w->input_channels, {0}, {0}};
    for (uint32_t i = 0; i < 4; i++) {
        j.low[i] = a->quantized.low;
        j.high[i] = a->quantized.high;
    }
    const int8_t *image = operands[0];
    int8_t *to = operands[2];
    uint32_t left_over = w->batches * w->output_height * w->output_width;
    uint32_t outputs = w->output_channels, last = ((0u - outputs) % 4u + outputs - 1u) / outputs; /* pixels, 0 to 3 */
    for (uint32_t b = 0; b < w->batches; b++, image += w->input_height * w->input_width * w->input_channels) {
        for (uint32_t y = 0, top = 0u - w->pad_top; y < w->output_height; y++, top += w->stride_height) {
            span rows = inside(top, w->kernel_height, w->input_height);
            for (uint32_t x = 0, left = 0u - w->pad_left; x < w->output_width; x++, left += w->stride_width) {
                to = pixel(&j, gathered(&j, image, rows, top, left), operands[1], to, --left_over < last);
            }
        }
    }
    return 0;
}
