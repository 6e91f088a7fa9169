/* DEPTHWISE_CONV_2D: output channel c * multiplier + m is input channel c convolved with weights of its own.
 * Layouts: input [batches][height][width][channels], weights [kernel height][kernel width][outputs]. */
#include "hybrid.h"
#include "window.h"

/* Operands 0 to 3 are input, weights, start or bias, output. */
static bool fits(const ml_depthwise_conv_2d_shape *d, const ml_operand *operands, uint32_t element_bytes,
                 uint32_t weight_bytes) {
    const ml_window *w = &d->window;
    return (uint64_t)w->input_channels * d->depth_multiplier == w->output_channels &&
           ml_window_holds(w, &operands[0], element_bytes, &operands[3], element_bytes) &&
           ml_holds(&operands[1], weight_bytes, w->kernel_height, w->kernel_width, w->output_channels, 1);
}

ml_status ml_depthwise_conv_2d_s8_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_conv_2d_s8_args *a = args;
    const ml_window *w = &a->shape.window;
    bool sound = fits(&a->shape, operands, 1, 1) && ml_holds(&operands[2], 4, w->output_channels, 1, 1, 1) &&
                 ml_scales_hold(&a->quantized, &operands[4], w->output_channels);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

ml_status ml_depthwise_conv_2d_s8_offset_check(const void *args, const ml_operand *operands) {
    return ml_depthwise_conv_2d_s8_check(args, operands);
}

/* The taps of a window that lie inside the image along one axis: `count` from `first` on. */
typedef struct span {
    uint32_t first, count;
} span;

static span inside(uint32_t origin, uint32_t dilation, uint32_t kernel, uint32_t size) {
    span s = {0, 0};
    for (; s.first < kernel && origin >= size; origin += dilation) s.first++;
    for (; s.first + s.count < kernel && origin < size; origin += dilation) s.count++;
    return s;
}

/* The taps of one pixel that lie inside the image; steps are in elements. */
typedef struct taps {
    uint32_t rows, columns;
    uint32_t input, weight; /* of the first tap */
    uint32_t input_row, input_step, weight_row, weight_step;
} taps;

static taps taps_of(const ml_window *w, uint32_t top, uint32_t left) {
    span y = inside(top, w->dilation_height, w->kernel_height, w->input_height);
    span x = inside(left, w->dilation_width, w->kernel_width, w->input_width);
    uint32_t row = top + y.first * w->dilation_height, column = left + x.first * w->dilation_width;
    return (taps){
        .rows = y.count,
        .columns = x.count,
        .input = (row * w->input_width + column) * w->input_channels,
        .weight = (y.first * w->kernel_width + x.first) * w->output_channels,
        .input_row = w->dilation_height * w->input_width * w->input_channels,
        .input_step = w->dilation_width * w->input_channels,
        .weight_row = w->kernel_width * w->output_channels,
        .weight_step = w->output_channels,
    };
}

