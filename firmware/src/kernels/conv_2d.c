/* CONV_2D. The inputs under one window are first brought together as one run of memory, the patch; then each output
 * channel is a dot product of the patch with its weights.
 * Layouts: input [batches][height][width][channels], weights [outputs][kernel height][kernel width][group inputs]. */
#include "hybrid.h"
#include "window.h"

/* Operands 0 to 4 are input, weights, start or bias, output, patch. */
static bool fits(const ml_conv_2d_shape *c, const ml_operand *operands, uint32_t element_bytes, uint32_t weight_bytes,
                 uint32_t patch_bytes) {
    const ml_window *w = &c->window;
    if (c->group_inputs == 0 || (uint64_t)c->groups * c->group_inputs != w->input_channels ||
        (uint64_t)c->groups * c->group_outputs != w->output_channels) {
        return false;
    }
    return ml_window_holds(w, &operands[0], element_bytes, &operands[3], element_bytes) &&
           ml_holds(&operands[1], weight_bytes, w->output_channels, w->kernel_height, w->kernel_width,
                    c->group_inputs) &&
           (operands[4].ref == 0
                ? ml_window_stays_inside(w)
                : ml_holds(&operands[4], patch_bytes, w->kernel_height, w->kernel_width, c->group_inputs, 1));
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

/* One kernel's work on its images. */
typedef struct conv_job {
    const ml_conv_2d_shape *shape;
    const void *args;
    void *const *operands;
    /* Computes the outputs of one group of one pixel. */
    void (*run)(const struct conv_job *job, uint32_t group, const void *patch, void *output);
    uint32_t input_bytes, output_bytes; /* of one element */
    uint8_t padding;
    ml_grid grid; /* of a hybrid kernel's image */
} conv_job;

/* Runs `job` for each group of each pixel of one image; returns where the next image's output goes. */
static uint8_t *convolve(const conv_job *job, const uint8_t *image, uint8_t *output) {
    const ml_conv_2d_shape *c = job->shape;
    const ml_window *w = &c->window;
    source s = {NULL, job->operands[4], w->input_channels * job->input_bytes, c->group_inputs * job->input_bytes,
                job->padding};
    for (uint32_t y = 0; y < w->output_height; y++) {
        for (uint32_t x = 0; x < w->output_width; x++) {
            s.image = image;
            for (uint32_t group = 0; group < c->groups; group++, s.image += s.bytes) {
                job->run(job, group, gathered(w, &s, y, x), output);
                output += c->group_outputs * job->output_bytes;
            }
        }
    }
    return output;
}

/* Runs `job` for all images. */
static int32_t convolve_all(const conv_job *job) {
    const ml_window *w = &job->shape->window;
    uint32_t bytes = w->input_height * w->input_width * w->input_channels * job->input_bytes;
    const uint8_t *image = job->operands[0];
    uint8_t *output = job->operands[3];
    for (uint32_t b = 0; b < w->batches; b++, image += bytes) {
        output = convolve(job, image, output);
    }
    return 0;
}

ml_status ml_conv_2d_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_s8_args *a = args;
    uint32_t outputs = a->shape.window.output_channels;
    bool sound = fits(&a->shape, operands, 1, 1, 1) && ml_holds(&operands[2], 4, outputs, 1, 1, 1) &&
                 ml_scales_hold(&a->quantized, &operands[5], outputs);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_s8(const conv_job *job, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_s8_args *a = job->args;
    const ml_quantized *q = &a->quantized;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const int8_t *weights = (const int8_t *)job->operands[1] + first * taps;
    const int32_t *start = (const int32_t *)job->operands[2] + first;
    const int32_t *scale = (const int32_t *)job->operands[5] + 2u * q->scale_stride * first;
    int8_t *to = output;
    /* Weights that have a zero point (uint8 models) add the same to every output. */
    int32_t common = q->weights_offset != 0 ? q->weights_offset * ml_sum_s8(patch, taps) : 0;
    for (uint32_t left = a->shape.group_outputs, count; left != 0; left -= count) {
        /* Two at a time; where one is left over, its products are taken twice. */
        int32_t sums[2];
        count = left >= 2 ? 2 : 1;
        ml_dots_s8(patch, weights, weights + (count - 1u) * taps, taps, sums);
        weights += count * taps;
        for (uint32_t i = 0; i < count; i++, scale += 2u * q->scale_stride) {
            *to++ = (int8_t)ml_finish(q, *start++ + common + sums[i], scale);
        }
    }
}

int32_t ml_conv_2d_s8(const void *args, void *const *operands) {
    const ml_conv_2d_s8_args *a = args;
    conv_job job = {&a->shape, args, operands, group_s8, 1, 1, (uint8_t)a->quantized.input_zero_point, {0.0f, 0}};
    return convolve_all(&job);
}

ml_status ml_conv_2d_s16_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_s8_args *a = args;
    uint32_t outputs = a->shape.window.output_channels;
    bool sound = fits(&a->shape, operands, 2, 1, 2) && ml_holds(&operands[2], 8, outputs, 1, 1, 1) &&
                 ml_scales_hold(&a->quantized, &operands[5], outputs);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_s16(const conv_job *job, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_s8_args *a = job->args;
    const ml_quantized *q = &a->quantized;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const int8_t *weights = (const int8_t *)job->operands[1] + first * taps;
    const int64_t *start = (const int64_t *)job->operands[2] + first;
    const int32_t *scale = (const int32_t *)job->operands[5] + 2u * q->scale_stride * first;
    int16_t *to = output;
    for (uint32_t o = 0; o < a->shape.group_outputs; o++, weights += taps, scale += 2u * q->scale_stride) {
        *to++ = ml_finish_s16(q, *start++ + ml_dot_s16(patch, weights, taps), scale);
    }
}

int32_t ml_conv_2d_s16(const void *args, void *const *operands) {
    const ml_conv_2d_s8_args *a = args;
    conv_job job = {&a->shape, args, operands, group_s16, 2, 2, 0, {0.0f, 0}};
    return convolve_all(&job);
}

ml_status ml_conv_2d_f32_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_f32_args *a = args;
    bool sound = fits(&a->shape, operands, 4, 4, 4) &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, a->shape.window.output_channels, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_f32(const conv_job *job, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_f32_args *a = job->args;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const float *weights = (const float *)job->operands[1] + first * taps;
    const float *bias = job->operands[2];
    float *to = output;
    for (uint32_t o = 0; o < a->shape.group_outputs; o++, weights += taps) {
        float sum = ml_dot_f32(patch, weights, taps) + (bias != NULL ? bias[first + o] : 0.0f);
        *to++ = ml_clamp_f32(sum, a->low, a->high);
    }
}

int32_t ml_conv_2d_f32(const void *args, void *const *operands) {
    const ml_conv_2d_f32_args *a = args;
    conv_job job = {&a->shape, args, operands, group_f32, 4, 4, 0, {0.0f, 0}};
    return convolve_all(&job);
}

ml_status ml_conv_2d_hybrid_check(const void *args, const ml_operand *operands) {
    const ml_conv_2d_hybrid_args *a = args;
    const ml_window *w = &a->shape.window;
    bool sound = fits(&a->shape, operands, 4, 1, 1) && a->scale_stride <= 1 &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, w->output_channels, 1, 1, 1)) &&
                 ml_holds(&operands[5], 4, a->scale_stride ? w->output_channels : 1, 1, 1, 1) &&
                 (a->asymmetric == 0 || ml_holds(&operands[6], 4, w->output_channels, 1, 1, 1)) &&
                 ml_holds(&operands[7], 1, w->input_height, w->input_width, w->input_channels, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void group_hybrid(const conv_job *job, uint32_t group, const void *patch, void *output) {
    const ml_conv_2d_hybrid_args *a = job->args;
    uint32_t first = group * a->shape.group_outputs, taps = patch_elements(&a->shape);
    const int8_t *weights = (const int8_t *)job->operands[1] + first * taps;
    const float *bias = job->operands[2], *scales = job->operands[5];
    const int32_t *weight_sums = job->operands[6];
    float *to = output;
    for (uint32_t o = first; o < first + a->shape.group_outputs; o++, weights += taps) {
        int32_t sum = ml_dot_s8(patch, weights, taps);
        if (a->asymmetric) {
            sum -= job->grid.zero_point * weight_sums[o];
        }
        float scale = scales[o * a->scale_stride];
        /* The same but for rounding, as the reference has it: by one after the other, or by their product. */
        float value = a->scale_twice ? (float)sum * scale * job->grid.scale : (float)sum * (job->grid.scale * scale);
        *to++ = ml_clamp_f32(value + (bias != NULL ? bias[o] : 0.0f), a->low, a->high);
    }
}

int32_t ml_conv_2d_hybrid(const void *args, void *const *operands) {
    const ml_conv_2d_hybrid_args *a = args;
    const ml_window *w = &a->shape.window;
    uint32_t elements = w->input_height * w->input_width * w->input_channels;
    const float *image = operands[0];
    uint8_t *output = operands[3];
    conv_job job = {&a->shape, args, operands, group_hybrid, 1, 4, 0, {0.0f, 0}};
    for (uint32_t b = 0; b < w->batches; b++, image += elements) {
        job.grid = ml_quantize(image, elements, a->asymmetric, operands[7]);
        job.padding = (uint8_t)job.grid.zero_point;
        output = convolve(&job, operands[7], output);
    }
    return 0;
}
