"""Write spikes.tflite: MEDIAN3, then a fully connected layer, on 50 samples of 3 channels.

python examples/custom_operator/make_model.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sdk.graph import DType, Node
from sdk.ops.base import CaseGraph
from sdk.write import write


def model() -> bytes:
    """The bytes of the model; weights are random but always the same."""
    rng = np.random.default_rng(1)
    g = CaseGraph()
    x = g.input((1, 50, 3), DType.INT8, 0.1, 4)
    smooth = g.tensor((1, 50, 3), DType.INT8, 0.1, 4)
    weights = g.constant(rng.integers(-127, 128, (4, 150)), DType.INT8, 0.01)
    bias = g.constant(rng.integers(-500, 500, 4), DType.INT32, 0.1 * 0.01)
    y = g.output((1, 4), DType.INT8, 0.5, -3)
    nodes = [
        Node("CUSTOM:Median3", (x,), (smooth,), {}, 0),
        Node("FULLY_CONNECTED", (smooth, weights, bias), (y,), {"fused_activation_function": 0}, 1),
    ]
    return write(g.case_of(nodes, "spikes").graph)


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("spikes.tflite")).write_bytes(model())