/* The sums of `count` (1 or 4) neighbouring output channels, whose input channels lie `step` apart. */
ML_INLINE void accumulate(const taps *t, const int8_t *input, const int8_t *weights, int32_t zero_point,
                          int32_t weights_offset, uint32_t step, uint32_t count, int32_t *sums) {
    int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    for (uint32_t y = 0; y < t->rows; y++, input += t->input_row, weights += t->weight_row) {
        const int8_t *i = input, *w = weights;
        for (uint32_t x = t->columns; x != 0; x--, i += t->input_step, w += t->weight_step) {
            sum0 += (i[0] - zero_point) * (w[0] + weights_offset);
            if (count == 4) {
                sum1 += (i[step] - zero_point) * (w[1] + weights_offset);
                sum2 += (i[2 * step] - zero_point) * (w[2] + weights_offset);
                sum3 += (i[3 * step] - zero_point) * (w[3] + weights_offset);
            }
        }
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

/* One pixel. Output channels whose inputs are neighbours, or one and the same, are computed in fours. */
ML_INLINE int8_t *pixel(const ml_depthwise_conv_2d_s8_args *a, void *const *operands, const int8_t *image, taps t,
                        int32_t weights_offset, int8_t *output) {
    const ml_window *w = &a->shape.window;
    const ml_quantized *q = &a->quantized;
    const int32_t *start = operands[2], *scale = operands[4];
    uint32_t step = a->shape.depth_multiplier == 1;
    const int8_t *weights = (const int8_t *)operands[1] + t.weight;
    const int8_t *input = image + t.input;
    for (const int8_t *end = output + w->output_channels; output != end; input++) {
        uint32_t left = step ? w->input_channels : a->shape.depth_multiplier;
        for (uint32_t count; left != 0; left -= count, weights += count, input += step * count) {
            int32_t sums[4];
            count = left >= 4 ? 4 : 1;
            if (count == 4) {
                accumulate(&t, input, weights, q->input_zero_point, weights_offset, step, 4, sums);
            } else {
                accumulate(&t, input, weights, q->input_zero_point, weights_offset, step, 1, sums);
            }
            for (uint32_t i = 0; i < count; i++, scale += 2u * q->scale_stride) {
                *output++ = (int8_t)ml_finish(q, sums[i] + *start++, scale);
            }
        }
    }
    return output;
}

ML_INLINE int32_t depthwise_s8(const ml_depthwise_conv_2d_s8_args *a, void *const *operands, int32_t weights_offset) {
    const ml_window *w = &a->shape.window;
    const int8_t *image = operands[0];
    int8_t *output = operands[3];
    for (uint32_t b = 0; b < w->batches; b++, image += w->input_height * w->input_width * w->input_channels) {
        uint32_t top = 0u - w->pad_top;
        for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
            uint32_t left = 0u - w->pad_left;
            for (uint32_t x = 0; x < w->output_width; x++, left += w->stride_width) {
                output = pixel(a, operands, image, taps_of(w, top, left), weights_offset, output);
            }
        }
    }
    return 0;
}

int32_t ml_depthwise_conv_2d_s8(const void *args, void *const *operands) { return depthwise_s8(args, operands, 0); }

int32_t ml_depthwise_conv_2d_s8_offset(const void *args, void *const *operands) {
    const ml_depthwise_conv_2d_s8_args *a = args;
    return depthwise_s8(a, operands, a->quantized.weights_offset);
}

/* One kernel's work on its images. */
typedef struct depthwise_job {
    const ml_depthwise_conv_2d_shape *shape;
    const void *args;
    void *const *operands;
    /* Computes output channel `o` of the pixel whose window's top left tap is (top, left) of `channel`: the image from
     * the channel that `o` reads on. */
    void (*run)(const struct depthwise_job *job, const void *channel, uint32_t top, uint32_t left, uint32_t o,
                void *output);
    uint32_t input_bytes, output_bytes; /* of one element */
    ml_grid grid; /* of a hybrid kernel's image */
} depthwise_job;

/* Runs `job` for each output of one image; returns where the next image's output goes. */
static uint8_t *each_output(const depthwise_job *job, const uint8_t *image, uint8_t *output) {
    const ml_depthwise_conv_2d_shape *d = job->shape;
    const ml_window *w = &d->window;
    uint32_t top = 0u - w->pad_top;
    for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
        uint32_t left = 0u - w->pad_left;
        for (uint32_t x = 0; x < w->output_width; x++, left += w->stride_width) {
            const uint8_t *channel = image;
            for (uint32_t o = 0; o < w->output_channels; channel += job->input_bytes) {
                for (uint32_t m = 0; m < d->depth_multiplier; m++, o++, output += job->output_bytes) {
                    job->run(job, channel, top, left, o, output);
                }
            }
        }
    }
    return output;
}

/* Runs `job` for all images. */
static int32_t all_images(const depthwise_job *job) {
    const ml_window *w = &job->shape->window;
    uint32_t bytes = w->input_height * w->input_width * w->input_channels * job->input_bytes;
    const uint8_t *image = job->operands[0];
    uint8_t *output = job->operands[3];
    for (uint32_t b = 0; b < w->batches; b++, image += bytes) {
        output = each_output(job, image, output);
    }
    return 0;
}

ml_status ml_depthwise_conv_2d_s16_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_conv_2d_s8_args *a = args;
    uint32_t outputs = a->shape.window.output_channels;
    bool sound = fits(&a->shape, operands, 2, 1) && ml_holds(&operands[2], 8, outputs, 1, 1, 1) &&
                 ml_scales_hold(&a->quantized, &operands[4], outputs);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void output_s16(const depthwise_job *job, const void *channel, uint32_t top, uint32_t left, uint32_t o,
                       void *output) {
    const ml_depthwise_conv_2d_s8_args *a = job->args;
    const ml_window *w = &a->shape.window;
    const int8_t *weights = (const int8_t *)job->operands[1] + o;
    int64_t sum = ((const int64_t *)job->operands[2])[o];
    for (uint32_t ky = 0, y = top; ky < w->kernel_height; ky++, y += w->dilation_height) {
        for (uint32_t kx = 0, x = left; kx < w->kernel_width; kx++, x += w->dilation_width) {
            const int16_t *input = ml_pixel(w, channel, y, x, w->input_channels * 2u, NULL);
            sum += input != NULL ? *input * *weights : 0;
            weights += w->output_channels;
        }
    }
    const int32_t *scale = (const int32_t *)job->operands[4] + 2u * a->quantized.scale_stride * o;
    *(int16_t *)output = ml_finish_s16(&a->quantized, sum, scale);
}

