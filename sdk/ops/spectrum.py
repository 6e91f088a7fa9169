"""SignalWindow, SignalFftAutoScale, SignalEnergy: what stands around the Fourier transform of an audio front end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import audio
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

WINDOW_ARGS = Struct("ml_window_function_args", fields("I", "rows", "size", "shift"))
SCALE_ARGS = Struct("ml_fft_auto_scale_args", fields("I", "count"))
ENERGY_ARGS = Struct("ml_energy_args", fields("I", "bins", "start", "end"))

WINDOW = Kernel(
    "window_function_s16",
    270,
    "spectrum.c",
    WINDOW_ARGS,
    (read("input", DType.INT16), read("weights", DType.INT16), write("output", DType.INT16)),
)
FFT_AUTO_SCALE = Kernel(
    "fft_auto_scale_s16",
    271,
    "spectrum.c",
    SCALE_ARGS,
    (read("input", DType.INT16), write("output", DType.INT16), write("scale_bits", DType.INT32)),
)
ENERGY = Kernel(
    "energy_s16", 272, "spectrum.c", ENERGY_ARGS, (read("input", DType.INT16), write("output", DType.UINT32))
)


class Window(Op):
    """output = input * weights / 2^shift, row by row."""

    names = ("CUSTOM:SignalWindow",)
    kernels = (WINDOW,)
    types = ("int16",)

    def check(self, view: View) -> None:
        audio.need_types(view, [DType.INT16, DType.INT16], [DType.INT16])
        x, weights = view.input(0).elements, view.input(1).elements
        view.need(x % weights == 0, f"its input of {x} elements is no multiple of its window of {weights}")
        audio.need_count(view, "output", view.output().elements, x)
        audio.option(view, "shift", 0, 31)

    def lower(self, view: View, low: Lowering) -> None:
        x, weights, y = view.input(0), view.input(1), view.output()
        args = {"rows": x.elements // weights.elements, "size": weights.elements, "shift": view.option("shift")}
        low.step(WINDOW, args, [low.value(x), low.value(weights), low.value(y)], in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        rng = np.random.default_rng(0)
        for shape, shift in itertools.product(((1,), (1, 480), (3, 2, 7), (17,)), (0, 12, 15, 31)):
            g = CaseGraph()
            x = g.input(shape, DType.INT16)
            weights = g.constant(rng.integers(-32768, 32768, shape[-1]), DType.INT16)
            y = g.output(shape, DType.INT16)
            name = f"{'x'.join(map(str, shape))}-shift{shift}"
            yield g.case(name, "CUSTOM:SignalWindow", [x, weights], [y], {"shift": shift})


class FftAutoScale(Op):
    """The input shifted left as far as none overflows, and by how many bits that is."""

    names = ("CUSTOM:SignalFftAutoScale",)
    kernels = (FFT_AUTO_SCALE,)
    types = ("int16",)

    def check(self, view: View) -> None:
        audio.need_types(view, [DType.INT16], [DType.INT16, DType.INT32])
        audio.need_count(view, "output", view.output().elements, view.input().elements)
        audio.need_count(view, "second output", view.output(1).elements, 1)

    def lower(self, view: View, low: Lowering) -> None:
        x, y, bits = view.input(), view.output(0), view.output(1)
        values = [low.value(tensor) for tensor in (x, y, bits)]
        low.step(FFT_AUTO_SCALE, {"count": x.elements}, values, in_place=[(0, 1)])

    def cases(self) -> Iterator[Case]:
        rng = np.random.default_rng(0)
        for size in (1, 7, 480):
            g = CaseGraph()
            x, y, bits = g.input((size,), DType.INT16), g.output((size,), DType.INT16), g.output((), DType.INT32)
            values = []
            for limit in (0, 1, 2, 3, 255, 256, 16383, 16384, 32767):
                values.append((rng.integers(-limit, limit, size, endpoint=True).astype(np.int16),))
                values.append((np.full(size, -limit, np.int16),))
            # The oracle's maximum wraps at the lowest number, and then starts anew.
            for lowest in (0, size // 2, size - 1):
                array = rng.integers(-100, 100, size).astype(np.int16)
                array[lowest] = -32768
                values += [(array,), (np.where(array > -32768, -7, array).astype(np.int16),)]
            yield g.case(f"{size}", "CUSTOM:SignalFftAutoScale", [x], [y, bits], values=values)


class Energy(Op):
    """The squared magnitude of each bin from start_index to before end_index."""

    names = ("CUSTOM:SignalEnergy",)
    kernels = (ENERGY,)
    types = ("int16 to uint32",)
    limits = "other bins than those from start_index to end_index are 0; tflite-micro leaves them as its memory was"

    def check(self, view: View) -> None:
        audio.need_types(view, [DType.INT16], [DType.UINT32])
        end = audio.option(view, "end_index")
        audio.option(view, "start_index", 0, end)
        for what, bins in (("input", view.input().elements // 2), ("output", view.output().elements)):
            view.need(end <= bins, f"its {what} has {bins} bins, fewer than its end_index {end}")

    def lower(self, view: View, low: Lowering) -> None:
        y = view.output()
        args = {"bins": y.elements, "start": view.option("start_index"), "end": view.option("end_index")}
        low.step(ENERGY, args, [low.value(view.input()), low.value(y)])

    def cases(self) -> Iterator[Case]:
        for bins, start, end in ((1, 0, 1), (257, 5, 241), (9, 0, 9), (9, 3, 3), (17, 0, 16), (5, 4, 5)):
            g = CaseGraph()
            x, y = g.input((2 * bins,), DType.INT16), g.output((bins,), DType.UINT32)
            options = {"start_index": start, "end_index": end}
            yield g.case(f"{bins}-{start}-{end}", "CUSTOM:SignalEnergy", [x], [y], options)


OPS: list[Op] = [Window(), FftAutoScale(), Energy()]
