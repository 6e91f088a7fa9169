"""UNIDIRECTIONAL_SEQUENCE_LSTM, as Keras makes it: four gates, a cell and a hidden state that live across calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sdk import fixed_point, numerics
from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Field, Struct, fields

SHAPE = fields("I", "batches", "steps", "inputs", "units", "time_major")
ARGS = Struct(
    "ml_lstm_args",
    (
        *SHAPE,
        Field("multiplier", "i", 8),  # of each gate's sums, x and h, to Q3.12
        Field("shift", "i", 8),
        *fields("i", "cell_multiplier", "cell_shift", "cell_low", "cell_high"),
        *fields("i", "tanh_multiplier", "tanh_round"),  # cell state to the argument of ml_tanh_s16
        *fields("I", "tanh_shift"),
        *fields("i", "hidden_multiplier", "hidden_shift", "hidden_offset"),
    ),
)
ARGS_F32 = Struct("ml_lstm_f32_args", (*SHAPE, *fields("f", "clip")))  # clip: infinite for none

# Gates in the order of the kernel, forget, input, candidate, output: where their tensors are among the node's inputs.
INPUT_WEIGHTS = (2, 1, 3, 4)
RECURRENT_WEIGHTS = (6, 5, 7, 8)
BIASES = (13, 12, 14, 15)
HIDDEN, CELL = 18, 19
REFUSED = {
    "peepholes": (9, 10, 11),
    "a projection": (16, 17),
    "layer normalization": (20, 21, 22, 23),
}


def _integer_kernel(name: str, number: int, activation: DType, start: DType) -> Kernel:
    slots = (
        read("input", activation),
        read("weights", DType.INT8),
        read("start", start),  # start values of the sums: biases and zero points folded
        write("hidden", activation),
        write("cell", DType.INT16),
        write("output", activation),
        read("table", DType.UINT16),
    )
    return Kernel(name, number, "lstm.c", ARGS, slots)


LSTM_S8 = _integer_kernel("lstm_s8", 233, DType.INT8, DType.INT32)
LSTM_S16 = _integer_kernel("lstm_s16", 234, DType.INT16, DType.INT64)
LSTM_F32 = Kernel(
    "lstm_f32",
    236,
    "lstm.c",
    ARGS_F32,
    (
        read("input", DType.FLOAT32),
        read("weights", DType.FLOAT32),
        read("bias", DType.FLOAT32),
        write("hidden", DType.FLOAT32),
        write("cell", DType.FLOAT32),
        write("output", DType.FLOAT32),
    ),
)


class UnidirectionalSequenceLstm(Op):
    names = ("UNIDIRECTIONAL_SEQUENCE_LSTM",)
    kernels = (LSTM_S8, LSTM_S16, LSTM_F32)
    types = ("int8", "int16 with int8 weights", "float32")
    limits = "four gates with tanh; no peepholes, projection or layer normalization; no dynamic-range (hybrid) form"
    bound = Bound(1e-5, 1e-5, "sums in another order, and gates that differ by an ulp or two, in a feedback that damps")

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        for what, indices in REFUSED.items():
            if any(view.has(i) for i in indices):
                raise view.unsupported(f"has {what}")
        if not view.has(1) or not view.has(5) or not view.has(12):
            raise view.unsupported("couples its input and forget gates")
        if view.option("fused_activation_function") != numerics.TANH:
            raise view.unsupported("has another activation than tanh")
        if view.option("diagonal_recurrent_tensors"):
            raise view.unsupported("has diagonal recurrent weights")
        view.need(len(x.shape) == 3, f"its input {x.label} has {len(x.shape)} dimensions, not 3")
        view.need(len(view.input(4).shape) == 2, f"{view.input(4).label} is not a matrix")
        units, inputs = view.input(4).shape
        view.need(inputs == x.shape[2], f"its input {x.label} does not have {inputs} columns")
        self._check_shapes(view, units, inputs)
        view.need(y.shape == (*x.shape[:2], units), f"its output {y.label} is not {[*x.shape[:2], units]}")
        batches = x.shape[1 if view.option("time_major") else 0]
        for index in (HIDDEN, CELL):
            state = view.input(index)
            view.need(state.variable, f"its state {state.label} is not a variable")
            view.need(state.elements == batches * units, f"its state {state.label} is not {[batches, units]}")

    @staticmethod
    def _check_shapes(view: View, units: int, inputs: int) -> None:
        shapes: dict[int, tuple[int, ...]] = dict.fromkeys(INPUT_WEIGHTS, (units, inputs))
        shapes |= dict.fromkeys(RECURRENT_WEIGHTS, (units, units))
        shapes |= dict.fromkeys(BIASES, (units,))
        for index, shape in shapes.items():
            tensor = view.input(index)
            view.need(tensor.shape == shape, f"{tensor.label} is {list(tensor.shape)}, not {list(shape)}")

    def macs(self, view: View) -> int:
        x, y = view.input(0), view.output()
        return 4 * y.elements * (x.shape[2] + y.shape[2])

    def lower(self, view: View, low: Lowering) -> None:
        x, y, hidden, cell = view.input(0), view.output(), view.input(HIDDEN), view.input(CELL)
        time_major = bool(view.option("time_major"))
        shape = {
            "batches": x.shape[1 if time_major else 0],
            "steps": x.shape[0 if time_major else 1],
            "inputs": x.shape[2],
            "units": y.shape[2],
            "time_major": int(time_major),
        }
        weights = [view.input(i) for i in (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS)]
        biases = [view.input(i) for i in BIASES]
        types = (_only(view, [x, y, hidden]), _only(view, weights), _only(view, biases), cell.dtype)
        if types == (DType.INT8, DType.INT8, DType.INT32, DType.INT16):
            self._lower_integer(view, low, shape, wide=False)
        elif types == (DType.INT16, DType.INT8, DType.INT64, DType.INT16):
            self._lower_integer(view, low, shape, wide=True)
        elif types == (DType.FLOAT32,) * 4:
            clip = view.option("cell_clip")
            bias = np.stack([view.constant(i) for i in BIASES], axis=1)
            values = [low.constant(_packed_weights(view)), low.constant(bias)]
            values = [low.value(x), *values, low.value(hidden), low.value(cell), low.value(y)]
            low.step(LSTM_F32, shape | {"clip": clip if clip > 0 else math.inf}, values)
        else:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def _lower_integer(self, view: View, low: Lowering, shape: dict[str, int], *, wide: bool) -> None:
        x, y, hidden, cell = view.input(0), view.output(), view.input(HIDDEN), view.input(CELL)
        for index in (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS):
            weights = view.input(index)
            if weights.zero_point:
                raise view.unsupported(f"has weights {weights.label} with a zero point")
        args = shape | _sum_scales(view, wide=wide) | _cell_scales(view)
        low.step(
            LSTM_S16 if wide else LSTM_S8,
            args,
            [
                low.value(x),
                low.constant(_packed_weights(view)),
                low.constant(_starts(view, wide=wide)),
                low.value(hidden),
                low.value(cell),
                low.value(y),
                low.constant(numerics.sigmoid_table()),
            ],
        )

    def cases(self) -> Iterator[Case]:
        # batches, steps, inputs, units
        for shape in ((1, 1, 1, 1), (1, 5, 3, 2), (3, 4, 7, 5), (2, 3, 17, 8)):
            name = "x".join(map(str, shape))
            for time_major in (False, True):
                for dtype in (DType.INT8, DType.INT16):
                    yield _case_integer(f"{dtype.suffix}-{name}-{_order(time_major)}", shape, dtype, time_major)
                yield _case_f32(f"f32-{name}-{_order(time_major)}", shape, time_major)
        for dtype in (DType.INT8, DType.INT16):
            for clip in (0.0, 0.3, 10.0, 100.0):
                yield _case_integer(f"{dtype.suffix}-clip{clip}", (1, 6, 4, 3), dtype, clip=clip)
            for power in (-15, -13, -12, -11, -9):
                yield _case_integer(f"{dtype.suffix}-cell2^{power}", (1, 6, 4, 3), dtype, power=power)
            for scale in (1e-5, 0.05, 0.5):
                yield _case_integer(f"{dtype.suffix}-scale{scale}", (2, 6, 4, 3), dtype, scale=scale)
        yield _case_f32("f32-clip", (1, 6, 4, 3), clip=0.2)
        for zero in (-128, 127):
            yield _case_integer(f"s8-zero{zero}", (1, 6, 4, 3), DType.INT8, zero=zero)


def _order(time_major: bool) -> str:
    return "time-major" if time_major else "batch-major"


def _only(view: View, tensors: Sequence[Tensor]) -> DType:
    """The type that all of `tensors` have."""
    for tensor in tensors:
        if tensor.dtype is not tensors[0].dtype:
            raise view.unsupported(f"mixes the types of {tensors[0].label} and {tensor.label}")
    return tensors[0].dtype


def _packed_weights(view: View) -> Array:
    """[units][gates][inputs + units]: each sum's weights lie in a row."""
    rows = [
        np.concatenate([view.constant(i), view.constant(h)], axis=1)
        for i, h in zip(INPUT_WEIGHTS, RECURRENT_WEIGHTS, strict=True)
    ]
    return np.stack(rows, axis=1)


