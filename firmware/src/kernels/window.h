/* Sliding windows over images of [batches][height][width][channels], for the convolutions. */
#ifndef ML_WINDOW_H
#define ML_WINDOW_H

#include "dot.h"

/* Whether input and output operands hold the images that `w` tells of; elements have 1 to 4 bytes. */
bool ml_window_holds(const ml_window *w, const ml_operand *input, uint32_t input_bytes, const ml_operand *output,
                     uint32_t output_bytes);

/* Whether no window reaches outside the input: then one that lies in one run of memory can be read in place. That it
 * does is the host's to know; where it does not, numbers are wrong, but the run ends before the input does. */
bool ml_window_stays_inside(const ml_window *w);

/* The pixel in row y and column x of `image`, or `outside` where that is none of it; coordinates may have wrapped. */
static inline const void *ml_pixel(const ml_window *w, const void *image, uint32_t y, uint32_t x, uint32_t pixel_bytes,
                                   const void *outside) {
    bool inside = y < w->input_height && x < w->input_width;
    return inside ? (const uint8_t *)image + (y * w->input_width + x) * pixel_bytes : outside;
}

#endif
