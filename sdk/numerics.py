"""Quantized arithmetic that is done on the host: multipliers, activation ranges, folded biases.

TensorFlow Lite computes these in a mix of float32 and float64; equality bit for bit with the oracle needs the same mix,
so each function names the C++ function whose steps it follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sdk.errors import ModelError
from sdk.fixed_point import wrap32
from sdk.graph import ZERO_POINT_RANGE, Array, Tensor

ACTIVATION_NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
CLAMPS = (RELU, RELU_N1_TO_1, RELU6)  # activations that limit a range


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real = multiplier * 2^(shift - 31), multiplier in [2^30, 2^31) or 0.

    Follows QuantizeMultiplier (tensorflow/lite/kernels/internal/quantization_util.cc).
    """
    if not math.isfinite(real):
        raise ModelError(f"its scales make a multiplier of {real}")
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = round_half_away(mantissa * (1 << 31))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return (1 << 31) - 1, 30
    return multiplier, shift


def short_multiplier(multiplier: int, shift: int) -> tuple[int, int]:
    """(multiplier of 16 bits, right shift) for ml_requantize_s64, from what `quantize_multiplier` gives.

    Follows MultiplyByQuantizedMultiplier for int64 (tensorflow/lite/kernels/internal/common.cc). ModelError for a scale
    that it does not take.
    """
    if not -31 <= shift < 8:
        raise ModelError(f"a scale of about 2^{shift} is not possible with 64-bit sums")
    return min((multiplier + (1 << 15)) >> 16, 0x7FFF), 15 - shift


def round_half_away(x: float) -> int:
    """C's round(): to the nearest integer, ties away from zero."""
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


BIAS_TOLERANCE = 0.02  # of the output's scale


def check_bias_scale(x: Tensor, weights: Tensor, bias: Tensor, y: Tensor) -> None:
    """ModelError unless bias and products of x and weights have the same scale, or nearly.

    Follows GetQuantizedConvolutionMultipler (tensorflow/lite/kernels/kernel_util.cc).
    """
    product, scale = bias_scales(x, weights, bias)
    if abs(product - scale) / float(np.float32(y.scale)) > BIAS_TOLERANCE:
        raise ModelError(
            f"its bias {bias.label} has the scale {scale:g}, its input times its weights {product:g}: they differ by "
            f"more than {BIAS_TOLERANCE} of the scale of its output, {y.scale:g}"
        )


def bias_scales(x: Tensor, weights: Tensor, bias: Tensor) -> tuple[float, float]:
    """The scale of products of x and weights, and that of the bias that is added to them: 0 where it has none."""
    if weights.quantization is None:
        raise ModelError(f"tensor {weights.label} has no scale")
    product = float(np.float32(x.scale)) * float(np.float32(weights.quantization.scale[0]))
    return product, bias.quantization.scale[0] if bias.quantization is not None else 0.0


def convolution_multipliers(
    x: Tensor, weights: Tensor, y: Tensor, bias: Tensor | None = None, *, product_in_float32: bool = False
) -> list[tuple[int, int]]:
    """(multiplier, shift) for each scale of `weights`, for accumulators of x * weights into y.

    `product_in_float32` follows GetQuantizedConvolutionMultipler (per-tensor FULLY_CONNECTED and uint8 convolutions),
    which looks at the scale of `bias` too, else PopulateConvolutionQuantizationParams, both in
    tensorflow/lite/kernels/kernel_util.cc.
    """
    if weights.quantization is None:
        raise ModelError(f"tensor {weights.label} has no scale")
    if product_in_float32 and bias is not None:
        check_bias_scale(x, weights, bias, y)
    return list(_multipliers(x.scale, tuple(weights.quantization.scale), y.scale, product_in_float32))


@lru_cache(maxsize=1024)  # a model is lowered many times while the best way is looked for
def _multipliers(
    x_scale: float, scales: tuple[float, ...], y_scale: float, product_in_float32: bool
) -> list[tuple[int, int]]:
    x, y = np.float32(x_scale), float(np.float32(y_scale))
    if product_in_float32:
        products = [float(x * np.float32(scale)) for scale in scales]
    else:
        products = [float(x) * float(np.float32(scale)) for scale in scales]
    return [quantize_multiplier(product / y) for product in products]


def activation_range(activation: int, y: Tensor) -> tuple[int, int]:
    """(low, high) of the stored output for a fused activation.

    Follows CalculateActivationRangeQuantized (tensorflow/lite/kernels/kernel_util.cc).
    """
    if y.dtype not in ZERO_POINT_RANGE:
        raise ModelError(f"its output {y.label} is {y.dtype.numpy_name}, which has no quantized range")
    low, high = ZERO_POINT_RANGE[y.dtype]

    def stored(real: float) -> int:
        with np.errstate(over="ignore"):
            steps = float(np.float32(real) / np.float32(y.scale))
        return y.zero_point + round_half_away(min(max(steps, -1e9), 1e9))

    if activation == RELU:
        return max(low, stored(0.0)), high
    if activation == RELU6:
        return max(low, stored(0.0)), min(high, stored(6.0))
    if activation == RELU_N1_TO_1:
        return max(low, stored(-1.0)), min(high, stored(1.0))
    return low, high


def float_activation_range(activation: int) -> tuple[float, float]:
    """(low, high) of a float32 output for a fused activation; infinite where it does not clamp."""
    ranges = {RELU: (0.0, math.inf), RELU6: (0.0, 6.0), RELU_N1_TO_1: (-1.0, 1.0)}
    return ranges.get(activation, (-math.inf, math.inf))


def folded_bias(
    bias: Array | None, weights: Array, input_zero_point: int, weights_zero_point: int, axes: Sequence[int]
) -> Array:
    """int32 start values of the accumulators, with everything that does not depend on the input folded in.

    sum((x - xz) * (w - wz)) + bias = sum(x * w) - wz * sum(x) + [bias - xz * sum(w) + n * xz * wz]; the bracket is the
    result, one for each output channel, `axes` being those of `weights` that are summed over.
    """
    wide = weights.astype(np.int64)
    count = math.prod(weights.shape[axis] for axis in axes)
    start = -input_zero_point * wide.sum(axis=tuple(axes)) + count * input_zero_point * weights_zero_point
    if bias is not None:
        start = start + bias.astype(np.int64).reshape(start.shape)
    return np.asarray(wrap32(start), np.int32)


# Where TensorFlow Lite's table is one above sigmoid(i / 24) * 2^16 rounded to the nearest.
_SIGMOID_UP = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46),
    *(49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)


def sigmoid_table() -> Array:
    """uint16[256] for ml_sigmoid_s16 and ml_tanh_s16: sigmoid(i / 24) in Q0.16.

    Equals sigmoid_table_uint16 (tensorflow/lite/kernels/internal/common.h), whose rounding is not the same everywhere.
    """
    table: Array = np.floor(65536.0 / (1.0 + np.exp(-np.arange(256) / 24.0)) + 0.5).astype(np.uint16)
    table[list(_SIGMOID_UP)] += 1
    return np.asarray(table)
