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

/* Whether `operand` holds `count` elements, of 1 to 4 bytes; `count` is below 2^30. False where there are none. */
ML_INLINE bool holds_some(const ml_operand *operand, uint32_t element_bytes, uint32_t count) {
    return count * element_bytes - 1u < operand->bytes;
}

bool ml_window_holds(const ml_window *w, const ml_operand *input, uint32_t input_bytes, const ml_operand *output,
                     uint32_t output_bytes) {
    /* In a few instructions where all is as it should be: a program's start is checks such as these. */
    uint32_t sides = w->input_height | w->input_channels | w->output_height | w->output_channels;
    if (w->batches == 1 && ((sides >> 9) | ((w->input_width | w->output_width) >> 12)) == 0 &&
        holds_some(input, input_bytes, w->input_height * w->input_width * w->input_channels) &&
        holds_some(output, output_bytes, w->output_height * w->output_width * w->output_channels)) {
        return true;
    }
    return ml_holds(input, input_bytes, w->batches, w->input_height, w->input_width, w->input_channels) &&
           ml_holds(output, output_bytes, w->batches, w->output_height, w->output_width, w->output_channels);
}
