"""Removing channels that do not depend on the input: no bit changes, and what can go goes."""

from __future__ import annotations

import numpy as np
import pytest

from sdk.fixed_point import requantize
from sdk.graph import Array, DType, Graph, Node
from sdk.link.device import Device
from sdk.lower import lower
from sdk.numerics import convolution_multipliers
from sdk.ops import registry
from sdk.ops.base import CaseGraph, View
from sdk.ops.convolution import SAME, VALID
from sdk.oracle import Oracle
from sdk.passes import dead_channels
from sdk.verify import verify
from sdk.write import write


class Net:
    """A chain of quantized layers with some filters set to zero."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(seed)
        self.g = CaseGraph()
        self.nodes: list[Node] = []
        self.shape = shape
        self.last = self.g.input(shape, DType.INT8, 0.05, int(self.rng.integers(-128, 128)))

    def conv(self, outputs: int, k: int, padding: int, stride: int, dead: float, *, depthwise: bool = False) -> None:
        _, height, width, inputs = self.shape
        outputs = inputs if depthwise else outputs
        data = self.rng.integers(-127, 128, (1, k, k, inputs) if depthwise else (outputs, k, k, inputs))
        zero = self.rng.random(outputs) < dead
        if depthwise:
            data[..., zero] = 0
        else:
            data[zero] = 0
            data[..., self.rng.random(inputs) < dead / 2] = 0  # inputs that nothing reads
        scales = self.rng.uniform(0.001, 0.01, outputs)
        weights = self.g.constant(data, DType.INT8, list(scales), axis=3 if depthwise else 0)
        bias = self.g.constant(self.rng.integers(-4000, 4000, outputs), DType.INT32, list(scales * 0.05))
        size = [-(-side // stride) if padding == SAME else -(-(side - k + 1) // stride) for side in (height, width)]
        self.shape = (1, *size, outputs)
        y = self.g.tensor(self.shape, DType.INT8, 0.05, int(self.rng.choice([-128, -5, 30])))
        options = {
            "padding": padding,
            "stride_w": stride,
            "stride_h": stride,
            "dilation_w_factor": 1,
            "dilation_h_factor": 1,
            "fused_activation_function": int(self.rng.choice([0, 1, 3])),
        }
        options |= {"depth_multiplier": 1} if depthwise else {}
        op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        self.nodes.append(Node(op, (self.last, weights, bias), (y,), options, len(self.nodes)))
        self.last = y

    def finish(self) -> Graph:
        """Average pooling over the whole image, and a fully connected layer."""
        _, height, width, channels = self.shape
        tensor = self.g.tensors[self.last]
        pooled = self.g.tensor((1, 1, 1, channels), DType.INT8, tensor.scale, tensor.zero_point)
        options = {"padding": VALID, "stride_w": 1, "stride_h": 1, "filter_width": width, "filter_height": height}
        self.nodes.append(Node("AVERAGE_POOL_2D", (self.last,), (pooled,), {**options, "fused_activation_function": 0}))
        flat = self.g.tensor((1, channels), DType.INT8, tensor.scale, tensor.zero_point)
        shape = self.g.constant(np.array([1, channels]), DType.INT32)
        self.nodes.append(Node("RESHAPE", (pooled, shape), (flat,), {"new_shape": (1, channels)}))
        weights = self.g.constant(self.rng.integers(-127, 128, (3, channels)), DType.INT8, 0.01)
        y = self.g.output((1, 3), DType.INT8, 0.05, 3)
        self.nodes.append(Node("FULLY_CONNECTED", (flat, weights), (y,), {"fused_activation_function": 0}))
        return self.g.case_of(self.nodes, "net").graph


def random_net(seed: int) -> Graph:
    rng = np.random.default_rng(seed + 1000)
    net = Net(seed, (1, int(rng.integers(5, 9)), int(rng.integers(5, 9)), int(rng.integers(1, 5))))
    net.conv(8, 3, int(rng.choice([SAME, VALID])), int(rng.choice([1, 2])), 0.5)
    net.conv(0, 3, SAME, 1, 0.4, depthwise=True)
    net.conv(12, 1, VALID, 1, 0.5)
    net.conv(0, 3, SAME, int(rng.choice([1, 2])), 0.5, depthwise=True)
    net.conv(10, int(rng.choice([1, 3])), SAME, 1, float(rng.choice([0.0, 0.6, 1.0])))
    return net.finish()


@pytest.mark.parametrize("seed", range(24))
def test_no_bit_changes(seed: int, host: Device) -> None:
    graph = random_net(seed)
    lowered = lower(graph)
    before = sum(registry().op(node).macs(View(graph, node)) for node in graph.nodes)
    assert lowered.macs < before
    rng = np.random.default_rng(seed)
    inputs: list[list[Array]] = [[rng.integers(-128, 128, graph.tensors[0].shape).astype(np.int8)] for _ in range(4)]
    host.load(lowered.block)
    with Oracle(write(graph)) as oracle:
        verdict = verify(host, lowered, oracle, inputs, layers=True)
    assert verdict.ok, verdict.first_difference


def test_nothing_dead_nothing_changes() -> None:
    net = Net(3, (1, 6, 6, 2))
    net.conv(4, 3, SAME, 1, 0.0)
    graph = net.finish()
    assert dead_channels.run(graph, registry()) is graph


def test_outputs_of_the_graph_keep_their_channels() -> None:
    net = Net(5, (1, 4, 4, 2))
    net.conv(6, 1, VALID, 1, 1.0)
    graph = Graph("g", {t.id: t for t in net.g.tensors}, tuple(net.nodes), tuple(net.g.input_ids), (net.last,))
    after = dead_channels.run(graph, registry())
    assert after.tensor(net.last).shape == graph.tensor(net.last).shape


def test_requantize_rounds_as_the_device_does(host: Device) -> None:
    """A QUANTIZE-free check: FULLY_CONNECTED with one weight of 0 shows requantize(bias) for many biases."""
    rng = np.random.default_rng(2)
    biases = np.concatenate([rng.integers(-(2**31), 2**31, 200), [0, 1, -1, 2**31 - 1, -(2**31)]])
    for scale in (1e-7, 3e-5, 0.013, 0.7):
        g = CaseGraph()
        x = g.input((1, 1), DType.INT8, 1.0, 0)
        weights = g.constant(np.zeros((len(biases), 1)), DType.INT8, 1.0)
        bias = g.constant(biases, DType.INT32, 1.0)
        y = g.output((1, len(biases)), DType.INT8, 1 / scale, 5)
        graph = g.case("q", "FULLY_CONNECTED", [x, weights, bias], [y], {"fused_activation_function": 0}).graph
        lowered = lower(graph)
        host.load(lowered.block)
        tensors = [graph.tensor(i) for i in (x, weights, y)]
        ((multiplier, shift),) = convolution_multipliers(*tensors, product_in_float32=True)
        wanted = np.clip(requantize(biases, multiplier, shift) + 5, -128, 127)
        np.testing.assert_array_equal(host.run([np.zeros((1, 1), np.int8)])[0][0], wanted)
