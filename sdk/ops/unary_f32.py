"""Functions of one float32: operators that exist for float32 alone, and the steps of those that have other types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

ARGS = Struct("ml_unary_f32_args", fields("I", "count", "operation"))
RELU_ARGS = Struct("ml_relu_f32_args", (*fields("I", "count"), *fields("f", "slope", "low", "high")))


def _kernel(name: str, number: int, args: Struct = ARGS) -> Kernel:
    slots = (read("input", DType.FLOAT32), write("output", DType.FLOAT32))
    return Kernel(name, number, "unary_f32.c", args, slots)


# Kernels, and the operators of each in the order of its `operation`.
PLAIN = _kernel("plain_f32", 86)
EXPONENTIAL = _kernel("exponential_f32", 87)
LOGARITHM = _kernel("logarithm_f32", 88)
SINE = _kernel("sine_f32", 89)
ROOT = _kernel("root_f32", 90)
RELU = _kernel("relu_f32", 91, RELU_ARGS)
OPERATIONS = {
    PLAIN.name: ("ABS", "NEG", "SQUARE", "FLOOR", "CEIL", "ROUND", "HARD_SWISH"),
    EXPONENTIAL.name: ("EXP", "ELU", "LOGISTIC", "TANH"),
    LOGARITHM.name: ("LOG",),
    SINE.name: ("SIN", "COS"),
    ROOT.name: ("SQRT", "RSQRT"),
}
_KERNELS = {op: k for k in (PLAIN, EXPONENTIAL, LOGARITHM, SINE, ROOT) for op in OPERATIONS[k.name]}


def check_like(view: View, dtypes: Sequence[DType]) -> None:
    """ModelError or UnsupportedError unless the output is like the input and of one of `dtypes`."""
    x, y = view.input(0), view.output()
    view.need(x.shape == y.shape, f"it makes {list(y.shape)} of {list(x.shape)}")
    view.need(x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}")
    if x.dtype not in dtypes:
        raise view.unsupported(f"has no kernel for {view.dtypes()}")
    if x.dtype in (DType.INT8, DType.UINT8, DType.INT16):
        _ = x.scale, y.scale


def lower(view: View, low: Lowering) -> None:
    """Adds the step of a node of float32."""
    x, y = view.input(0), view.output()
    kernel = _KERNELS[view.node.op]
    args = {"count": x.elements, "operation": OPERATIONS[kernel.name].index(view.node.op)}
    low.step(kernel, args, [low.value(x), low.value(y)], in_place=[(0, 1)])


def case(op: str, spread: float = 4.0, *, positive: bool = False, options: Mapping[str, float] | None = None) -> Case:
    """A case of a float32 node: random values, and those where functions are likely to go wrong."""
    g = CaseGraph()
    rng = np.random.default_rng(11)
    special = [0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1.0, -1.0, 1e-30, -1e-30, 1e-3, 6.0, -3.0, 3.0]
    values = [np.concatenate([special, rng.normal(size=44) * size]).astype(np.float32) for size in (spread, 0.1, 40.0)]
    if positive:
        values = [np.maximum(np.abs(each), np.float32(1e-20)) for each in values]
    x = g.input((4, 15), DType.FLOAT32)
    y = g.output((4, 15), DType.FLOAT32)
    sets: list[tuple[Array, ...]] = [(each.reshape(4, 15),) for each in values]
    label = "-".join(str(part) for part in (spread, *(options or {}).values()))
    return g.case(f"{op}_f32-{label}", op, [x], [y], options, sets)


class Unary(Op):
    types = ("float32",)

    def check(self, view: View) -> None:
        check_like(view, (DType.FLOAT32,))

    def lower(self, view: View, low: Lowering) -> None:
        lower(view, low)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            yield case(op, positive=op in ("SQRT", "LOG"))


class Plain(Unary):
    names = ("SQUARE", "FLOOR", "CEIL", "ROUND", "SQRT")
    kernels = (PLAIN, ROOT)
    bound = Bound(0.0, 0.0, "rounded as IEEE 754 asks")


class Transcendental(Unary):
    names = ("SIN", "COS", "LOG")
    kernels = (SINE, LOGARITHM)
    bound = Bound(2e-7, 4e-7, "within 3 ulp, as the oracle's are within 1")

    def cases(self) -> Iterator[Case]:
        yield from super().cases()
        for op in self.names:
            yield case(op, 30.0, positive=op == "LOG")


OPS: list[Op] = [Plain(), Transcendental()]
