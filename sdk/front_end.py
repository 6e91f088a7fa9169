"""The front end of a model that takes features of sound: one small program, the same on the host and on the device.

    graph = front_end(sound, spec)               # int16 [480] -> [1, 40] of the type of the model's input `spec`
    windows = stored_windows(sound, mono, spec)  # what the model's input holds, for a whole recording

It is made of tflite-micro's signal operators with the tables of its microfrontend, so that models which were trained on
that get what they know. Its logarithms are integers. They become real values, or what an integer input stores, by the
scale that is declared; the cosine transform of MFCC is a FULLY_CONNECTED in float32, added up in one order everywhere.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np

from sdk.errors import UsageError
from sdk.graph import Array, DType, Graph, Node, Quantization, Signature, Tensor
from sdk.load import load_bytes
from sdk.lower import Lowered, lower
from sdk.ops.audio import TYPE_CODES
from sdk.preprocess import Preprocessing
from sdk.program import Operand, Region, TensorSpec
from sdk.runtime.listener import FeatureStream
from sdk.runtime.tensors import Tensor as RuntimeTensor
from sdk.sound import Features, Sound
from sdk.target import Target

WINDOW_BITS, BAND_BITS = 12, 12  # of fraction in the weights of a window and of a band
LOG_SCALE = 64
# What is always there: an estimate follows the even and the odd bands by these shares; so much of a band remains.
SMOOTHING_BITS, FRACTION_BITS = 10, 14
EVEN, ODD, LEAST = 0.025, 0.06, 0.05
PCAN_STRENGTH, PCAN_OFFSET, PCAN_GAIN_BITS, PCAN_SNR_BITS = 0.95, 80.0, 21, 12


def front_end(sound: Sound, spec: TensorSpec) -> Graph:
    """From a window of samples to a row of what the input `spec` stores. UsageError if that or the declaration does not
    allow it."""
    if spec.dtype not in (DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16) or (
        spec.dtype is not DType.FLOAT32 and not spec.scale
    ):
        raise UsageError(
            f"features cannot be stored in the model's input '{spec.name}', {spec.dtype.numpy_name} without a scale",
            "Features are for inputs of float32, or quantized ones of int8, uint8 or int16.",
        )
    return _FrontEnd(sound).finished(spec)


@functools.lru_cache
def lowered_front_end(sound: Sound, spec: TensorSpec, target: Target | None = None) -> Lowered:
    """The program of `front_end`."""
    return lower(front_end(sound, spec), target or Target())


def program_for(sound: Sound, tensor: RuntimeTensor) -> bytes:
    """The same for an input as the runtime describes it."""
    dtype = next(each for each in DType if each.on_device and each.numpy == tensor.dtype)
    return lowered_front_end(sound, _row(dtype, tensor.scale, tensor.zero_point)).block


def program_of(model: bytes, declared: Preprocessing | None) -> bytes | None:
    """The same for a .tflite file; None if it takes no features."""
    if declared is None or declared.sound is None or declared.sound.features is None:
        return None
    graph = load_bytes(model)
    x = graph.tensor(graph.inputs[0])
    scale, zero_point = (x.scale, x.zero_point) if x.quantization else (0.0, 0)
    return lowered_front_end(declared.sound, _row(x.dtype, scale, zero_point)).block


def stored_windows(sound: Sound, mono: Array, spec: TensorSpec) -> Array:
    """[windows, rows, width] as the input `spec` stores them: all whole windows of `mono`, one after the other."""
    assert sound.features is not None
    row = _row(spec.dtype, spec.scale, spec.zero_point)
    with FeatureStream(sound.features, sound.rate_hz, lowered_front_end(sound, row).block) as stream:
        rows = stream.feed(mono)
    count = len(rows) // sound.rows
    return rows[: count * sound.rows].reshape(count, sound.rows, sound.features.width)


def feature_windows(sound: Sound, mono: Array) -> Array:
    """The real values."""
    return stored_windows(sound, mono, _row(DType.FLOAT32, 0.0, 0))


def _row(dtype: DType, scale: float, zero_point: int) -> TensorSpec:
    """Of an input, what the front end depends on."""
    return TensorSpec("features", (), dtype, scale, zero_point, Operand(Region.ARENA, 0, 0))


class _FrontEnd:
    """Adds operator after operator to a graph."""

    def __init__(self, sound: Sound) -> None:
        assert sound.features is not None
        self.sound, self.features = sound, sound.features
        self.tensors: dict[int, Tensor] = {}
        self.nodes: list[Node] = []

    def finished(self, spec: TensorSpec) -> Graph:
        samples, _ = self.features.samples(self.sound.rate_hz)
        x = self.tensor("samples", (samples,), DType.INT16)
        y = self.stored(self.logarithms(self.cleaned(self.bands(x))), spec)
        signature = Signature("serving_default", ("samples",), ("features",))
        return Graph("front_end", self.tensors, tuple(self.nodes), (x,), (y,), signature=signature)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: DType, scale: float = 0.0, zero_point: int = 0) -> int:
        index = len(self.tensors)
        quantization = Quantization((scale,), (zero_point,)) if scale else None
        self.tensors[index] = Tensor(index, name, shape, dtype, quantization, None, index)
        return index

    def constant(self, name: str, data: Array, dtype: DType) -> int:
        index = self.tensor(name, data.shape, dtype)
        self.tensors[index] = replace(self.tensors[index], data=data.astype(dtype.numpy))
        return index

    def node(self, op: str, inputs: tuple[int, ...], outputs: tuple[int, ...], **options: object) -> int:
        """Adds an operator; its first output."""
        self.nodes.append(Node(op, inputs, outputs, options, len(self.nodes)))
        return outputs[0]

    def signal(self, op: str, inputs: tuple[int, ...], outputs: tuple[int, ...], **options: object) -> int:
        return self.node(f"CUSTOM:Signal{op}", inputs, outputs, **options)

    def bands(self, x: int) -> int:
        """The strength of each band."""
        f, (size,) = self.features, self.tensors[x].shape
        bins = f.fft_length // 2 + 1
        starts, widths, weights = _bands(f, self.sound.rate_hz)
        window = self.constant("window", _window(size), DType.INT16)
        windowed = self.tensor("windowed", (size,), DType.INT16)
        self.signal("Window", (x, window), (windowed,), shift=WINDOW_BITS)
        scaled, bits = self.tensor("scaled", (size,), DType.INT16), self.tensor("bits", (), DType.INT32)
        self.signal("FftAutoScale", (windowed,), (scaled, bits))
        spectrum = self.tensor("spectrum", (2 * bins,), DType.INT16)
        self.signal("Rfft", (scaled,), (spectrum,), T=TYPE_CODES[DType.INT16], fft_length=f.fft_length)
        energy = self.tensor("energy", (bins,), DType.UINT32)
        first, last = int(starts[0]), int(starts[-1] + widths[-1])
        self.signal("Energy", (spectrum,), (energy,), start_index=first, end_index=last)
        tables = [np.stack([weights, 1 - weights]) * (1 << BAND_BITS), starts, np.cumsum(widths) - widths, widths]
        names = ("weights", "unweights", "starts", "weight_starts", "widths")
        rows = [*tables[0], *tables[1:]]
        constants = [self.constant(name, row, DType.INT16) for name, row in zip(names, rows, strict=True)]
        sums = self.tensor("sums", (f.bands,), DType.UINT64)
        self.signal("FilterBank", (energy, *constants), (sums,), num_channels=f.bands)
        return self.signal("FilterBankSquareRoot", (sums, bits), (self.strengths("strengths"),))

    def strengths(self, name: str) -> int:
        return self.tensor(name, (self.features.bands,), DType.UINT32)

    def cleaned(self, x: int) -> int:
        """The bands without what is always there, as far as that is declared."""
        if self.features.noise == "kept":
            return x
        y, noise = self.strengths("reduced"), self.strengths("noise")
        one = 1 << FRACTION_BITS
        even, odd, least = (int(share * one) for share in (EVEN, ODD, LEAST))
        self.signal(
            "FilterBankSpectralSubtraction",
            (x,),
            (y, noise),
            num_channels=self.features.bands,
            smoothing=even,
            one_minus_smoothing=one - even,
            alternate_smoothing=odd,
            alternate_one_minus_smoothing=one - odd,
            min_signal_remaining=least,
            clamping=False,
            smoothing_bits=SMOOTHING_BITS,
            spectral_subtraction_bits=FRACTION_BITS,
        )
        if self.features.noise == "reduced":
            return y
        correction = _correction_bits(self.features)
        gains = self.constant("gains", _gains(SMOOTHING_BITS - correction), DType.INT16)
        shift = PCAN_GAIN_BITS - correction - PCAN_SNR_BITS
        return self.signal("PCAN", (y, noise, gains), (self.strengths("normalized"),), snr_shift=shift)

    def logarithms(self, x: int) -> int:
        f = self.features
        logs = self.tensor("logarithms", (f.bands,), DType.INT16, f.scale)
        self.signal("FilterBankLog", (x,), (logs,), input_correction_bits=_correction_bits(f), output_scale=LOG_SCALE)
        y = self.tensor("rows", (1, f.bands), DType.INT16, f.scale)
        shape = self.constant("shape", np.array([1, f.bands]), DType.INT32)
        return self.node("RESHAPE", (logs, shape), (y,))

    def stored(self, x: int, spec: TensorSpec) -> int:
        """As the input stores them. By way of float32: integers alone would be rounded twice."""
        f = self.features
        x = self.node("DEQUANTIZE", (x,), (self.tensor("real", (1, f.bands), DType.FLOAT32),))
        if f.offset:
            offset = self.constant("offset", np.array([f.offset]), DType.FLOAT32)
            y = self.tensor("moved", (1, f.bands), DType.FLOAT32)
            x = self.node("ADD", (x, offset), (y,), fused_activation_function=0)
        if f.kind == "mfcc":
            turned = self.tensor("coefficients", (1, f.width), DType.FLOAT32)
            cosines = self.constant("cosines", _cosines(f.bands, f.width), DType.FLOAT32)
            x = self.node("FULLY_CONNECTED", (x, cosines), (turned,), fused_activation_function=0)
        if spec.dtype is DType.FLOAT32:
            return x
        y = self.tensor("features", (1, f.width), spec.dtype, spec.scale, spec.zero_point)
        return self.node("QUANTIZE", (x,), (y,))


def _correction_bits(features: Features) -> int:
    """What the Fourier transform has divided by, and the weights of the bands have not multiplied with."""
    return features.fft_length.bit_length() - 1 - BAND_BITS // 2


def _window(size: int) -> Array:
    """Hann's."""
    angles = 2 * math.pi / size * (np.arange(size) + 0.5)
    weights: Array = np.floor((0.5 - 0.5 * np.cos(angles)) * (1 << WINDOW_BITS) + 0.5)
    return weights


