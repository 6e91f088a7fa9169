"""SVDF: a fully connected layer over a window of time, factorized into filters; the window is the operator's state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sdk import numerics
from sdk.graph import DType, Tensor
from sdk.lower import ABSENT, Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

SHAPE = fields("I", "batches", "inputs", "units", "rank", "memory")
ARGS = Struct(
    "ml_svdf_args",
    (
        *SHAPE,
        *fields("i", "feature_multiplier", "feature_shift", "state_offset"),
        *fields("i", "multiplier", "shift", "output_offset"),
    ),
)
ARGS_F32 = Struct("ml_svdf_f32_args", (*SHAPE, *fields("f", "low", "high")))


def _integer_kernel(name: str, number: int, state: DType) -> Kernel:
    slots = (
        read("input", DType.INT8),
        read("weights_feature", DType.INT8),
        read("weights_time", state),
        write("state", state),
        write("output", DType.INT8),
        read("feature_start", DType.INT32),  # start value of each filter's sum: zero points folded
        read("start", DType.INT32),  # start value of each unit's sum: bias and zero points folded
    )
    return Kernel(name, number, "svdf.c", ARGS, slots)


SVDF_S8 = _integer_kernel("svdf_s8", 230, DType.INT8)
SVDF_S16 = _integer_kernel("svdf_s16", 231, DType.INT16)
SVDF_F32 = Kernel(
    "svdf_f32",
    232,
    "svdf.c",
    ARGS_F32,
    (
        read("input", DType.FLOAT32),
        read("weights_feature", DType.FLOAT32),
        read("weights_time", DType.FLOAT32),
        write("state", DType.FLOAT32),
        write("output", DType.FLOAT32),
        read("bias", DType.FLOAT32, optional=True),
    ),
)


BIAS_TOLERANCE = 1e-5  # of scales: PrepareSvdf (tensorflow/lite/micro/kernels/svdf_common.cc)


class Svdf(Op):
    names = ("SVDF",)
    kernels = (SVDF_S8, SVDF_S16, SVDF_F32)
    types = ("int8", "int8 with int16 state", "float32")
    limits = "no dynamic-range (hybrid) form"
    bound = Bound(1e-5, 1e-5, "sums of products may be formed in another order")

    def check(self, view: View) -> None:
        x, feature, time, state, y = (view.input(0), view.input(1), view.input(2), view.input(4), view.output())
        for tensor in (x, feature, time):
            view.need(len(tensor.shape) == 2, f"{tensor.label} has {len(tensor.shape)} dimensions, not 2")
        filters, rank = feature.shape[0], view.option("rank")
        view.need(rank > 0 and filters % rank == 0, f"its {filters} filters are not a multiple of its rank {rank}")
        view.need(feature.shape[1] == x.shape[1], f"{feature.label} is not for inputs of {x.shape[1]}")
        view.need(time.shape[0] == filters and time.shape[1] > 0, f"{time.label} is not for {filters} filters")
        view.need(state.variable, f"its state {state.label} is not a variable")
        view.need(state.elements == x.shape[0] * time.elements, f"its state {state.label} has another size")
        view.need(y.elements == x.shape[0] * filters // rank, f"its output {y.label} has another size")
        if view.has(3):
            view.need(view.input(3).elements == filters // rank, f"its bias does not have {filters // rank} values")

    def macs(self, view: View) -> int:
        return view.input(0).shape[0] * (view.input(1).elements + view.input(2).elements)

    def lower(self, view: View, low: Lowering) -> None:
        x, feature, time, state, y = (view.input(0), view.input(1), view.input(2), view.input(4), view.output())
        rank = view.option("rank")
        shape = {
            "batches": x.shape[0],
            "inputs": x.shape[1],
            "units": feature.shape[0] // rank,
            "rank": rank,
            "memory": time.shape[1],
        }
        values = [low.value(tensor) for tensor in (x, feature, time, state, y)]
        types = (x.dtype, feature.dtype, time.dtype, state.dtype, y.dtype)
        if types == (DType.FLOAT32,) * 5:
            activation = view.option("fused_activation_function")
            if activation not in (numerics.ACTIVATION_NONE, *numerics.CLAMPS):
                raise view.unsupported("has an activation that does not clamp")
            lo, hi = numerics.float_activation_range(activation)
            bias = low.value(view.input(3)) if view.has(3) else ABSENT
            low.step(SVDF_F32, shape | {"low": lo, "high": hi}, [*values, bias])
        elif types in (_types(DType.INT8), _types(DType.INT16)):
            if view.has(3):
                product, scale = numerics.bias_scales(state, time, view.input(3))
                view.need(
                    abs(scale - product) < BIAS_TOLERANCE,
                    f"its bias {view.input(3).label} has the scale {scale:g}, its state times its weights {product:g}",
                )
            starts = [low.constant(start) for start in _starts(view, shape["units"])]
            kernel = SVDF_S8 if state.dtype is DType.INT8 else SVDF_S16
            low.step(kernel, shape | _scales(x, feature, time, state, y), [*values, *starts])
        else:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def cases(self) -> Iterator[Case]:
        for batches, inputs, units, rank, memory in (
            (1, 1, 1, 1, 1),
            (1, 5, 3, 2, 4),
            (2, 17, 4, 1, 10),
            (3, 8, 2, 3, 7),
        ):
            shape = (batches, inputs, units, rank, memory)
            name = "x".join(map(str, shape))
            for activation in (numerics.ACTIVATION_NONE, numerics.RELU):
                yield _case_integer(f"s8-{name}-act{activation}", shape, DType.INT8, activation)
                yield _case_integer(f"s16-{name}-act{activation}", shape, DType.INT16, activation)
                yield _case_f32(f"f32-{name}-act{activation}", shape, activation)
        for zero in (-128, -7, 127):
            yield _case_integer(f"s8-zero{zero}", (2, 9, 3, 2, 5), DType.INT8, zero=zero)
            yield _case_integer(f"s8-state-zero{zero}", (2, 9, 3, 2, 5), DType.INT8, state_zero=zero)
            yield _case_integer(f"s16-zero{zero}", (2, 9, 3, 2, 5), DType.INT16, zero=zero)
        for scale in (1e-6, 0.5, 30.0):
            yield _case_integer(f"s8-scale{scale}", (1, 9, 3, 2, 5), DType.INT8, scale=scale)
            yield _case_integer(f"s16-scale{scale}", (1, 9, 3, 2, 5), DType.INT16, scale=scale)
        yield _case_f32("f32-no-bias", (1, 6, 2, 2, 3), 0, bias=False)
        yield _case_f32("f32-relu6", (1, 6, 2, 2, 3), numerics.RELU6)


def _types(state: DType) -> tuple[DType, ...]:
    return DType.INT8, DType.INT8, state, state, DType.INT8


def _starts(view: View, units: int) -> tuple[Any, Any]:
    """int32 start values of the filters' sums and of the units' sums."""
    x, state = view.input(0), view.input(4)
    feature, time = view.constant(1), view.constant(2)
    bias = view.constant(3) if view.has(3) else None
    by_unit = time.reshape(units, -1)
    return (
        numerics.folded_bias(None, feature, x.zero_point, 0, axes=(1,)),
        numerics.folded_bias(bias, by_unit, state.zero_point, 0, axes=(1,)),
    )


def _scales(x: Tensor, feature: Tensor, time: Tensor, state: Tensor, y: Tensor) -> dict[str, int]:
    """Multipliers as Prepare computes them (tensorflow/lite/kernels/svdf.cc): in float32."""
    single = np.float32
    first = numerics.quantize_multiplier(float(single(x.scale) * single(feature.scale) / single(state.scale)))
    second = numerics.quantize_multiplier(float(single(state.scale) * single(time.scale) / single(y.scale)))
    return {
        "feature_multiplier": first[0],
        "feature_shift": first[1],
        "state_offset": state.zero_point,
        "multiplier": second[0],
        "shift": second[1],
        "output_offset": y.zero_point,
    }


def _options(rank: int, activation: int) -> dict[str, Any]:
    return {"rank": rank, "fused_activation_function": activation, "asymmetric_quantize_inputs": False}


def _case_integer(
    name: str,
    shape: tuple[int, int, int, int, int],
    wide: DType,
    activation: int = numerics.RELU,
    zero: int = -3,
    state_zero: int = 0,
    scale: float = 0.1,
) -> Case:
    batches, inputs, units, rank, memory = shape
    rng = np.random.default_rng(sum(shape))
    g = CaseGraph()
    x = g.input((batches, inputs), DType.INT8, 0.05, zero)
    state_scale, time_scale = (0.08, 0.01) if wide is DType.INT8 else (0.0005, 0.0001)
    limit = 127 if wide is DType.INT8 else 32767
    feature = g.constant(rng.integers(-127, 128, (units * rank, inputs)), DType.INT8, 0.02)
    time = g.constant(rng.integers(-limit, limit + 1, (units * rank, memory)), wide, time_scale)
    bias = g.constant(rng.integers(-3000, 3000, units), DType.INT32, state_scale * time_scale)
    state = g.variable((batches, units * rank * memory), wide, state_scale, state_zero)
    y = g.output((batches, units), DType.INT8, scale, zero)
    options = _options(rank, activation)
    values = [(rng.integers(-128, 128, (batches, inputs)).astype(np.int8),) for _ in range(memory + 2)]
    return g.case(name, "SVDF", [x, feature, time, bias, state], [y], options, values)


def _case_f32(name: str, shape: tuple[int, int, int, int, int], activation: int, *, bias: bool = True) -> Case:
    batches, inputs, units, rank, memory = shape
    rng = np.random.default_rng(sum(shape))
    g = CaseGraph()
    x = g.input((batches, inputs), DType.FLOAT32)
    feature = g.constant(rng.normal(size=(units * rank, inputs)), DType.FLOAT32)
    time = g.constant(rng.normal(size=(units * rank, memory)), DType.FLOAT32)
    offset = g.constant(rng.normal(size=units), DType.FLOAT32) if bias else None
    state = g.variable((batches, units * rank * memory), DType.FLOAT32)
    y = g.output((batches, units), DType.FLOAT32)
    values = [(rng.normal(size=(batches, inputs)).astype(np.float32),) for _ in range(memory + 2)]
    return g.case(name, "SVDF", [x, feature, time, offset, state], [y], _options(rank, activation), values)


OPS = [Svdf()]