def _starts(view: View, *, wide: bool) -> Array:
    """[units][gates][x, h] start values of the sums."""
    x, hidden = view.input(0), view.input(HIDDEN)
    columns = []
    for gate in range(4):
        for indices, zero_point, bias in (
            (INPUT_WEIGHTS, x.zero_point, view.constant(BIASES[gate])),
            (RECURRENT_WEIGHTS, hidden.zero_point, np.zeros(1)),
        ):
            sums = view.constant(indices[gate]).astype(np.int64).sum(axis=1)
            columns.append(bias.astype(np.int64) - zero_point * sums)
    starts = np.stack(columns, axis=1)
    return starts if wide else fixed_point.wrap32(starts).astype(np.int32)


def _sum_scales(view: View, *, wide: bool) -> dict[str, tuple[int, ...]]:
    """Multipliers of the eight sums to Q3.12.

    Follows CreateGateParams (tensorflow/lite/micro/kernels/lstm_eval_common.cc).
    """
    pairs = []
    for gate in range(4):
        for source, indices in ((0, INPUT_WEIGHTS), (HIDDEN, RECURRENT_WEIGHTS)):
            product = np.float32(view.input(source).scale) * np.float32(view.input(indices[gate]).scale)
            pair = numerics.quantize_multiplier(float(product) * 4096.0)
            pairs.append(numerics.short_multiplier(*pair) if wide else pair)
    return {"multiplier": tuple(m for m, _ in pairs), "shift": tuple(s for _, s in pairs)}


