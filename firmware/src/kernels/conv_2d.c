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

/* Operands 0 to 4 are input, weights, start or bias, output, patch. */
static bool fits(const ml_conv_2d_shape *c, const ml_operand *operands, uint32_t element_bytes, uint32_t weight_bytes) {
    const ml_window *w = &c->window;
    if (c->group_inputs == 0 || (uint64_t)c->groups * c->group_inputs != w->input_channels ||
        (uint64_t)c->groups * c->group_outputs != w->output_channels) {
        return false;
    }
    return ml_window_holds(w, &operands[0], element_bytes, &operands[3], element_bytes) &&
           ml_holds(&operands[1], weight_bytes, w->output_channels, w->kernel_height, w->kernel_width,
                    c->group_inputs) &&
           (operands[4].ref == 0
                ? reads_in_place(w)
                : ml_holds(&operands[4], element_bytes, w->kernel_height, w->kernel_width, c->group_inputs, 1));
}

typedef struct source {
    const uint8_t *image; /* from the first channel of the group on */
    uint8_t *patch; /* NULL: windows are runs of memory already */
    uint32_t pixel_bytes; /* of all groups */
    uint32_t bytes; /* of one group */
    uint8_t padding; /* each byte of a pixel outside the image */
} source;

/* The inputs under the window of output pixel (y, x): [kernel height][kernel width][s->bytes]. */
static const void *gathered(const ml_window *w, const source *s, uint32_t y, uint32_t x) {
    uint32_t top = y * w->stride_height - w->pad_top;
    uint32_t left = x * w->stride_width - w->pad_left;
    if (s->patch == NULL) {
        return s->image + (top * w->input_width + left) * s->pixel_bytes;
    }
    uint8_t *to = s->patch;
    bool runs = w->dilation_width == 1 && s->bytes == s->pixel_bytes;
    for (uint32_t ky = 0; ky < w->kernel_height; ky++, top += w->dilation_height) {
        uint32_t column = left;
        for (uint32_t kx = 0, taps; kx < w->kernel_width; kx += taps, column += taps * w->dilation_width) {
            const uint8_t *pixel = ml_pixel(w, s->image, top, column, s->pixel_bytes, NULL);
            taps = runs && pixel != NULL ? ML_MIN(w->kernel_width - kx, w->input_width - column) : 1u;
            uint32_t bytes = taps * s->bytes;
            if (pixel != NULL) {
                memmove(to, pixel, bytes); /* a hostile program's patch may overlap its input */
            } else {
                memset(to, s->padding, bytes);
            }
            to += bytes;
        }
    }
    return s->patch;
}

static uint32_t patch_elements(const ml_conv_2d_shape *c) {
    return (uint32_t)c->window.kernel_height * c->window.kernel_width * c->group_inputs;
}

/* Computes the outputs of one group of one pixel. */
typedef void group_function(const void *args, void *const *operands, uint32_t group, const void *patch, void *output);

/* Calls `run` for each group of each pixel. */
static void convolve(const void *args, void *const *operands, uint32_t element_bytes, uint8_t padding,
                     group_function *run) {
    const ml_conv_2d_shape *c = args; /* every kernel's arguments start with it */
    const ml_window *w = &c->window;
    source s = {NULL, operands[4], w->input_channels * element_bytes, c->group_inputs * element_bytes, padding};
    const uint8_t *image = operands[0];
    uint8_t *output = operands[3];
    for (uint32_t b = 0; b < w->batches; b++, image += w->input_height * w->input_width * s.pixel_bytes) {
        for (uint32_t y = 0; y < w->output_height; y++) {
            for (uint32_t x = 0; x < w->output_width; x++) {
                s.image = image;
                for (uint32_t group = 0; group < c->groups; group++, s.image += s.bytes) {
                    run(args, operands, group, gathered(w, &s, y, x), output);
                    output += c->group_outputs * element_bytes;
                }
            }
        }
    }
}

ml_status ml_conv_2d_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_s8_args *a = args;
    uint32_t outputs = a->shape.window.output_channels;
    bool sound = fits(&a->shape, operands, 1, 1) && ml_holds(&operands[2], 4, outputs, 1, 1, 1) &&
                 ml_scales_hold(&a->quantized, &operands[5], outputs);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_s8(const void *args, void *const *operands, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_s8_args *a = args;
    const ml_quantized *q = &a->quantized;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const int8_t *weights = (const int8_t *)operands[1] + first * taps;
    const int32_t *start = (const int32_t *)operands[2] + first;
    const int32_t *scale = (const int32_t *)operands[5] + 2u * q->scale_stride * first;
    int8_t *to = output;
    /* Weights that have a zero point (uint8 models) add the same to every output. */
    int32_t common = q->weights_offset != 0 ? q->weights_offset * ml_sum_s8(patch, taps) : 0;
    for (uint32_t o = 0; o < a->shape.group_outputs; o++, weights += taps, scale += 2u * q->scale_stride) {
        *to++ = (int8_t)ml_finish(q, *start++ + common + ml_dot_s8(patch, weights, taps), scale);
    }
}

int32_t ml_conv_2d_s8(const void *args, void *const *operands) {
    const ml_conv_2d_s8_args *a = args;
    convolve(args, operands, 1, (uint8_t)a->quantized.input_zero_point, group_s8);
    return 0;
}

ml_status ml_conv_2d_s16_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_s8_args *a = args;
    uint32_t outputs = a->shape.window.output_channels;
    bool sound = fits(&a->shape, operands, 2, 1) && ml_holds(&operands[2], 8, outputs, 1, 1, 1) &&
                 ml_scales_hold(&a->quantized, &operands[5], outputs);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_s16(const void *args, void *const *operands, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_s8_args *a = args;
    const ml_quantized *q = &a->quantized;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const int8_t *weights = (const int8_t *)operands[1] + first * taps;
    const int64_t *start = (const int64_t *)operands[2] + first;
    const int32_t *scale = (const int32_t *)operands[5] + 2u * q->scale_stride * first;
    int16_t *to = output;
    for (uint32_t o = 0; o < a->shape.group_outputs; o++, weights += taps, scale += 2u * q->scale_stride) {
        *to++ = ml_finish_s16(q, *start++ + ml_dot_s16(patch, weights, taps), scale);
    }
}

int32_t ml_conv_2d_s16(const void *args, void *const *operands) {
    convolve(args, operands, 2, 0, group_s16);
    return 0;
}

ml_status ml_conv_2d_f32_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_f32_args *a = args;
    bool sound = fits(&a->shape, operands, 4, 4) &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, a->shape.window.output_channels, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_f32(const void *args, void *const *operands, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_f32_args *a = args;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const float *weights = (const float *)operands[1] + first * taps;
    const float *bias = operands[2];
    float *to = output;
    for (uint32_t o = 0; o < a->shape.group_outputs; o++, weights += taps) {
        float sum = ml_dot_f32(patch, weights, taps) + (bias != NULL ? bias[first + o] : 0.0f);
        *to++ = ml_clamp_f32(sum, a->low, a->high);
    }
}

int32_t ml_conv_2d_f32(const void *args, void *const *operands) {
    convolve(args, operands, 4, 0, group_f32);
    return 0;
}
