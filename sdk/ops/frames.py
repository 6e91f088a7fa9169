"""SignalFramer, SignalDelay, SignalStacker, SignalOverlapAdd: signals in pieces, with state between inferences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from sdk.graph import DType, Tensor
from sdk.lower import ABSENT, Lowering
from sdk.ops import audio
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, Slot, View, read, write
from sdk.program import Struct, fields

# rows of samples; past: how many samples before the input's frames reach back to
FRAMER_ARGS = Struct("ml_framer_args", fields("I", "rows", "frames", "step", "size", "past"))
# size: of a row; past: rows before the newest
STACKER_ARGS = Struct("ml_stacker_args", fields("I", "size", "past", "step"))
OVERLAP_ARGS = Struct("ml_overlap_add_args", fields("I", "rows", "frames", "step", "size"))

FRAMER = Kernel(
    "framer_s16",
    284,
    "frames.c",
    FRAMER_ARGS,
    (
        read("input", DType.INT16),
        write("output", DType.INT16),
        Slot("valid", DType.BOOL, written=True, optional=True),  # absent for a delay
        write("past", DType.INT16),
        Slot("missing", DType.UINT32, written=True, optional=True),  # absent where no frame is
    ),
)
STACKER = Kernel(
    "stacker_s16",
    285,
    "frames.c",
    STACKER_ARGS,
    (
        read("input", DType.INT16),
        write("output", DType.INT16),
        write("valid", DType.BOOL),
        write("past", DType.INT16),
        write("clock", DType.UINT32),
    ),
)
OVERLAP_ADD = {
    dtype: Kernel(
        f"overlap_add_{dtype.suffix}",
        number,
        "frames.c",
        OVERLAP_ARGS,
        (read("input", dtype), write("output", dtype), write("state", dtype)),
    )
    for dtype, number in ((DType.INT16, 286), (DType.FLOAT32, 287))
}
KEEPS = "an output that is not valid keeps its last value"


class Framer(Op):
    """Frames of frame_size samples, frame_step apart, of a signal that comes a few steps at a time."""

    names = ("CUSTOM:SignalFramer",)
    kernels = (FRAMER,)
    types = ("int16",)
    limits = KEEPS

    def check(self, view: View) -> None:
        audio.need_types(view, [DType.INT16], [DType.INT16, DType.BOOL])
        rows, samples = audio.rows_of(view, view.input().shape, "input")
        size, step = audio.option(view, "frame_size", 1), audio.option(view, "frame_step", 1, samples)
        view.need(samples % step == 0, f"its input rows of {samples} samples are no multiple of its step {step}")
        view.need(not audio.option(view, "prefill") or size >= step, f"it has to prefill {size} - {step} samples")
        audio.need_count(view, "output", view.output().elements, rows * samples // step * size)
        audio.need_count(view, "second output", view.output(1).elements, 1)

    def lower(self, view: View, low: Lowering) -> None:
        x, y, valid = view.input(), view.output(0), view.output(1)
        rows, samples = audio.rows_of(view, x.shape, "input")
        size, step = view.option("frame_size"), view.option("frame_step")
        # Without zeros before it, the signal begins with the first frame, which takes so many steps to fill.
        steps = 1 if view.option("prefill") else -(-size // step)
        past = (size - step) if view.option("prefill") else (steps - 1) * step
        missing = ABSENT
        if steps > 1:
            low.alias(y, low.state(y.bytes))
            missing = low.state(DType.UINT32.bytes)
            low.set_initial(missing, np.array([steps - 1], np.uint32))
        args = {"rows": rows, "frames": samples // step, "step": step, "size": size, "past": past}
        state = low.state(rows * past * x.dtype.bytes)
        low.step(FRAMER, args, [low.value(x), low.value(y), low.value(valid), state, missing])

    def cases(self) -> Iterator[Case]:
        for (size, step), frames, prefill in itertools.product(
            ((1, 1), (4, 4), (7, 3), (3, 7), (480, 320), (9, 1)), (1, 2, 5), (False, True)
        ):
            if prefill and size < step:
                continue
            yield _framer_case((), size, step, frames, prefill)
        # Large enough for its output to lie where tflite-micro's arena was never written before.
        yield _framer_case((2, 3), 90, 40, 2, False)
        yield _framer_case((3,), 8, 3, 2, True)


class Delay(Op):
    """Each row of samples, delay_length samples late."""

    names = ("CUSTOM:SignalDelay",)
    kernels = (FRAMER,)
    types = ("int16",)

    def check(self, view: View) -> None:
        audio.need_types(view, [DType.INT16], [DType.INT16])
        audio.rows_of(view, view.input().shape, "input")
        audio.need_count(view, "output", view.output().elements, view.input().elements)
        audio.option(view, "delay_length", 0, 1 << 24)

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(), view.output()
        rows, size = audio.rows_of(view, x.shape, "input")
        past = view.option("delay_length")
        args = {"rows": rows, "frames": 1, "step": size, "size": size, "past": past}
        state = low.state(rows * past * x.dtype.bytes)
        low.step(FRAMER, args, [low.value(x), low.value(y), ABSENT, state, ABSENT])

    def cases(self) -> Iterator[Case]:
        for shape, delay in itertools.product(((1,), (7,), (2, 3, 5), (160,)), (0, 1, 5, 7, 23)):
            g = CaseGraph()
            x, y = g.input(shape, DType.INT16), g.output(shape, DType.INT16)
            name = f"{'x'.join(map(str, shape))}-{delay}"
            yield _stream(g, name, "CUSTOM:SignalDelay", [x], [y], {"delay_length": delay})


class Stacker(Op):
    """Each stacker_step-th row of features, joined with its neighbours on both sides."""

    names = ("CUSTOM:SignalStacker",)
    kernels = (STACKER,)
    types = ("int16",)
    limits = KEEPS

    def check(self, view: View) -> None:
        audio.need_types(view, [DType.INT16], [DType.INT16, DType.BOOL])
        size, rows = audio.option(view, "num_channels", 1), _stacked(view)
        audio.need_count(view, "input", view.input().elements, size)
        audio.need_count(view, "output", view.output().elements, size * rows)
        audio.need_count(view, "second output", view.output(1).elements, 1)
        audio.option(view, "stacker_step", 1, rows)

    def lower(self, view: View, low: Lowering) -> None:
        x, y, valid = view.input(), view.output(0), view.output(1)
        past, step, first = _stacked(view) - 1, view.option("stacker_step"), view.option("stacker_right_context")
        if (step, first) != (1, 0):
            low.alias(y, low.state(y.bytes))
        clock = low.state(2 * DType.UINT32.bytes)
        low.set_initial(clock, np.array([first, 0], np.uint32))
        args = {"size": x.elements, "past": past, "step": step}
        state = low.state(past * x.bytes)
        low.step(STACKER, args, [low.value(x), low.value(y), low.value(valid), state, clock])

    def cases(self) -> Iterator[Case]:
        size = 5
        for left, right, step in itertools.product((0, 1, 3), (0, 1, 2), (1, 2, 3)):
            if step > left + right + 1:
                continue
            g = CaseGraph()
            x, y = g.input((size,), DType.INT16), g.output((size * (left + right + 1),), DType.INT16)
            options = {
                "num_channels": size,
                "stacker_left_context": left,
                "stacker_right_context": right,
                "stacker_step": step,
            }
            outputs = [y, g.output((), DType.BOOL)]
            yield _stream(g, f"{size}-{left}-{right}-step{step}", "CUSTOM:SignalStacker", [x], outputs, options)


class OverlapAdd(Op):
    """The signal that overlapping frames add up to: frame_step samples for each frame."""

    names = ("CUSTOM:SignalOverlapAdd",)
    kernels = tuple(OVERLAP_ADD.values())
    types = ("int16", "float32")
    bound = Bound(0.0, 0.0, "the oracle's additions in the oracle's order")

    def check(self, view: View) -> None:
        dtype = audio.element_type(view, tuple(OVERLAP_ADD))
        audio.need_types(view, [dtype], [dtype])
        shape = view.input().shape
        view.need(len(shape) >= 2, f"its input {list(shape)} is no row of frames")
        step = audio.option(view, "frame_step", 1, shape[-1])
        audio.need_count(view, "output", view.output().elements, math.prod(shape[:-1]) * step)

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(), view.output()
        *outer, frames, size = x.shape
        args = {"rows": math.prod(outer), "frames": frames, "step": view.option("frame_step"), "size": size}
        state = low.state(math.prod(outer) * size * x.dtype.bytes)
        low.step(OVERLAP_ADD[x.dtype], args, [low.value(x), low.value(y), state])

    def cases(self) -> Iterator[Case]:
        for dtype, (size, step), frames in itertools.product(
            OVERLAP_ADD, ((1, 1), (4, 4), (7, 3), (480, 320), (9, 1)), (1, 3)
        ):
            for outer in ((), (2, 3)) if size == 7 else ((),):
                g = CaseGraph()
                x, y = g.input((*outer, frames, size), dtype), g.output((*outer, frames * step), dtype)
                name = f"{dtype.suffix}-{'x'.join(map(str, (*outer, frames, size)))}-step{step}"
                options = {"T": audio.TYPE_CODES[dtype], "frame_step": step}
                yield _stream(g, name, "CUSTOM:SignalOverlapAdd", [x], [y], options)


def _stacked(view: View) -> int:
    """Rows of a stack."""
    most = 1 << 16
    left, right = (audio.option(view, f"stacker_{side}_context", 0, most) for side in ("left", "right"))
    return left + right + 1


def _framer_case(outer: tuple[int, ...], size: int, step: int, frames: int, prefill: bool) -> Case:
    g = CaseGraph()
    x, y = g.input((*outer, frames * step), DType.INT16), g.output((*outer, frames, size), DType.INT16)
    options = {"frame_size": size, "frame_step": step, "prefill": prefill}
    name = f"{'x'.join(map(str, (*outer, frames)))}-{size}-step{step}-prefill{int(prefill)}"
    return _stream(g, name, "CUSTOM:SignalFramer", [x], [y, g.output((), DType.BOOL)], options)


def _stream(
    g: CaseGraph, name: str, op: str, inputs: list[int], outputs: list[int], options: dict[str, int | bool]
) -> Case:
    """A case of a dozen inferences, over the whole range of values."""
    rng = np.random.default_rng(len(name))
    x: Tensor = g.tensors[inputs[0]]
    values = [(rng.integers(-32768, 32768, x.shape).astype(x.dtype.numpy),) for _ in range(12)]
    return g.case(name, op, inputs, outputs, options, values)


OPS: list[Op] = [Framer(), Delay(), Stacker(), OverlapAdd()]
