/* TRANSPOSE_CONV, output by output: output row y gets input row i by kernel row y + pad - i * stride, where there is
 * one. Rising input rows mean falling kernel rows; float sums so come in the reference's order. Layouts: input
 * [batches][height][width][inputs], weights [outputs][kernel height][kernel width][inputs]. */
#include "window.h"

/* Operands 0 to 3 are input, weights, start or bias, output. */
static bool fits(const ml_window *w, const ml_operand *operands, uint32_t element_bytes, uint32_t weight_bytes) {
    return ml_window_holds(w, &operands[0], element_bytes, &operands[3], element_bytes) &&
           ml_holds(&operands[1], weight_bytes, w->output_channels, w->kernel_height, w->kernel_width,
                    w->input_channels);
}

/* The first input and kernel rows and columns that meet in an output pixel. */
typedef struct meeting {
    const uint8_t *image;
    uint32_t y, x, ky, kx;
} meeting;

/* Moves `first`, the first input row of one output row, to that of the row at `position` = its number + padding. */
static uint32_t first_input(uint32_t first, uint32_t position, uint32_t kernel, uint32_t stride, uint32_t inputs) {
    while (first < inputs && first * stride + kernel <= position) {
        first++;
    }
    return first;
}

/* Computes output channel `o` of the pixel where `m` is. */
typedef void output_function(const void *args, void *const *operands, const meeting *m, uint32_t o, void *output);

/* Calls `run` for each output in turn. */
static void each_output(const void *args, void *const *operands, uint32_t element_bytes, output_function *run) {
    const ml_window *w = args; /* every kernel's arguments start with it */
    uint8_t *output = operands[3];
    uint32_t image_bytes = w->input_height * w->input_width * w->input_channels * element_bytes;
    meeting m = {.image = operands[0]};
    for (uint32_t b = 0; b < w->batches; b++, m.image += image_bytes) {
        m.y = 0;
        for (uint32_t y = w->pad_top; y < w->output_height + w->pad_top; y++) {
            m.y = first_input(m.y, y, w->kernel_height, w->stride_height, w->input_height);
            m.ky = y - m.y * w->stride_height;
            m.x = 0;
            for (uint32_t x = w->pad_left; x < w->output_width + w->pad_left; x++) {
                m.x = first_input(m.x, x, w->kernel_width, w->stride_width, w->input_width);
                m.kx = x - m.x * w->stride_width;
                for (uint32_t o = 0; o < w->output_channels; o++, output += element_bytes) {
                    run(args, operands, &m, o, output);
                }
            }
        }
    }
}

/* For each pair of input pixel and kernel tap that meet: `pixel` and `tap` are their numbers in the image and in output
 * channel `o`'s weights. A kernel row below 0 has wrapped to a large number. */
#define EACH_PAIR(w, m, o)                                                                        \
    for (uint32_t y_ = (m)->y, ky_ = (m)->ky; y_ < (w)->input_height && ky_ < (w)->kernel_height; \
         y_++, ky_ -= (w)->stride_height)                                                         \
        for (uint32_t x_ = (m)->x, kx_ = (m)->kx, pixel = y_ * (w)->input_width + x_,             \
                      tap = ((o) * (w)->kernel_height + ky_) * (w)->kernel_width + kx_;           \
             x_ < (w)->input_width && kx_ < (w)->kernel_width;                                    \
             x_++, kx_ -= (w)->stride_width, pixel++, tap -= (w)->stride_width)

static bool quantized_fits(const ml_transpose_conv_s8_args *a, const ml_operand *operands, uint32_t element_bytes,
                           uint32_t start_bytes) {
    return fits(&a->window, operands, element_bytes, 1) &&
           ml_holds(&operands[2], start_bytes, a->window.output_channels, 1, 1, 1) &&
           ml_scales_hold(&a->quantized, &operands[4], a->window.output_channels);
}

ml_status ml_transpose_conv_s8_check(const void *args, const ml_operand *operands) {
    return quantized_fits(args, operands, 1, 4) ? ML_OK : ML_ERR_OPERAND;
}

static void output_s8(const void *args, void *const *operands, const meeting *m, uint32_t o, void *output) {
    const ml_transpose_conv_s8_args *a = args;
    const ml_window *w = &a->window;
    const ml_quantized *q = &a->quantized;
    uint32_t inputs = w->input_channels;
    int32_t sum = ((const int32_t *)operands[2])[o];
    EACH_PAIR(w, m, o) {
        const int8_t *x = (const int8_t *)m->image + pixel * inputs;
        const int8_t *weights = (const int8_t *)operands[1] + tap * inputs;
        for (uint32_t i = 0; i < inputs; i++) {
            sum += (x[i] - q->input_zero_point) * (weights[i] + q->weights_offset);
        }
    }
    const int32_t *scale = (const int32_t *)operands[4] + 2u * q->scale_stride * o;
    *(int8_t *)output = (int8_t)ml_finish(q, sum, scale);
}

int32_t ml_transpose_conv_s8(const void *args, void *const *operands) {
    each_output(args, operands, 1, output_s8);
    return 0;
}

ml_status ml_transpose_conv_s16_check(const void *args, const ml_operand *operands) {
    return quantized_fits(args, operands, 2, 8) ? ML_OK : ML_ERR_OPERAND;
}

static void output_s16(const void *args, void *const *operands, const meeting *m, uint32_t o, void *output) {
    const ml_transpose_conv_s8_args *a = args;
    const ml_window *w = &a->window;
    uint32_t inputs = w->input_channels;
    int64_t sum = ((const int64_t *)operands[2])[o];
    EACH_PAIR(w, m, o) {
        const int16_t *x = (const int16_t *)(const void *)m->image + pixel * inputs;
        sum += ml_dot_s16(x, (const int8_t *)operands[1] + tap * inputs, inputs);
    }
    const int32_t *scale = (const int32_t *)operands[4] + 2u * a->quantized.scale_stride * o;
    *(int16_t *)output = ml_finish_s16(&a->quantized, sum, scale);
}

int32_t ml_transpose_conv_s16(const void *args, void *const *operands) {
    each_output(args, operands, 2, output_s16);
    return 0;
}

ml_status ml_transpose_conv_f32_check(const void *args, const ml_operand *operands) {
    const ml_transpose_conv_f32_args *a = args;
    bool sound = fits(&a->window, operands, 4, 4) &&
                 (operands[2].ref == 0 || ml_holds(&operands[2], 4, a->window.output_channels, 1, 1, 1));
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static void output_f32(const void *args, void *const *operands, const meeting *m, uint32_t o, void *output) {
    const ml_transpose_conv_f32_args *a = args;
    const ml_window *w = &a->window;
    uint32_t inputs = w->input_channels;
    const float *bias = operands[2];
    float sum = 0.0f;
    EACH_PAIR(w, m, o) {
        const float *x = (const float *)(const void *)m->image + pixel * inputs;
        const float *weights = (const float *)operands[1] + tap * inputs;
        for (uint32_t i = 0; i < inputs; i++) {
            sum += x[i] * weights[i];
        }
    }
    *(float *)output = ml_clamp_f32(sum + (bias != NULL ? bias[o] : 0.0f), a->low, a->high);
}

int32_t ml_transpose_conv_f32(const void *args, void *const *operands) {
    each_output(args, operands, 4, output_f32);
    return 0;
}
