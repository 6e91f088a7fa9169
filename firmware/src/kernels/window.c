#include "window.h"

/* Along one axis. Windows have at least one row and column: a size of 0 wraps to far outside. */
static bool stays_inside(uint32_t inputs, uint32_t outputs, uint32_t stride, uint32_t kernel, uint32_t dilation) {
    return (uint64_t)(outputs - 1u) * stride + (uint64_t)(kernel - 1u) * ML_MAX(dilation, 1u) < inputs;
}

bool ml_window_stays_inside(const ml_window *w) {
    return w->pad_top == 0 && w->pad_left == 0 &&
           stays_inside(w->input_height, w->output_height, w->stride_height, w->kernel_height, w->dilation_height) &&
           stays_inside(w->input_width, w->output_width, w->stride_width, w->kernel_width, w->dilation_width);
}

/* Whether `operand` holds images of [batches][height][width][channels]. ml_holds() in a few instructions where all is
 * as it should be: a program's start is checks such as these. */
static inline bool holds_images(const ml_operand *operand, uint32_t element_bytes, uint32_t batches, uint32_t height,
                                uint32_t width, uint32_t channels) {
    uint32_t row, image, all;
    bool small = !ml_times(width, channels * element_bytes, &row) && !ml_times(row, height, &image) &&
                 !ml_times(image, batches, &all) && channels < 1u << 28;
    return (small && all != 0 && all <= operand->bytes) ||
           ml_holds(operand, element_bytes, batches, height, width, channels);
}

bool ml_window_holds(const ml_window *w, const ml_operand *input, uint32_t input_bytes, const ml_operand *output,
                     uint32_t output_bytes) {
    return holds_images(input, input_bytes, w->batches, w->input_height, w->input_width, w->input_channels) &&
           holds_images(output, output_bytes, w->batches, w->output_height, w->output_width, w->output_channels);
}
