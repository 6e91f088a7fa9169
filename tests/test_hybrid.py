"""The grid that hybrid kernels quantize activations to: the device's integers against the reference's doubles."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from sdk.paths import FIRMWARE


class Grid(ctypes.Structure):
    """ml_grid of hybrid.h."""

    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int32))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """hybrid.c as a library of this machine."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc on this machine")
    library = tmp_path_factory.mktemp("hybrid") / "hybrid.so"
    includes = [f"-I{FIRMWARE / name}" for name in ("src", "gen", "include")]
    source = FIRMWARE / "src" / "kernels" / "hybrid.c"
    flags = ["-std=c11", "-O2", "-fwrapv", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, *includes, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.ml_quantize.restype = Grid
    return loaded


def device(kernels: ctypes.CDLL, low: float, high: float) -> tuple[np.float32, int]:
    values, quantized = np.array([low, high], np.float32), np.zeros(2, np.int8)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (values, quantized))
    first, second = pointers
    grid = kernels.ml_quantize(first, 2, True, second)
    return np.float32(grid.scale), grid.zero_point


def reference(low: float, high: float) -> tuple[np.float32, int]:
    """PortableAsymmetricQuantizeFloats: a Python float is a double."""
    low, high = min(0.0, float(np.float32(low))), max(0.0, float(np.float32(high)))
    scale = (high - low) / 255.0
    from_low, from_high = -128 - low / scale, 127 - high / scale
    real = from_low if 128 + abs(low / scale) < 127 + abs(high / scale) else from_high
    rounded = math.floor(abs(real) + 0.5) * (1 if real >= 0 else -1)
    return np.float32(scale), min(127, max(-128, rounded))


def spans() -> Iterator[tuple[float, float]]:
    """(low, high) of all sizes, symmetric ones, far apart ones, and ones whose zero point is a half before rounding."""
    rng = np.random.default_rng(0)
    for x, y in rng.lognormal(0.0, 5.0, (2000, 2)):
        yield from ((-x, y), (-x, x), (-x, 0.0), (0.0, x), (-x, x * 2.0 ** -rng.integers(20, 60)))
    for _ in range(6000):
        halves = 2 * int(rng.integers(0, 255)) + 1
        common = math.gcd(halves, 510)
        low, high = halves // common, (510 - halves) // common
        factor = int(rng.integers(1, (1 << 24) // max(low, high))) * 2.0 ** rng.integers(-40, 20)
        yield -low * factor, high * factor


def test_the_grid_is_the_reference_s(kernels: ctypes.CDLL) -> None:
    cases = list(spans())
    differ = [span for span in cases if device(kernels, *span) != reference(*span)]
    assert len(cases) > 10000
    assert differ == []
