"""RNN and UNIDIRECTIONAL_SEQUENCE_RNN: one layer that is fed with its own output, which lives across calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from sdk import numerics
from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

RNN_F32 = Kernel(
    "rnn_f32",
    0xC1,
    "rnn.c",
    Struct(
        "ml_rnn_args",
        (*fields("I", "batches", "steps", "inputs", "units", "time_major", "tanh"), *fields("f", "low", "high")),
    ),
    (
        *(read(name, DType.FLOAT32) for name in ("input", "weights", "recurrent", "bias")),
        *(write(name, DType.FLOAT32) for name in ("hidden", "output")),
    ),
)
SEQUENCE = "UNIDIRECTIONAL_SEQUENCE_RNN"
TANH = 4  # of the schema's ActivationFunctionType


class Rnn(Op):
    names = (SEQUENCE, "RNN")
    kernels = (RNN_F32,)
    types = ("float32",)
    limits = "no dynamic-range (hybrid) form"
    bound = Bound(1e-5, 1e-5, "sums in another order, and a tanh within 2 ulp, in a feedback that damps")

    def check(self, view: View) -> None:
        x, weights, recurrent, bias, hidden = (view.input(i) for i in range(5))
        view.need(len(x.shape) == (3 if view.node.op == SEQUENCE else 2), f"its input is {list(x.shape)}")
        fits = len(weights.shape) == 2 and weights.shape[1] == x.shape[-1] and weights.shape[0] > 0
        view.need(fits, f"its weights {weights.label} are {list(weights.shape)}")
        units, batches = weights.shape[0], self._sizes(view)[0]
        view.need(recurrent.shape == (units, units), f"its weights {recurrent.label} are {list(recurrent.shape)}")
        view.need(bias.shape == (units,), f"its bias {bias.label} is {list(bias.shape)}")
        view.need(hidden.variable and hidden.shape == (batches, units), f"its state {hidden.label} is not its output's")
        y = view.output()
        view.need(y.shape == (*x.shape[:-1], units), f"its output {y.label} is {list(y.shape)}")
        if {tensor.dtype for tensor in (*view.inputs, y)} != {DType.FLOAT32}:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    @staticmethod
    def _sizes(view: View) -> tuple[int, int]:
        """Batches and steps."""
        shape = view.input(0).shape
        if len(shape) == 2:
            return shape[0], 1
        return (shape[1], shape[0]) if view.option("time_major") else (shape[0], shape[1])

    def macs(self, view: View) -> int:
        return math.prod(self._sizes(view)) * (view.input(1).elements + view.input(2).elements)

    def lower(self, view: View, low: Lowering) -> None:
        batches, steps = self._sizes(view)
        activation = view.option("fused_activation_function")
        if activation not in (numerics.ACTIVATION_NONE, TANH, *numerics.CLAMPS):
            raise view.unsupported("has an activation that is neither tanh nor clamps")
        least, most = (0.0, 0.0) if activation == TANH else numerics.float_activation_range(activation)
        args = {"batches": batches, "steps": steps, "inputs": view.input(0).shape[-1], "units": view.input(1).shape[0]}
        args |= {"time_major": int(bool(view.option("time_major"))), "tanh": int(activation == TANH)}
        values = [low.value(tensor) for tensor in (*view.inputs, view.output())]
        low.step(RNN_F32, {**args, "low": least, "high": most}, values)

    def cases(self) -> Iterator[Case]:
        for op, sizes in itertools.product(self.names, ((1, 1, 1, 1), (2, 3, 5, 4), (3, 7, 2, 9))):
            for activation, time_major in ((TANH, False), (numerics.RELU, True), (numerics.ACTIVATION_NONE, False)):
                yield _case(op, sizes, activation, time_major)
        yield _case(SEQUENCE, (2, 4, 3, 5), numerics.RELU6, True)


def _case(op: str, sizes: tuple[int, int, int, int], activation: int, time_major: bool) -> Case:
    """Sizes are batches, steps, inputs and units; weights are small enough for sums that do not grow without end."""
    batches, steps, inputs, units = sizes
    rng = np.random.default_rng(sum(sizes))
    g = CaseGraph()
    ends = {"RNN": (batches,), SEQUENCE: (steps, batches) if time_major else (batches, steps)}[op]
    x = g.input((*ends, inputs), DType.FLOAT32)
    shapes = ((units, inputs), (units, units), (units,))
    constants = [g.constant(rng.normal(size=shape) * 0.5 / units**0.5, DType.FLOAT32) for shape in shapes]
    hidden = g.variable((batches, units), DType.FLOAT32)
    y = g.output((*ends, units), DType.FLOAT32)
    options = {"fused_activation_function": activation, "asymmetric_quantize_inputs": False}
    options |= {"time_major": time_major} if op == SEQUENCE else {}
    name = f"f32-{op == 'RNN'}-{sizes}-act{activation}-{time_major}".replace(" ", "")
    return g.case(name, op, [x, *constants, hidden], [y], options)


OPS = [Rnn()]
