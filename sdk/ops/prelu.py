"""PRELU: x where it is not negative, else x times a learned alpha, broadcast to the shape of x."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sdk import numerics
from sdk.graph import ZERO_POINT_RANGE, DType
from sdk.lower import Lowering
from sdk.ops import arithmetic, broadcast
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

ARGS = Struct(
    "ml_prelu_args",
    (
        broadcast.walk_field(2),
        *fields("i", "input_offset", "alpha_offset", "multiplier", "shift", "multiplier_below", "shift_below"),
        *fields("i", "offset", "low", "high"),
    ),
)


def _kernel(number: int, dtype: DType, alpha: DType, args: Struct = ARGS) -> Kernel:
    slots = (read("input", dtype), read("alpha", alpha), write("output", dtype))
    return Kernel(f"prelu_{dtype.suffix}", number, "prelu.c", args, slots)


PRELU_S8 = _kernel(94, DType.INT8, DType.INT8)
PRELU_S16 = _kernel(95, DType.INT16, DType.INT8)
F32_ARGS = Struct("ml_prelu_f32_args", (broadcast.walk_field(2),))
PRELU_F32 = _kernel(96, DType.FLOAT32, DType.FLOAT32, F32_ARGS)

# Types of input and output, and of alpha.
TYPES = {
    (DType.INT8, DType.INT8): PRELU_S8,
    (DType.INT16, DType.INT8): PRELU_S16,
    (DType.FLOAT32, DType.FLOAT32): PRELU_F32,
}


class Prelu(Op):
    names = ("PRELU",)
    kernels = tuple(TYPES.values())
    types = ("int8", "uint8", "int16 with int8 alpha", "float32")
    bound = Bound(0.0, 0.0, "one multiplication")

    def check(self, view: View) -> None:
        x, alpha, y = view.input(0), view.input(1), view.output()
        broadcast.check(view, (x, alpha))
        view.need(x.shape == y.shape and x.dtype is y.dtype, f"it makes {y.label} of {x.label}")
        if (x.dtype, alpha.dtype) not in (*TYPES, (DType.UINT8, DType.UINT8)):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if x.dtype is not DType.FLOAT32:
            _ = x.scale, alpha.scale, y.scale

    def lower(self, view: View, low: Lowering) -> None:
        x, alpha, y = view.input(0), view.input(1), view.output()
        kernel = TYPES[x.dtype, alpha.dtype]
        shape, values, _ = arithmetic.operands(view, low)
        args: dict[str, object] = {"shape": shape}
        if x.dtype is not DType.FLOAT32:
            multiplier, shift = numerics.quantize_multiplier(x.scale / y.scale)
            multiplier_below, shift_below = numerics.quantize_multiplier(x.scale * alpha.scale / y.scale)
            least, most = ZERO_POINT_RANGE[y.dtype]
            args |= {
                "input_offset": -x.zero_point,
                "alpha_offset": -alpha.zero_point,
                "multiplier": multiplier,
                "shift": shift,
                "multiplier_below": multiplier_below,
                "shift_below": shift_below,
                "offset": y.zero_point,
                "low": least,
                "high": most,
            }
        low.step(kernel, args, values, in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        for x, alpha in (*TYPES, (DType.UINT8, DType.UINT8)):
            for alpha_shape in ((2, 3, 4, 5), (1, 1, 5), (5,), (1, 3, 1, 1)):
                yield _case(x, alpha, alpha_shape, 0.07)
            yield _case(x, alpha, (5,), 0.01)
            yield _case(x, alpha, (1, 1, 1), 1.0)


def _case(dtype: DType, alpha_type: DType, alpha_shape: tuple[int, ...], y_scale: float) -> Case:
    g = CaseGraph()
    rng = np.random.default_rng(3)
    middle = 128 if dtype is DType.UINT8 else 0
    quantized = dtype is not DType.FLOAT32
    fine = 256 if dtype is DType.INT16 else 1
    zeros = (0, 0) if dtype in (DType.INT16, DType.FLOAT32) else (middle + 7, middle - 11)
    x = g.input((2, 3, 4, 5), dtype, 0.05 / fine if quantized else None, zeros[0])
    data = rng.integers(-128, 128, alpha_shape) + middle if quantized else rng.normal(size=alpha_shape)
    alpha = g.constant(data, alpha_type, 0.02 if quantized else None, middle + 3 if quantized else 0)
    y = g.output((2, 3, 4, 5), dtype, y_scale / fine if quantized else None, zeros[1])
    label = f"{list(alpha_shape)}-{y_scale}".replace(" ", "")
    return g.case(f"{dtype.suffix}-{label}", "PRELU", [x, alpha], [y])


OPS = [Prelu()]