int32_t ml_depthwise_conv_2d_s16(const void *args, void *const *operands) {
    const ml_depthwise_conv_2d_s8_args *a = args;
    depthwise_job job = {&a->shape, args, operands, output_s16, 2, 2, {0.0f, 0}};
    return all_images(&job);
}

ml_status ml_depthwise_conv_2d_f32_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_conv_2d_f32_args *a = args;
    bool sound = fits(&a->shape, operands, 4, 4) &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, a->shape.window.output_channels, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void output_f32(const depthwise_job *job, const void *channel, uint32_t top, uint32_t left, uint32_t o,
                       void *output) {
    const ml_depthwise_conv_2d_f32_args *a = job->args;
    const ml_window *w = &a->shape.window;
    const float *weights = (const float *)job->operands[1] + o;
    const float *bias = job->operands[2];
    float sum = 0.0f;
    for (uint32_t ky = 0, y = top; ky < w->kernel_height; ky++, y += w->dilation_height) {
        for (uint32_t kx = 0, x = left; kx < w->kernel_width; kx++, x += w->dilation_width) {
            const float *input = ml_pixel(w, channel, y, x, w->input_channels * 4u, NULL);
            sum += input != NULL ? *input * *weights : 0.0f;
            weights += w->output_channels;
        }
    }
    *(float *)output = ml_clamp_f32(sum + (bias != NULL ? bias[o] : 0.0f), a->low, a->high);
}

int32_t ml_depthwise_conv_2d_f32(const void *args, void *const *operands) {
    const ml_depthwise_conv_2d_f32_args *a = args;
    depthwise_job job = {&a->shape, args, operands, output_f32, 4, 4, {0.0f, 0}};
    return all_images(&job);
}

ml_status ml_depthwise_conv_2d_hybrid_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_conv_2d_hybrid_args *a = args;
    const ml_window *w = &a->shape.window;
    bool sound = fits(&a->shape, operands, 4, 1) && a->scale_stride <= 1 &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, w->output_channels, 1, 1, 1)) &&
                 ml_holds(&operands[4], 4, a->scale_stride ? w->output_channels : 1, 1, 1, 1) &&
                 ml_holds(&operands[5], 1, w->input_height, w->input_width, w->input_channels, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void output_hybrid(const depthwise_job *job, const void *channel, uint32_t top, uint32_t left, uint32_t o,
                          void *output) {
    const ml_depthwise_conv_2d_hybrid_args *a = job->args;
    const ml_window *w = &a->shape.window;
    const int8_t *weights = (const int8_t *)job->operands[1] + o;
    const float *bias = job->operands[2], *scales = job->operands[4];
    int32_t sum = 0;
    for (uint32_t ky = 0, y = top; ky < w->kernel_height; ky++, y += w->dilation_height) {
        for (uint32_t kx = 0, x = left; kx < w->kernel_width; kx++, x += w->dilation_width) {
            const int8_t *input = ml_pixel(w, channel, y, x, w->input_channels, NULL);
            sum += input != NULL ? (*input - job->grid.zero_point) * *weights : 0;
            weights += w->output_channels;
        }
    }
    float value = (float)sum * (scales[o * a->scale_stride] * job->grid.scale);
    *(float *)output = ml_clamp_f32(value + (bias != NULL ? bias[o] : 0.0f), a->low, a->high);
}

int32_t ml_depthwise_conv_2d_hybrid(const void *args, void *const *operands) {
    const ml_depthwise_conv_2d_hybrid_args *a = args;
    const ml_window *w = &a->shape.window;
    uint32_t elements = w->input_height * w->input_width * w->input_channels;
    const float *image = operands[0];
    uint8_t *output = operands[3];
    depthwise_job job = {&a->shape, args, operands, output_hybrid, 1, 4, {0.0f, 0}};
    for (uint32_t b = 0; b < w->batches; b++, image += elements) {
        job.grid = ml_quantize(image, elements, true, operands[5]);
        output = each_output(&job, operands[5], output);
    }
    return 0;
}
