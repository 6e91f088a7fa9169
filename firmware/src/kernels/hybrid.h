/* Float activations that meet int8 weights: they are quantized to int8 when the kernel runs, as TensorFlow Lite's
 * hybrid kernels do. */
#ifndef ML_HYBRID_H
#define ML_HYBRID_H

#include "dot.h"

typedef struct ml_grid {
    float scale; /* real = scale * (stored - zero_point) */
    int32_t zero_point;
} ml_grid;

/* Quantizes `values` to -127..127 around zero, or (`asymmetric`) to -128..127 from their least to their greatest.
 * Follows PortableSymmetricQuantizeFloats and PortableAsymmetricQuantizeFloats
 * (tensorflow/lite/kernels/internal/reference/portable_tensor_utils.cc); NaN becomes some number. */
ml_grid ml_quantize(const float *values, uint32_t count, bool asymmetric, int8_t *quantized);

#endif
