"""Small models for the command line, and the command in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sdk.graph import DType, Graph
from sdk.ops.base import CaseGraph

FC_OPTIONS = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": False}
EMULATED = "mps2-an386"
needs_arm = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)


def dense(inputs: int = 16, outputs: int = 4, dtype: DType = DType.INT8) -> Graph:
    """One FULLY_CONNECTED."""
    rng = np.random.default_rng(inputs)
    g = CaseGraph()
    x = g.input((1, inputs), dtype, 0.05, 3)
    weights = g.constant(rng.integers(-127, 128, (outputs, inputs)), dtype, 0.01)
    y = g.output((1, outputs), dtype, 0.2, -5)
    return g.case("dense", "FULLY_CONNECTED", [x, weights], [y], FC_OPTIONS).graph


def mystery() -> Graph:
    """A sound model with an operator that nobody has."""
    g = CaseGraph()
    x = g.input((1, 16), DType.INT8, 0.05, 3)
    y = g.output((1, 16), DType.INT8, 0.05, 3)
    return g.case("mystery", "CUSTOM:Mystery", [x], [y]).graph


def sdk(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "sdk", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