def _cell_scales(view: View) -> dict[str, int]:
    """What the cell's and the hidden state's update need.

    Follows PrepareGateParametersInteger and CreateLstmCellStateInfo (lstm_eval_common.cc), and Tanh (lstm_eval.cc), all
    in tensorflow/lite/micro/kernels.
    """
    cell, hidden = view.input(CELL), view.input(HIDDEN)
    clip = float(np.float32(view.option("cell_clip")))
    view.need(not math.isnan(clip), f"it clips its cell at {clip}")
    limit = int(min(max(clip / cell.scale, -32768.0), 32767.0))
    added = numerics.quantize_multiplier(2.0**-30 / float(np.float32(cell.scale)))
    output = numerics.quantize_multiplier(2.0**-30 / float(np.float32(hidden.scale)))
    shift = 12 + round(math.log2(cell.scale))
    if not -15 <= shift <= 15:
        raise view.unsupported(f"has a cell state {cell.label} with a scale far from 2^-12")
    return {
        "cell_multiplier": added[0],
        "cell_shift": added[1],
        "cell_low": -limit if clip > 0 else -32768,
        "cell_high": limit if clip > 0 else 32767,
        "tanh_multiplier": 3 << max(shift, 0),
        "tanh_round": 1 << (-shift - 1) if shift < 0 else 0,
        "tanh_shift": max(-shift, 0),
        "hidden_multiplier": output[0],
        "hidden_shift": output[1],
        "hidden_offset": hidden.zero_point,
    }


def _case_integer(
    name: str,
    shape: tuple[int, int, int, int],
    dtype: DType,
    time_major: bool = False,
    *,
    clip: float = 10.0,
    power: int = -12,
    scale: float = 0.02,
    zero: int = -5,
) -> Case:
    batches, steps, inputs, units = shape
    rng = np.random.default_rng(sum(shape))
    g = CaseGraph()
    wide = dtype is DType.INT16
    zero = 0 if wide else zero
    x_scale, y_scale = (0.0002, 1 / 32768) if wide else (0.05, 1 / 128)
    x_shape = (steps, batches) if time_major else (batches, steps)
    x = g.input((*x_shape, inputs), dtype, x_scale, zero)
    operands: list[int | None] = [None] * 24
    operands[0] = x
    for index in (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS):
        columns = inputs if index in INPUT_WEIGHTS else units
        data = rng.integers(-127, 128, (units, columns))
        operands[index] = g.constant(data, DType.INT8, scale * rng.uniform(0.5, 1.0))
    for index in BIASES:
        data = rng.integers(-3000, 3000, units)
        operands[index] = g.constant(data, DType.INT64 if wide else DType.INT32, x_scale * scale)
    operands[HIDDEN] = g.variable((batches, units), dtype, y_scale, zero)
    operands[CELL] = g.variable((batches, units), DType.INT16, 2.0**power)
    y = g.output((*x_shape, units), dtype, y_scale, zero)
    return g.case(name, "UNIDIRECTIONAL_SEQUENCE_LSTM", operands, [y], _options(clip, time_major))


def _case_f32(name: str, shape: tuple[int, int, int, int], time_major: bool = False, clip: float = 0.0) -> Case:
    batches, steps, inputs, units = shape
    rng = np.random.default_rng(sum(shape))
    g = CaseGraph()
    x_shape = (steps, batches) if time_major else (batches, steps)
    operands: list[int | None] = [None] * 24
    operands[0] = g.input((*x_shape, inputs), DType.FLOAT32)
    for index in (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES):
        columns = inputs if index in INPUT_WEIGHTS else units
        data = rng.normal(size=(units,) if index in BIASES else (units, columns))
        operands[index] = g.constant(data, DType.FLOAT32)
    operands[HIDDEN] = g.variable((batches, units), DType.FLOAT32)
    operands[CELL] = g.variable((batches, units), DType.FLOAT32)
    y = g.output((*x_shape, units), DType.FLOAT32)
    return g.case(name, "UNIDIRECTIONAL_SEQUENCE_LSTM", operands, [y], _options(clip, time_major))


def _options(clip: float, time_major: bool) -> dict[str, Any]:
    return {
        "fused_activation_function": numerics.TANH,
        "cell_clip": clip,
        "proj_clip": 0.0,
        "time_major": time_major,
        "asymmetric_quantize_inputs": False,
        "diagonal_recurrent_tensors": False,
    }


OPS = [UnidirectionalSequenceLstm()]
