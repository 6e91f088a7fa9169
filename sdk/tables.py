"""Tables of functions of int16 that the device interpolates (firmware/src/kernels/lut.h)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sdk.graph import Array

STEPS = 512
RANGE = np.float32(65535)


def interpolated(
    function: Callable[[Array], Array],
    input_scale: np.float32,
    input_zero_point: int,
    output_scale: np.float32,
    output_zero_point: int = 0,
) -> Array:
    """513 int16 entries of `function`, a real function that maps real numbers that the quantizations give.

    Each entry is moved by half the error that interpolation would make half-way to the next. Follows LUTPopulate
    (tensorflow/lite/kernels/internal/common.h), in float32 as it does; `function` is rounded once, to float32.
    """
    f32 = np.float32
    least, most = (f32(input_scale) * f32(end - input_zero_point) for end in (-32768, 32767))
    out_least, out_most = (f32(output_scale) * f32(end - output_zero_point) for end in (-32768, 32767))
    step = f32((most - least) / f32(STEPS))
    inverse = f32(65536) / f32(out_most - out_least)
    points = least + np.arange(STEPS + 1).astype(f32) * step
    at_points = _rounded_to_f32(function, np.append(points[:-1], points[1:]))
    values, following = at_points[:STEPS], at_points[STEPS:]
    half_way = _rounded_to_f32(function, points[:-1] + f32(step / f32(2)))
    entries = _round(values * inverse)
    error = _round((following * inverse + entries) / f32(2)) - _round(half_way * inverse)
    last = _round(_rounded_to_f32(function, np.array([most])) * inverse)
    return np.clip(np.append(entries - _round(error / f32(2)), last), -32768, 32767).astype(np.int16)


def _rounded_to_f32(function: Callable[[Array], Array], x: Array) -> Array:
    """What a function of float32 gives that rounds correctly, as C libraries nearly always do."""
    return np.asarray(function(x.astype(np.float64)).astype(np.float32))


def _round(values: Array) -> Array:
    """To the nearest, ties away from zero, in float32."""
    wide = values.astype(np.float64)
    return np.asarray(np.trunc(wide + np.copysign(0.5, wide)).astype(np.float32))
