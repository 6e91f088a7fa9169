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
