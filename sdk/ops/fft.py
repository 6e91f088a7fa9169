"""SignalRfft and SignalIrfft: Fourier transforms of real signals, as KISS FFT computes them for tflite-micro.

Tables and the order of stages are made here; results are equal bit for bit because every step rounds as it does there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import audio
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Field, Struct, fields

STAGES = 16
# length: real numbers of a row, of the input of RFFT (zeros follow up to 2 * points) or of the output of IRFFT
ARGS = Struct("ml_fft_args", (*fields("I", "rows", "length", "points"), Field("radices", "B", STAGES)))
TYPES = (DType.INT16, DType.INT32, DType.FLOAT32)


def _kernel(name: str, number: int, dtype: DType, *scratch: Any) -> Kernel:
    # twiddles[i] is the turn by i / points, turns[k - 1] that by half of k / points and a quarter.
    slots = (read("input", dtype), write("output", dtype), read("twiddles", dtype), read("turns", dtype), *scratch)
    return Kernel(f"{name}_{dtype.suffix}", number, "fft.c", ARGS, slots)


RFFT = {dtype: _kernel("rfft", 273 + i, dtype) for i, dtype in enumerate(TYPES)}
IRFFT = {dtype: _kernel("irfft", 276 + i, dtype, write("scratch", dtype)) for i, dtype in enumerate(TYPES)}


class _Fourier(Op):
    types = ("int16", "int32", "float32")
    limits = "fft_length: an even number from 4 on whose prime factors are 2, 3 and 5"
    bound = Bound(0.0, 0.0, "the oracle's operations in the oracle's order")

    def check_rows(self, view: View) -> tuple[int, int, int, int, int]:
        """(rows, numbers of a row, points) of the input, and (rows, numbers of a row) of the output."""
        dtype = audio.element_type(view, TYPES)
        audio.need_types(view, [dtype], [dtype])
        length = audio.option(view, "fft_length", 1, 1 << 24)
        if length < 4 or length % 2 or _radices(length // 2) is None:
            raise view.unsupported(f"has the length {length}, which is no even product of 2, 3 and 5 from 4 on")
        rows, size = audio.rows_of(view, view.input().shape, "input")
        out_rows, out_size = audio.rows_of(view, view.output().shape, "output")
        view.need(rows == out_rows, f"it makes {out_rows} rows of {rows}")
        return rows, size, length // 2, out_rows, out_size


class Rfft(_Fourier):
    """The first half of the spectrum, fft_length / 2 + 1 pairs, of rows that zeros fill up to fft_length."""

    names = ("CUSTOM:SignalRfft",)
    kernels = tuple(RFFT.values())

    def check(self, view: View) -> None:
        _, size, points, _, out_size = self.check_rows(view)
        view.need(size <= 2 * points, f"its input rows have {size} numbers, more than its length {2 * points}")
        audio.need_count(view, "output's row", out_size, 2 * (points + 1))

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(), view.output()
        rows, size = audio.rows_of(view, x.shape, "input")
        points = view.option("fft_length") // 2
        args = {"rows": rows, "length": size, "points": points, "radices": _padded(points)}
        tables = [low.constant(table) for table in _tables(points, x.dtype, 1.0)]
        low.step(RFFT[x.dtype], args, [low.value(x), low.value(y), *tables])

    def cases(self) -> Iterator[Case]:
        for dtype, length in itertools.product(RFFT, _LENGTHS):
            yield _case("CUSTOM:SignalRfft", dtype, (length,), (length + 2,), length)
        for dtype in RFFT:
            yield _case("CUSTOM:SignalRfft", dtype, (2, 3, 37), (2, 3, 66), 64)
            yield _case("CUSTOM:SignalRfft", dtype, (1,), (10,), 8)


class Irfft(_Fourier):
    """The signal of a spectrum as RFFT gives it; integers come out divided by fft_length a second time."""

    names = ("CUSTOM:SignalIrfft",)
    kernels = tuple(IRFFT.values())

    def check(self, view: View) -> None:
        _, size, points, _, out_size = self.check_rows(view)
        audio.need_count(view, "input's row", size, 2 * (points + 1))
        audio.need_count(view, "output's row", out_size, 2 * points)

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(), view.output()
        rows, _ = audio.rows_of(view, x.shape, "input")
        points = view.option("fft_length") // 2
        args = {"rows": rows, "length": 2 * points, "points": points, "radices": _padded(points)}
        tables = [low.constant(table) for table in _tables(points, x.dtype, -1.0)]
        scratch = low.scratch(2 * points * x.dtype.bytes)
        low.step(IRFFT[x.dtype], args, [low.value(x), low.value(y), *tables, scratch])

    def cases(self) -> Iterator[Case]:
        for dtype, length in itertools.product(IRFFT, _LENGTHS):
            yield _case("CUSTOM:SignalIrfft", dtype, (length + 2,), (length,), length)
        for dtype in IRFFT:
            yield _case("CUSTOM:SignalIrfft", dtype, (2, 3, 66), (2, 3, 64), 64)


def _radices(points: int) -> list[int] | None:
    """The radices of the stages, outermost first: fours, then what is left; None where a prime above 5 is."""
    radices = []
    for radix in (4, 2, 3, 5):
        while points % radix == 0 and points > 1:
            radices.append(radix)
            points //= radix
    return radices if points == 1 and 0 < len(radices) <= STAGES else None


def _padded(points: int) -> list[int]:
    radices = _radices(points)
    assert radices is not None
    return radices + [0] * (STAGES - len(radices))


def _tables(points: int, dtype: DType, sign: float) -> tuple[Array, Array]:
    """(twiddles, turns), each [n][2]: cosine and sine of angles that KISS FFT computes in float64 just so."""
    radices = _radices(points)
    assert radices is not None
    used = points - points // max(radices)
    twiddles = [sign * (-2 * math.pi * i / points) for i in range(used)]
    turns = [sign * (-math.pi * ((i + 1) / points + 0.5)) for i in range(points // 2)]
    number: Callable[[float], float] = float
    if dtype is not DType.FLOAT32:
        most = np.iinfo(dtype.numpy).max

        def number(x: float) -> float:
            return math.floor(0.5 + most * x)

    pairs = [
        np.array([(number(math.cos(angle)), number(math.sin(angle))) for angle in angles], dtype.numpy)
        for angles in (twiddles, turns)
    ]
    return pairs[0], pairs[1]


_LENGTHS = (4, 6, 8, 10, 16, 18, 24, 50, 120, 512)


def _case(op: str, dtype: DType, before: tuple[int, ...], after: tuple[int, ...], length: int) -> Case:
    g = CaseGraph()
    x, y = g.input(before, dtype), g.output(after, dtype)
    rng = np.random.default_rng(length)
    values: list[tuple[Array, ...]] = []
    for size in (100, 1000, 32767):
        if dtype is DType.FLOAT32:
            values.append(((rng.normal(size=before) * size).astype(np.float32),))
        else:
            size <<= 0 if dtype is DType.INT16 else 14
            values.append((rng.integers(-size, size, before, endpoint=True).astype(dtype.numpy),))
    values.append((np.full(before, 32767).astype(dtype.numpy),))
    values.append((np.full(before, -32768).astype(dtype.numpy),))
    name = f"{dtype.suffix}-{'x'.join(map(str, before))}-{length}"
    return g.case(name, op, [x], [y], {"T": audio.TYPE_CODES[dtype], "fft_length": length}, values)


OPS: list[Op] = [Rfft(), Irfft()]
