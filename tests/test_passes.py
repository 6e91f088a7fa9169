"""Passes: what they make of a graph, what they leave alone, and that not one bit of the results changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sdk.graph import Array, DType, Graph, Node
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import lower
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.oracle import Oracle
from sdk.passes import fuse_activations, fuse_padding, remove_identities, run_all
from sdk.verify import verify
from sdk.write import write

Pass = Callable[[Graph, Any], Graph]
SCALE = {DType.INT8: 0.05, DType.UINT8: 0.05, DType.INT16: 0.001}
ZERO = {DType.INT8: -7, DType.UINT8: 121}


@dataclass
class Chain:
    """A graph that grows node by node from one input; `dtype` is the type of all its tensors."""

    shape: Sequence[int]
    dtype: DType = DType.INT8
    scale: float | None = None
    g: CaseGraph = field(default_factory=CaseGraph)
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scale = self.scale or SCALE.get(self.dtype)
        self.last = self.g.input(self.shape, self.dtype, self.scale, ZERO.get(self.dtype, 0))

    def tensor(self, shape: Sequence[int], *, scale: float | None = None, dtype: DType | None = None) -> int:
        dtype = dtype or self.dtype
        scale = scale or (self.scale if dtype is self.dtype else SCALE.get(dtype))
        return self.g.tensor(shape, dtype, scale, ZERO.get(dtype, 0))

    def numbers(self, *values: Any) -> int:
        return self.g.constant(np.array(values), DType.INT32)

    def add(self, op: str, y: int, *more: int, **options: Any) -> int:
        """Adds the node y = op(last, *more)."""
        self.nodes.append(Node(op, (self.last, *more), (y,), options, len(self.nodes)))
        self.last = y
        return y

    def pad(self, *pads: tuple[int, int], value: int | None = None) -> int:
        before = self.g.tensors[self.last].shape
        y = self.tensor([n + sum(pad) for n, pad in zip(before, pads, strict=True)])
        more = [self.numbers(*pads)]
        if value is not None:
            more.append(self.g.constant(np.array([value]), self.dtype, self.scale, ZERO.get(self.dtype, 0)))
        return self.add("PAD" if value is None else "PADV2", y, *more)

    def conv(
        self, kernel: Sequence[int], padding: int, stride: int = 1, dilation: int = 1, *, depth: bool = False
    ) -> int:
        n, height, width, channels = self.g.tensors[self.last].shape
        shape = (1, *kernel, channels) if depth else (4, *kernel, channels)
        weights, bias = self.weights(shape), self.bias(shape[3 if depth else 0])
        reach = [(k - 1) * dilation + (1 if padding else 0) for k in kernel]
        size = [-(-(n - r + (1 if padding else 0)) // stride) for n, r in zip((height, width), reach, strict=True)]
        size = size if padding else [-(-n // stride) for n in (height, width)]
        options = {"padding": padding, "stride_h": stride, "stride_w": stride, "fused_activation_function": 0}
        options |= {"dilation_h_factor": dilation, "dilation_w_factor": dilation}
        options |= {"depth_multiplier": 1} if depth else {}
        y = self.tensor((n, *size, shape[3] if depth else 4))
        return self.add("DEPTHWISE_CONV_2D" if depth else "CONV_2D", y, weights, bias, **options)

    def weights(self, shape: Sequence[int]) -> int:
        data = np.random.default_rng(1).integers(-127, 128, shape)
        if self.dtype is DType.FLOAT32:
            return self.g.constant(data / 127, DType.FLOAT32)
        if self.dtype is DType.UINT8:
            return self.g.constant(data + 128, DType.UINT8, 0.01, 120)
        return self.g.constant(data, DType.INT8, 0.01)

    def bias(self, count: int) -> int:
        data = np.arange(count) * 100 - 150
        if self.dtype is DType.FLOAT32:
            return self.g.constant(data / 100, DType.FLOAT32)
        assert self.scale is not None
        return self.g.constant(data, DType.INT64 if self.dtype is DType.INT16 else DType.INT32, self.scale * 0.01)

    def graph(self, *outputs: int) -> Graph:
        self.g.output_ids += outputs or (self.last,)
        return self.g.case_of(self.nodes, "chain").graph


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def inputs_of(graph: Graph) -> list[tuple[Array, ...]]:
    rng = np.random.default_rng(0)
    tensor = graph.tensor(graph.inputs[0])
    if tensor.dtype is DType.FLOAT32:
        return [(rng.normal(size=tensor.shape).astype(np.float32),) for _ in range(3)]
    limits = np.iinfo(tensor.dtype.numpy)
    return [
        (rng.integers(limits.min, limits.max, tensor.shape, endpoint=True).astype(tensor.dtype.numpy),)
        for _ in range(3)
    ]


def assert_same(graph: Graph, passed: Graph, host: Device) -> None:
    """`passed`, lowered, gives on the device what the oracle makes of `graph`."""
    lowered = lower(passed)
    host.load(lowered.block)
    with Oracle(write(graph)) as oracle:
        verdict = verify(host, lowered, oracle, inputs_of(graph))
    assert verdict.ok, verdict.first_difference


def after(graph: Graph, run: Pass) -> Graph:
    """The graph as it is loaded from a file, after one pass."""
    passed = run(load_bytes(write(graph)), registry())
    passed.check()
    return passed


EDGES = (((0, 0), (1, 1), (1, 1), (0, 0)), ((0, 0), (0, 1), (0, 1), (0, 0)), ((0, 0), (3, 0), (1, 4), (0, 0)))


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT16, DType.FLOAT32])
@pytest.mark.parametrize("depth", [False, True], ids=["conv", "depthwise"])
@pytest.mark.parametrize(("padding", "stride", "dilation"), [(1, 1, 1), (1, 2, 1), (0, 2, 1), (0, 1, 2), (1, 1, 2)])
def test_pads_become_the_padding_of_convolutions(
    dtype: DType, depth: bool, padding: int, stride: int, dilation: int, host: Device
) -> None:
    for edges in EDGES:
        chain = Chain((1, 6, 5, 3), dtype)
        chain.pad(*edges)
        chain.conv((3, 2), padding, stride, dilation, depth=depth)
        graph = chain.graph()
        fused = after(graph, fuse_padding.run)
        assert [node.options.get("explicit_padding") is not None for node in fused.nodes if "CONV" in node.op] == [True]
        assert "PAD" not in ops(run_all(fused, registry()))
        assert_same(graph, fused, host)


def test_pads_of_uint8_models_become_padding(host: Device) -> None:
    chain = Chain((1, 6, 5, 3), DType.UINT8)
    chain.pad(*EDGES[0])
    chain.conv((3, 3), 1, 2)
    graph = chain.graph()
    passed = run_all(load_bytes(write(graph)), registry())
    assert ops(passed) == ["QUANTIZE", "CONV_2D", "QUANTIZE"]
    assert_same(graph, load_bytes(write(graph)), host)


def test_several_convolutions_share_a_pad() -> None:
    chain = Chain((1, 6, 5, 3))
    padded = chain.pad(*EDGES[0])
    first = chain.conv((3, 3), 1)
    chain.last = padded
    second = chain.conv((2, 2), 1, 2)
    assert ops(run_all(chain.graph(first, second), registry())) == ["CONV_2D", "CONV_2D"]


def kept_pads() -> dict[str, Chain]:
    """Pads that a convolution cannot take over."""
    chains = {name: Chain((1, 6, 5, 3)) for name in ("another value", "channels", "batches", "output", "other reader")}
    chains["another value"].pad(*EDGES[0], value=3)
    chains["channels"].pad((0, 0), (1, 1), (1, 1), (0, 1))
    chains["batches"].pad((0, 1), (1, 1), (1, 1), (0, 0))
    for name, chain in chains.items():
        padded = chain.last if chain.nodes else chain.pad(*EDGES[0])
        chain.conv((3, 3), 1)
        if name == "output":
            chain.g.output_ids.append(padded)
        if name == "other reader":
            convolved, chain.last = chain.last, padded
            chain.g.output_ids.append(chain.add("RESHAPE", chain.tensor((8 * 7 * 3,)), chain.numbers(-1), new_shape=()))
            chain.last = convolved
    return chains


@pytest.mark.parametrize("name", kept_pads())
def test_other_pads_stay(name: str, host: Device) -> None:
    graph = kept_pads()[name].graph()
    fused = after(graph, fuse_padding.run)
    assert any(op.startswith("PAD") for op in ops(fused))
    assert all("explicit_padding" not in node.options for node in fused.nodes)
    assert_same(graph, fused, host)


def test_a_pad_with_the_zero_point_is_a_pad_with_zero(host: Device) -> None:
    chain = Chain((1, 6, 5, 3))
    chain.pad(*EDGES[2], value=ZERO[DType.INT8])
    chain.conv((3, 3), 1)
    graph = chain.graph()
    fused = run_all(load_bytes(write(graph)), registry())
    assert ops(fused) == ["CONV_2D"]
    assert_same(graph, fused, host)


def test_nodes_that_change_nothing_go(host: Device) -> None:
    chain = Chain((2, 3, 4))
    chain.pad((0, 0), (0, 0), (0, 0))
    chain.add("RESHAPE", chain.tensor((2, 3, 4)), chain.numbers(2, 3, 4), new_shape=(2, 3, 4))
    chain.add("TRANSPOSE", chain.tensor((2, 3, 4)), chain.numbers(0, 1, 2))
    chain.add("QUANTIZE", chain.tensor((2, 3, 4)))
    chain.add("SLICE", chain.tensor((2, 3, 4)), chain.numbers(0, 0, 0), chain.numbers(2, -1, 4))
    chain.add("DEQUANTIZE", chain.tensor((2, 3, 4), dtype=DType.FLOAT32))
    chain.add("QUANTIZE", chain.tensor((2, 3, 4)))
    chain.add("TRANSPOSE", chain.tensor((4, 3, 2)), chain.numbers(2, 1, 0))
    graph = chain.graph()
    passed = run_all(load_bytes(write(graph)), registry())
    assert ops(passed) == ["TRANSPOSE"]
    assert_same(graph, passed, host)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT16])
def test_quantizing_what_was_dequantized_gives_it_back(dtype: DType) -> None:
    """Every stored value of every type, at scales of many sizes, in the arithmetic of the reference."""
    limits = np.iinfo(dtype.numpy)
    stored = np.arange(limits.min, limits.max + 1)
    for scale in np.float32([1e-9, 1e-4, 0.0123, 1 / 3, 1.0, 77.7, 3e7]):
        for zero in (0, limits.min, limits.max) if dtype is not DType.INT16 else (0,):
            real = ((stored - zero) * np.float64(scale)).astype(np.float32)
            assert np.array_equal(np.round(real / scale).astype(np.int64) + zero, stored)


def test_nodes_that_change_a_scale_or_make_an_output_stay() -> None:
    chain = Chain((2, 3))
    chain.add("QUANTIZE", chain.tensor((2, 3), scale=0.07))
    chain.add("RESHAPE", chain.tensor((2, 3), scale=0.07), chain.numbers(2, 3), new_shape=(2, 3))
    assert ops(after(chain.graph(), remove_identities.run)) == ["QUANTIZE", "RESHAPE"]


ACTIVATIONS = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D"])
def test_activations_join_the_node_before_them(op: str, dtype: DType, activation: str, host: Device) -> None:
    chain = Chain((1, 4, 4, 3), dtype)
    window = {"padding": 1, "stride_h": 1, "stride_w": 1, "filter_height": 2, "filter_width": 2}
    if op == "ADD":
        chain.add(op, chain.tensor((1, 4, 4, 3)), chain.last, fused_activation_function=0, pot_scale_int16=False)
    elif op == "MAX_POOL_2D":
        chain.add(op, chain.tensor((1, 3, 3, 3)), **window, fused_activation_function=0)
    else:
        chain.conv((2, 2), 1, depth=op == "DEPTHWISE_CONV_2D")
    chain.add(activation, chain.tensor(chain.g.tensors[chain.last].shape))
    graph = chain.graph()
    fused = after(graph, fuse_activations.run)
    assert [(node.op, node.options["fused_activation_function"]) for node in fused.nodes] == [
        (op, ACTIVATIONS[activation])
    ]
    assert_same(graph, fused, host)


def kept_activations() -> dict[str, Chain]:
    """Activations that the node before cannot take over."""
    chains = {name: Chain((1, 4, 4, 3)) for name in ("another scale", "output", "other reader", "fused", "other op")}
    for name, chain in chains.items():
        if name == "other op":
            chain.pad((0, 0), (1, 0), (0, 0), (0, 0))
        else:
            chain.conv((2, 2), 1)
        before, shape = chain.last, chain.g.tensors[chain.last].shape
        chain.add("RELU", chain.tensor(shape, scale=0.03 if name == "another scale" else None))
        if name == "output":
            chain.g.output_ids.append(before)
        if name == "other reader":
            chain.add("ADD", chain.tensor(shape), before, fused_activation_function=0, pot_scale_int16=False)
        if name == "fused":
            chain.nodes[0] = Node(
                "CONV_2D", chain.nodes[0].inputs, (before,), {**chain.nodes[0].options, "fused_activation_function": 3}
            )
    return chains


@pytest.mark.parametrize("name", kept_activations())
def test_other_activations_stay(name: str) -> None:
    assert "RELU" in ops(after(kept_activations()[name].graph(), fuse_activations.run))
