"""SignalFilterBank and what follows it in an audio front end: SquareRoot, SpectralSubtraction, PCAN, Log.

All are fixed-point and keep tflite-micro's arithmetic; tables are made or repacked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import audio
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Field, Struct, fields

S16, S32, U32, U64 = DType.INT16, DType.INT32, DType.UINT32, DType.UINT64

# bands: channels + 1; weights: pairs of them, for all bins of all bands
FILTER_BANK_ARGS = Struct("ml_filter_bank_args", fields("I", "bins", "weights", "bands"))
SQUARE_ROOT_ARGS = Struct("ml_square_root_args", fields("I", "count"))
SUBTRACTION_ARGS = Struct(
    "ml_spectral_subtraction_args",
    (
        *fields("I", "count"),
        Field("smoothing", "I", 2),  # of even channels, and of odd ones
        Field("keeping", "I", 2),  # 1 - smoothing
        *fields("I", "least", "clamping", "smoothing_bits", "fraction"),
    ),
)
PCAN_ARGS = Struct("ml_pcan_args", fields("I", "count", "shift"))
LOG_ARGS = Struct("ml_filter_bank_log_args", fields("I", "count", "correction_bits", "scale"))

SOURCE = "filter_bank.c"
FILTER_BANK = Kernel(
    "filter_bank",
    279,
    SOURCE,
    FILTER_BANK_ARGS,
    (read("input", U32), read("weights", S16), read("bands", DType.UINT16), write("output", U64)),
)
SQUARE_ROOT = Kernel(
    "square_root_u64",
    280,
    SOURCE,
    SQUARE_ROOT_ARGS,
    (read("input", U64), read("scale_bits", S32), write("output", U32)),
)
SUBTRACTION = Kernel(
    "spectral_subtraction",
    281,
    SOURCE,
    SUBTRACTION_ARGS,
    (read("input", U32), write("output", U32), write("noise", U32)),
)
PCAN = Kernel(
    "pcan", 282, SOURCE, PCAN_ARGS, (read("input", U32), read("noise", U32), read("gains", S16), write("output", U32))
)
LOG = Kernel(
    "filter_bank_log", 283, SOURCE, LOG_ARGS, (read("input", U32), read("table", DType.UINT16), write("output", S16))
)
GAINS = 125  # numbers of PCAN's table
LOG_SEGMENTS = 128


class FilterBank(Op):
    """Sums of energies by weights, in bands that overlap by halves."""

    names = ("CUSTOM:SignalFilterBank",)
    kernels = (FILTER_BANK,)
    types = ("uint32 to uint64, weights of int16",)
    limits = "weights, starts and widths are constants"

    def check(self, view: View) -> None:
        audio.need_types(view, [U32, *[S16] * 5], [U64])
        channels = audio.option(view, "num_channels", 1, (1 << 15) - 1)
        audio.need_count(view, "output", view.output().elements, channels)
        audio.need_count(view, "unweights", view.input(2).elements, view.input(1).elements)
        for index in (3, 4, 5):
            audio.need_count(view, f"input {index}", view.input(index).elements, channels + 1)
        self._bands(view)

    def _bands(self, view: View) -> list[tuple[int, int, int]]:
        """(first bin, first weight, width) of each band. ModelError where one lies outside."""
        starts, weights, widths = (view.constant(index).reshape(-1).tolist() for index in (3, 4, 5))
        bands = [(start, weight, max(width, 0)) for start, weight, width in zip(starts, weights, widths, strict=True)]
        for start, weight, width in bands:
            inside = 0 <= start <= view.input(0).elements - width and 0 <= weight <= view.input(1).elements - width
            view.need(inside or width == 0, f"a band of {width} bins from {start}, weights from {weight}, lies outside")
        return bands

    def macs(self, view: View) -> int:
        return 2 * sum(width for _, _, width in self._bands(view))

    def lower(self, view: View, low: Lowering) -> None:
        bands = self._bands(view)
        pairs = np.stack([view.constant(1).reshape(-1), view.constant(2).reshape(-1)], axis=-1)
        packed = np.concatenate([pairs[weight : weight + width] for _, weight, width in bands])
        spans = np.array([(start if width else 0, width) for start, _, width in bands], np.uint16)
        x = view.input(0)
        args = {"bins": x.elements, "weights": len(packed), "bands": len(bands)}
        # One instruction loads a pair.
        values = [low.value(x), low.constant(packed, 4), low.constant(spans, 4), low.value(view.output())]
        low.step(FILTER_BANK, args, values)

    def cases(self) -> Iterator[Case]:
        for channels, bins in ((1, 1), (1, 9), (3, 17), (40, 257)):
            yield _filter_bank_case(f"{channels}-{bins}", channels, bins, 0, 4096)
        yield _filter_bank_case("negative", 3, 17, -32768, 32767)


class SquareRoot(Op):
    """The square root, shifted right by as many bits as FFT_AUTO_SCALE has shifted left."""

    names = ("CUSTOM:SignalFilterBankSquareRoot",)
    kernels = (SQUARE_ROOT,)
    types = ("uint64 to uint32",)

    def check(self, view: View) -> None:
        audio.need_types(view, [U64, S32], [U32])
        audio.need_count(view, "scale", view.input(1).elements, 1)
        audio.need_count(view, "output", view.output().elements, view.input(0).elements)

    def lower(self, view: View, low: Lowering) -> None:
        values = [low.value(tensor) for tensor in (view.input(0), view.input(1), view.output())]
        low.step(SQUARE_ROOT, {"count": view.output().elements}, values, in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        edges = [0, 1, 2, 3, 4, 6, 7, 12, 13, (1 << 32) - 1, 1 << 32, (1 << 64) - 1, 65535 * 65535, 65535 * 65536]
        edges += [65535 * 65536 + 1, (1 << 63) + 5, ((1 << 32) - 1) ** 2, (1 << 32) * ((1 << 32) - 1) + 1]
        rng = np.random.default_rng(0)
        edges += [int(rng.integers(1 << 62)) >> shift for shift in range(62)]
        for count, bits in ((1, 0), (len(edges), 0), (len(edges), 7), (len(edges), 15)):
            g = CaseGraph()
            x, scale, y = g.input((count,), U64), g.input((), S32), g.output((count,), U32)
            values = [(np.array(edges[:count], np.uint64), np.array(bits, np.int32))]
            yield g.case(f"{count}-bits{bits}", "CUSTOM:SignalFilterBankSquareRoot", [x, scale], [y], values=values)


class SpectralSubtraction(Op):
    """The energies without what is always there: an estimate of the noise that follows them slowly, and is state."""

    names = ("CUSTOM:SignalFilterBankSpectralSubtraction",)
    kernels = (SUBTRACTION,)
    types = ("uint32",)

    def check(self, view: View) -> None:
        audio.need_types(view, [U32], [U32, U32])
        channels = audio.option(view, "num_channels", 1)
        for what, tensor in (("input", view.input()), ("output", view.output()), ("estimate", view.output(1))):
            audio.need_count(view, what, tensor.elements, channels)
        self._args(view)

    def _args(self, view: View) -> Mapping[str, object]:
        def option(name: str) -> int:
            return audio.option(view, name)

        return {
            "count": option("num_channels"),
            "smoothing": (option("smoothing"), option("alternate_smoothing")),
            "keeping": (option("one_minus_smoothing"), option("alternate_one_minus_smoothing")),
            "least": option("min_signal_remaining"),
            "clamping": int(option("clamping") != 0),
            "smoothing_bits": audio.option(view, "smoothing_bits", 0, 31),
            "fraction": audio.option(view, "spectral_subtraction_bits", 0, 63),
        }

    def lower(self, view: View, low: Lowering) -> None:
        x, y, noise = view.input(), view.output(0), view.output(1)
        # The second output is the estimate as it now is: the state itself.
        low.alias(noise, low.state(noise.bytes))
        low.step(SUBTRACTION, self._args(view), [low.value(tensor) for tensor in (x, y, noise)], in_place=[(0, 1)])

    def cases(self) -> Iterator[Case]:
        for channels in (1, 2, 7, 40):
            for clamping in (False, True):
                yield _subtraction_case(channels, clamping, 10, 14)
        yield _subtraction_case(5, True, 0, 0)
        yield _subtraction_case(5, False, 31, 40)


class Pcan(Op):
    """Per-channel amplitude normalization: a gain by the estimate of the noise, looked up, and a soft threshold."""

    names = ("CUSTOM:SignalPCAN",)
    kernels = (PCAN,)
    types = ("uint32, table of int16",)

    def check(self, view: View) -> None:
        audio.need_types(view, [U32, U32, S16], [U32])
        count = view.input(0).elements
        audio.need_count(view, "estimate", view.input(1).elements, count)
        audio.need_count(view, "output", view.output().elements, count)
        gains = view.input(2).elements
        view.need(gains >= GAINS, f"its table has {gains} elements, fewer than {GAINS}")
        audio.option(view, "snr_shift", 0, 63)

    def lower(self, view: View, low: Lowering) -> None:
        values = [low.value(tensor) for tensor in (*view.inputs, view.output())]
        args = {"count": view.output().elements, "shift": view.option("snr_shift")}
        low.step(PCAN, args, values, in_place=[(0, 3)])

    def cases(self) -> Iterator[Case]:
        rng = np.random.default_rng(0)
        smooth = np.sort(rng.integers(0, 32767, GAINS))[::-1]
        for name, gains in (("smooth", smooth), ("any", rng.integers(-1000, 1000, GAINS))):
            for count, shift in ((1, 6), (40, 6), (97, 0), (97, 33)):
                g = CaseGraph()
                x, noise = g.input((count,), U32), g.input((count,), U32)
                table = g.constant(gains, S16)
                y = g.output((count,), U32)
                values = [(_uints(rng, count), _uints(rng, count)) for _ in range(3)]
                yield g.case(
                    f"{name}-{count}-shift{shift}",
                    "CUSTOM:SignalPCAN",
                    [x, noise, table],
                    [y],
                    {"snr_shift": shift},
                    values,
                )


class Log(Op):
    """The natural logarithm times output_scale, of the input shifted left by input_correction_bits."""

    names = ("CUSTOM:SignalFilterBankLog",)
    kernels = (LOG,)
    types = ("uint32 to int16",)

    def check(self, view: View) -> None:
        audio.need_types(view, [U32], [S16])
        audio.need_count(view, "output", view.output().elements, view.input().elements)
        audio.option(view, "input_correction_bits", 0, 31)
        audio.option(view, "output_scale")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(), view.output()
        correction, scale = view.option("input_correction_bits"), view.option("output_scale")
        args = {"count": x.elements, "correction_bits": correction, "scale": scale}
        low.step(LOG, args, [low.value(x), low.constant(_log_table()), low.value(y)], in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        rng = np.random.default_rng(0)
        for count, bits, scale in ((1, 0, 1), (40, 3, 64), (97, 0, 1600), (97, 7, 65535), (97, 31, 64), (97, 0, 0)):
            g = CaseGraph()
            x, y = g.input((count,), U32), g.output((count,), S16)
            options = {"input_correction_bits": bits, "output_scale": scale}
            values = [(_uints(rng, count),) for _ in range(4)] + [(np.arange(count).astype(np.uint32),)]
            name = f"{count}-bits{bits}-scale{scale}"
            yield g.case(name, "CUSTOM:SignalFilterBankLog", [x], [y], options, values)


def _log_table() -> Array:
    """uint16: how far log2(1 + x) lies above x, with 16 bits of fraction, at the ends of equal segments from 0 to 1."""
    steps = [i / LOG_SEGMENTS for i in range(LOG_SEGMENTS + 1)]
    return np.array([math.floor(65536 * (math.log2(1 + x) - x) + 0.5) for x in steps], np.uint16)


def _uints(rng: np.random.Generator, count: int) -> Array:
    """uint32 of all sizes."""
    return (rng.integers(0, 1 << 32, count) >> rng.integers(0, 33, count)).astype(np.uint32)


def _filter_bank_case(name: str, channels: int, bins: int, least: int, most: int) -> Case:
    rng = np.random.default_rng(channels)
    edges = np.sort(rng.integers(0, bins + 1, channels + 2))
    widths = np.diff(edges)
    total = int(widths.sum()) + 1
    g = CaseGraph()
    x = g.input((bins,), U32)
    weights = [g.constant(rng.integers(least, most, total, endpoint=True), S16) for _ in range(2)]
    spans = [edges[:-1], np.cumsum(widths) - widths, widths]
    y = g.output((channels,), U64)
    values = [(_uints(rng, bins),) for _ in range(3)]
    operands = [x, *weights, *(g.constant(each, S16) for each in spans)]
    return g.case(name, "CUSTOM:SignalFilterBank", operands, [y], {"num_channels": channels}, values)


def _subtraction_case(channels: int, clamping: bool, smoothing_bits: int, fraction: int) -> Case:
    rng = np.random.default_rng(channels)
    options = {
        "alternate_one_minus_smoothing": 15401,
        "alternate_smoothing": 983,
        "clamping": clamping,
        "min_signal_remaining": 819,
        "num_channels": channels,
        "one_minus_smoothing": 15975,
        "smoothing": 409,
        "smoothing_bits": smoothing_bits,
        "spectral_subtraction_bits": fraction,
    }
    g = CaseGraph()
    x, y, noise = (make((channels,), U32) for make in (g.input, g.output, g.output))
    values = [((_uints(rng, channels) >> 12).astype(np.uint32),) for _ in range(6)] + [(_uints(rng, channels),)]
    name = f"{channels}-clamping{int(clamping)}-{smoothing_bits}-{fraction}"
    return g.case(name, "CUSTOM:SignalFilterBankSpectralSubtraction", [x], [y, noise], options, values)


OPS: list[Op] = [FilterBank(), SquareRoot(), SpectralSubtraction(), Pcan(), Log()]
