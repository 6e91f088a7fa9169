/* CONV_2D. The inputs under one window are first brought together as one run of memory, the patch; then each output
 * channel is a dot product of the patch with its weights.
 * Layouts: input [batches][height][width][channels], weights [outputs][kernel height][kernel width][group inputs]. */
#include "window.h"

/* Whether a window can be read in place: none reaches outside the input. That it is one run is the host's to know;
 * where it is not, numbers are wrong, but the run ends before the input does. */
static bool reads_in_place(const ml_window *w) {
    uint64_t rows = (uint64_t)(w->output_height - 1u) * w->stride_height + w->kernel_height;
    uint64_t columns = (uint64_t)(w->output_width - 1u) * w->stride_width + w->kernel_width;
    return w->kernel_height != 0 && w->pad_top == 0 && w->pad_left == 0 && rows <= w->input_height &&
           columns <= w->input_width;
}

/* Operands 0 to 4: input, weights, start or bias, output, patch. */
static bool fits(const ml_window *w, const ml_operand *operands, uint32_t groups, uint32_t inputs, uint32_t outputs,
                 uint32_t element_bytes, uint32_t weight_bytes) {
    if (inputs == 0 || (uint64_t)groups * inputs != w->input_channels ||
        (uint64_t)groups * outputs != w->output_channels) {
        return false;
    }
    return ml_window_holds(w, &operands[0], element_bytes, &operands[3], element_bytes) &&
           ml_holds(&operands[1], weight_bytes, w->output_channels, w->kernel_height, w->kernel_width, inputs) &&
           (operands[4].ref == 0 ? reads_in_place(w)
                                 : ml_holds(&operands[4], element_bytes, w->kernel_height, w->kernel_width, inputs, 1));
}

typedef struct gather {
    uint32_t pixel_bytes; /* of all groups */
    uint32_t bytes; /* of one group */
    uint8_t padding; /* each byte of a pixel that lies outside the image */
    uint8_t *patch; /* NULL: windows are runs of memory already */
} gather;

/* The inputs under the window of output pixel (y, x): [kernel height][kernel width][g->bytes]. `image` points at the
 * first channel of the group. */
static const void *gathered(const ml_window *w, const gather *g, const uint8_t *image, uint32_t y, uint32_t x) {
    uint32_t top = y * w->stride_height - w->pad_top;
    uint32_t left = x * w->stride_width - w->pad_left;
    if (g->patch == NULL) {
        return image + (top * w->input_width + left) * g->pixel_bytes;
    }
    uint8_t *to = g->patch;
    bool runs = w->dilation_width == 1 && g->bytes == g->pixel_bytes;
    for (uint32_t ky = 0; ky < w->kernel_height; ky++, top += w->dilation_height) {
        uint32_t column = left;
        for (uint32_t kx = 0, taps; kx < w->kernel_width; kx += taps, column += taps * w->dilation_width) {
            const uint8_t *pixel = ml_pixel(w, image, top, column, g->pixel_bytes, NULL);
            taps = runs && pixel != NULL ? ML_MIN(w->kernel_width - kx, w->input_width - column) : 1u;
            uint32_t bytes = taps * g->bytes;
            if (pixel != NULL) {
                memmove(to, pixel, bytes); /* a hostile program's patch may overlap its input */
            } else {
                memset(to, g->padding, bytes);
            }
            to += bytes;
        }
    }
    return g->patch;
}

ml_status ml_conv_2d_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_s8_args *a = args;
    const ml_window *w = &a->window;
    bool sound = fits(w, operands, a->groups, a->group_inputs, a->group_outputs, 1, 1) &&
                 ml_holds(&operands[2], 4, w->output_channels, 1, 1, 1) && a->quantized.scale_stride <= 1 &&
                 ml_holds(&operands[5], 8, a->quantized.scale_stride ? w->output_channels : 1, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static int32_t dot_s8(const int8_t *x, const int8_t *w, uint32_t count) {
    int32_t sum = 0;
    for (; count >= 4; count -= 4, x += 4, w += 4) {
        sum += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
    }
    for (; count != 0; count--) {
        sum += *x++ * *w++;
    }
    return sum;
}

static int32_t sum_s8(const int8_t *x, uint32_t count) {
    int32_t sum = 0;
    while (count-- != 0) {
        sum += *x++;
    }
    return sum;
}

int32_t ml_conv_2d_s8(const void *args, void *const *operands) {
    const ml_conv_2d_s8_args *a = args;
    const ml_window *w = &a->window;
    const ml_quantized *q = &a->quantized;
    const uint8_t *image = operands[0];
    int8_t *output = operands[3];
    gather g = {w->input_channels, a->group_inputs, (uint8_t)q->input_zero_point, operands[4]};
    uint32_t taps = (uint32_t)w->kernel_height * w->kernel_width * a->group_inputs;
    for (uint32_t b = 0; b < w->batches; b++, image += w->input_height * w->input_width * w->input_channels) {
        for (uint32_t y = 0; y < w->output_height; y++) {
            for (uint32_t x = 0; x < w->output_width; x++) {
                const int8_t *weights = operands[1];
                const int32_t *start = operands[2];
                const int32_t *scale = operands[5];
                for (uint32_t group = 0; group < a->groups; group++) {
                    const int8_t *patch = gathered(w, &g, image + group * a->group_inputs, y, x);
                    /* Weights that have a zero point (uint8 models) add the same to every output. */
                    int32_t common = q->weights_offset != 0 ? q->weights_offset * sum_s8(patch, taps) : 0;
                    for (uint32_t o = 0; o < a->group_outputs; o++, weights += taps, scale += 2u * q->scale_stride) {
                        *output++ = (int8_t)ml_finish(q, *start++ + common + dot_s8(patch, weights, taps), scale);
                    }
                }
            }
        }
    }
    return 0;
}

ml_status ml_conv_2d_f32_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_f32_args *a = args;
    bool sound = fits(&a->window, operands, a->groups, a->group_inputs, a->group_outputs, 4, 4) &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, a->window.output_channels, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static float dot_f32(const float *x, const float *w, uint32_t count) {
    float sum = 0.0f;
    while (count-- != 0) {
        sum += *x++ * *w++;
    }
    return sum;
}

int32_t ml_conv_2d_f32(const void *args, void *const *operands) {
    const ml_conv_2d_f32_args *a = args;
    const ml_window *w = &a->window;
    const float *image = operands[0];
    float *output = operands[3];
    gather g = {w->input_channels * 4u, a->group_inputs * 4u, 0, operands[4]};
    uint32_t taps = (uint32_t)w->kernel_height * w->kernel_width * a->group_inputs;
    for (uint32_t b = 0; b < w->batches; b++, image += w->input_height * w->input_width * w->input_channels) {
        for (uint32_t y = 0; y < w->output_height; y++) {
            for (uint32_t x = 0; x < w->output_width; x++) {
                const float *weights = operands[1];
                const float *bias = operands[2];
                for (uint32_t group = 0; group < a->groups; group++) {
                    const void *first = image + group * a->group_inputs;
                    const float *patch = gathered(w, &g, first, y, x);
                    for (uint32_t o = 0; o < a->group_outputs; o++, weights += taps) {
                        float sum = dot_f32(patch, weights, taps) + (bias != NULL ? *bias++ : 0.0f);
                        *output++ = ml_clamp_f32(sum, a->low, a->high);
                    }
                }
            }
        }
    }
    return 0;
}
