"""How what a microphone hears becomes a model's input: raw samples, or rows of features.

    sound = Sound(15840, features=Features(noise="pcan"))    # 49 rows of 40 bands, as micro_speech takes them
    sound.mono(samples, 44100)                               # int16 [n] at 16 kHz, of int16 [n] or [n, channels]

Features are computed by one small program on the host and on the device (`sdk.front_end`), so that both get the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdk.errors import InputError, MissingToolError, UsageError

RATES_HZ = range(1000, 192001)
KINDS = ("log-mel", "mfcc")
NOISES = ("kept", "reduced", "pcan")
MAX_BANDS = 512
MAX_REAL = 1e9
FFT_LENGTHS = [1 << bits for bits in range(6, 16)]
Array = np.ndarray[Any, np.dtype[Any]]


def need(holds: bool, name: str, wanted: str) -> None:
    """UsageError unless the field `name` of a declaration is what it must be."""
    if not holds:
        raise wrong(name, wanted)


def wrong(name: str, wanted: str) -> UsageError:
    """What is said of a field of a declaration that is not as it must be."""
    return UsageError(f"the preprocessing is wrong: {name} must be {wanted}", "Declare it as docs/convert.md shows.")


@dataclass(frozen=True)
class Features:
    """A row of numbers for each `window_ms` of sound, one each `stride_ms`, of its spectrum from `low_hz` to `high_hz`.

    `kind` "log-mel": the logarithms of the strengths of `bands` triangles of equal width on the mel scale; "mfcc": the
    first `coefficients` of their cosine transform. `noise`: what is always there is "kept", or "reduced", or the bands
    are also brought to one loudness ("pcan"). A strength is the root of the weighted squares of the magnitudes of the
    Fourier transform of 16-bit samples, under Hann's window. Its logarithm is an integer, round(64 ln(strength)), and
    real = integer * scale + offset, before the cosine transform.
    """

    kind: str = "log-mel"
    window_ms: float = 30.0
    stride_ms: float = 20.0
    fft_length: int = 512
    low_hz: float = 125.0
    high_hz: float = 7500.0
    bands: int = 40
    coefficients: int = 0
    noise: str = "kept"
    scale: float = 10 / 256
    offset: float = 0.0

    def __post_init__(self) -> None:
        need(self.kind in KINDS, "kind", " or ".join(KINDS))
        need(self.noise in NOISES, "noise", ", ".join(NOISES))
        need(1 <= self.bands <= MAX_BANDS, "bands", f"1 to {MAX_BANDS}")
        if self.kind == "mfcc":
            need(1 <= self.coefficients <= self.bands, "coefficients", f"1 to {self.bands}, the number of bands")
        else:
            need(self.coefficients == 0, "coefficients", "left out: they are of mfcc")
        need(self.fft_length in FFT_LENGTHS, "fft_length", f"a power of two, {FFT_LENGTHS[0]} to {FFT_LENGTHS[-1]}")
        need(0 <= self.low_hz < self.high_hz < math.inf, "low_hz and high_hz", "a range of frequencies")
        need(
            0 < self.window_ms <= 10000 and 0 < self.stride_ms <= 10000, "window_ms and stride_ms", "above 0, to 10000"
        )
        need(1 / MAX_REAL <= self.scale <= MAX_REAL, "scale", f"{1 / MAX_REAL:g} to {MAX_REAL:g}")
        need(abs(self.offset) <= MAX_REAL, "offset", f"a number up to {MAX_REAL:g}")

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return self.coefficients if self.kind == "mfcc" else self.bands

    def samples(self, rate_hz: int) -> tuple[int, int]:
        """(those of a window, those of a stride)."""
        return round(self.window_ms * rate_hz / 1000), round(self.stride_ms * rate_hz / 1000)

    def span(self, rows: int, rate_hz: int) -> int:
        """Samples that so many rows are made of."""
        window, stride = self.samples(rate_hz)
        return window + (rows - 1) * stride


@dataclass(frozen=True)
class Sound:
    """Windows of `samples` samples of mono sound at `rate_hz`; real = sample / scale, of 16-bit samples, or the
    `features` of them."""

    samples: int
    rate_hz: int = 16000
    scale: float = 32768.0
    features: Features | None = None

    def __post_init__(self) -> None:
        need(1 <= self.samples <= 1 << 24, "samples", f"1 to {1 << 24}")
        need(self.rate_hz in RATES_HZ, "rate_hz", f"{RATES_HZ[0]} to {RATES_HZ[-1]}")
        need(math.isfinite(self.scale) and self.scale > 0, "scale", "a number above 0")
        if self.features is not None:
            self._check_features(self.features)

    def _check_features(self, features: Features) -> None:
        window, stride = features.samples(self.rate_hz)
        need(1 <= window <= features.fft_length, "fft_length", f"at least the {window} samples of a window")
        need(1 <= stride <= window, "stride_ms", "at least one sample, at most window_ms")
        need(2 * features.high_hz <= self.rate_hz, "high_hz", f"at most half of the rate, {self.rate_hz / 2:g}")
        whole = self.samples >= window and (self.samples - window) % stride == 0
        need(whole, "samples", f"{window} and a multiple of {stride}: the windows of the features")

    @property
    def rows(self) -> int:
        """Of features, in the model's input."""
        assert self.features is not None
        window, stride = self.features.samples(self.rate_hz)
        return (self.samples - window) // stride + 1

    @property
    def elements(self) -> int:
        """Numbers in the model's input."""
        return self.samples if self.features is None else self.rows * self.features.width

    def apply(self, samples: Array, rate_hz: int) -> Array:
        """float32 [windows, samples], or [windows, rows, width] of features, of int16 [n] or [n, channels]. The end is
        padded with silence to at least one window; what is left over beyond the last whole one is dropped."""
        if self.features is not None:
            try:
                from sdk.front_end import feature_windows
            except ImportError:  # a board: neither that module nor what it needs
                raise MissingToolError(
                    "features are computed by the whole SDK", "On a board: sdk.runtime.Listener."
                ) from None
            return feature_windows(self, self.mono(samples, rate_hz))
        mono = self._resampled(samples, rate_hz)
        count = len(mono) // self.samples
        return (mono[: count * self.samples].reshape(count, self.samples) / self.scale).astype(np.float32)

    def mono(self, samples: Array, rate_hz: int) -> Array:
        """int16 [n] at `rate_hz` of the declaration, padded to at least one window."""
        limits = np.iinfo(np.int16)
        return np.rint(self._resampled(samples, rate_hz)).clip(limits.min, limits.max).astype(np.int16)

    def _resampled(self, samples: Array, rate_hz: int) -> Array:
        if samples.dtype != np.int16 or samples.ndim not in (1, 2) or samples.size == 0:
            raise InputError(
                f"sound is int16 [samples] or [samples, channels], not {samples.dtype}{list(samples.shape)}"
            )
        if rate_hz not in RATES_HZ:
            raise InputError(
                f"the sound has a rate of {rate_hz:,} Hz", f"Give sound of {RATES_HZ[0]:,} to {RATES_HZ[-1]:,} Hz."
            )
        mono = samples.astype(np.float64) if samples.ndim == 1 else samples.mean(axis=1)
        mono = _at_rate(mono, rate_hz, self.rate_hz)
        return np.pad(mono, (0, max(0, self.samples - len(mono))))


def _at_rate(mono: Array, have_hz: int, want_hz: int) -> Array:
    """By way of the spectrum: what the new rate cannot carry is left out, nothing is folded over."""
    if have_hz == want_hz:
        return mono
    count = max(1, round(len(mono) * want_hz / have_hz))
    spectrum = np.fft.rfft(mono)[: count // 2 + 1]
    result: Array = np.fft.irfft(spectrum, count) * (count / len(mono))
    return result