def _mel(hz: Array) -> Array:
    mels: Array = np.float32(1127.0) * np.log1p(hz.astype(np.float32) / np.float32(700.0))
    return mels


def _bands(features: Features, rate_hz: int) -> tuple[Array, Array, Array]:
    """(first bin, number of bins) of each band and one more, and the weight of each bin. A bin counts for its band by
    its weight, and for the band before by the rest."""
    bin_hz = rate_hz / features.fft_length
    low, high = _mel(np.array([features.low_hz, features.high_hz]))
    edges = low + (high - low) / np.float32(features.bands + 1) * np.arange(features.bands + 2, dtype=np.float32)
    first = int(1.5 + features.low_hz / bin_hz)
    mels = _mel(np.arange(features.fft_length // 2 + 1) * np.float32(bin_hz))
    ends = np.searchsorted(mels, edges[1:], side="right").clip(min=first)
    starts = np.append(first, ends[:-1])
    widths = ends - starts
    silent = np.nonzero(widths[:-1] + widths[1:] == 0)[0]
    if len(silent):
        raise UsageError(
            f"band {silent[0]} of {features.bands} is so narrow that no frequency of an FFT of {features.fft_length} "
            f"at {rate_hz:,} Hz falls into it",
            "Declare fewer bands, a longer fft_length, or another low_hz and high_hz.",
        )
    bands = np.repeat(np.arange(features.bands + 1), widths)
    weights = (edges[bands + 1] - mels[first : first + len(bands)]) / (edges[bands + 1] - edges[bands])
    return starts, widths, weights


def _gains(input_bits: int) -> Array:
    """PCAN's gain for each strength of the noise: for 0, 1, and three numbers of a parabola for each power of two."""

    def gain(x: int) -> int:
        value = (1 << PCAN_GAIN_BITS) * (x / 2.0**input_bits + PCAN_OFFSET) ** -PCAN_STRENGTH
        return min(32767, int(value + 0.5))

    table = [gain(0), gain(1)]
    for power in range(1, 32):
        low, high = 1 << power, min(2 << power, (1 << 32) - 1)
        y = gain(low), gain(low + (low >> 1)), gain(high)
        bend = 4 * (y[1] - y[0]) - (y[2] - y[0])
        table += [y[0], bend, y[2] - y[0] - bend, 0]
    return np.array(table[:-1])


def _cosines(bands: int, coefficients: int) -> Array:
    """Of the cosine transform that tf.signal.mfccs_from_log_mel_spectrograms and HTK compute."""
    angles = math.pi / bands * (np.arange(bands) + 0.5) * np.arange(coefficients)[:, None]
    cosines: Array = np.cos(angles) * math.sqrt(2 / bands)
    return cosines
