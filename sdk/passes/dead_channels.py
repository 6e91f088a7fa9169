"""Remove channels that do not depend on the input, with all that only they feed.

Trained networks hold filters whose weights are all zero: their output channel is the same plane whatever the input.
Such a plane is computed on the host, exactly as the kernels would, and what the next layer makes of it goes into that
layer's bias. Then the channel, its filter and the weights that read it go; and so do channels that nothing reads with a
weight other than zero.

A channel is kept where its contribution to the next layer differs from place to place (a plane that is not constant,
or a padded border beside one that is not zero), where an operator reads it that this pass does not know, and where the
graph's own inputs and outputs need it. int8 alone: float32 sums would be formed in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdk import fixed_point, numerics
from sdk.graph import Array, DType, Graph, Node, Quantization, Tensor
from sdk.ops.base import Registry, View
from sdk.ops.convolution import output_size

WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


@dataclass(frozen=True)
class _Layer:
    """A convolution as this pass sees it; FULLY_CONNECTED is one of a single place.

    `weights` [outputs, height, width, inputs] less their zero point, int64; a depthwise one has 1 for inputs, and its
    output o reads input o // multiplier.
    """

    node: Node
    x: Tensor
    y: Tensor
    stored: Tensor
    weights: Array
    bias: Array
    scales: list[tuple[int, int]]
    depthwise: bool

    @property
    def multiplier(self) -> int:
        return self.weights.shape[0] // self.x.shape[-1] if self.depthwise else 0

    def reads(self) -> Array:
        """bool [outputs, inputs]: which input channels an output reads with a weight other than zero."""
        used: Array = (self.weights != 0).any(axis=(1, 2))
        if not self.depthwise:
            return used
        table = np.zeros((self.weights.shape[0], self.x.shape[-1]), bool)
        outputs = np.arange(self.weights.shape[0])
        table[outputs, outputs // self.multiplier] = used[:, 0]
        return table


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` without channels that do not depend on its inputs."""
    layers = {node: layer for node in graph.nodes if (layer := _layer(View(graph, node))) is not None}
    planes: dict[int, Array] = {}
    for node in graph.nodes:
        plane = _plane(View(graph, node), layers.get(node), planes)
        if plane is not None:
            planes[node.outputs[0]] = plane
    if not any(_fixed(plane).any() for plane in planes.values()):
        return graph
    folds = {node: _foldable(layer, planes) for node, layer in layers.items()}
    return _rebuild(graph, layers, folds, _needed(graph, layers, folds))


def _layer(view: View) -> _Layer | None:
    """The node as a layer; None if it is another operator, or one that this pass leaves alone."""
    node = view.node
    if node.op not in (*WINDOWED, "FULLY_CONNECTED") or len(node.inputs) < 2 or "explicit_padding" in node.options:
        return None
    x, stored, y = view.input(0), view.input(1), view.output()
    bias = view.input(2) if view.has(2) else None
    constant = stored.data is not None and (bias is None or (bias.data is not None and bias.dtype is DType.INT32))
    if not constant or (x.dtype, stored.dtype, y.dtype) != (DType.INT8,) * 3 or stored.quantization is None:
        return None
    assert stored.data is not None
    legacy = stored.source_offset != 0
    zero = stored.quantization.zero_point[0]
    uses_zero = legacy or (node.op == "FULLY_CONNECTED" and not stored.quantization.per_channel)
    if (any(stored.quantization.zero_point) and not uses_zero) or 0 in (*x.shape, *stored.shape, *y.shape):
        return None
    data = stored.data.astype(np.int64) - zero
    depthwise = node.op == "DEPTHWISE_CONV_2D"
    if depthwise:
        data = np.moveaxis(data, 3, 0).reshape(data.shape[3], *data.shape[1:3], 1)
    elif node.op == "FULLY_CONNECTED":
        data = data[:, None, None, :]
        if x.shape[-1] != data.shape[3]:
            return None
    elif data.shape[3] != x.shape[3]:
        return None  # groups
    float32 = stored.source_offset != 0 or (node.op == "FULLY_CONNECTED" and not stored.quantization.per_channel)
    scales = numerics.convolution_multipliers(x, stored, y, product_in_float32=float32)
    if len(scales) == 1:
        scales = scales * len(data)
    start = np.zeros(len(data), np.int64) if bias is None or bias.data is None else bias.data.astype(np.int64)
    return _Layer(node, x, y, stored, data, start, scales, depthwise)


def _fixed(plane: Array) -> Array:
    """bool [channels]: which channels of a plane are known; unknown ones hold NaN."""
    return np.asarray(~np.isnan(plane).any(axis=(0, 1)))


def _plane(view: View, layer: _Layer | None, planes: Mapping[int, Array]) -> Array | None:
    """float64 [height, width, channels] of a node's output: the value of channels that are known, NaN of all others."""
    if layer is not None:
        return _layer_plane(layer, planes.get(layer.x.id))
    source = planes.get(view.node.inputs[0]) if view.node.inputs and view.node.inputs[0] is not None else None
    if source is None:
        return None
    if view.node.op in POOLS and (source == source[0, 0]).all(axis=(0, 1)).any():
        even = np.where((source == source[0, 0]).all(axis=(0, 1)), source[0, 0], np.nan)
        low, high = numerics.activation_range(view.option("fused_activation_function"), view.output())
        return np.broadcast_to(np.clip(even, low, high), (*view.output().shape[1:3], source.shape[2]))
    if view.node.op == "RESHAPE" and view.output().shape[-1] == source.shape[2] and source.shape[:2] == (1, 1):
        return source
    return None


def _layer_plane(layer: _Layer, source: Array | None) -> Array | None:
    channels = layer.x.shape[-1]
    known = np.zeros(channels, bool) if source is None else _fixed(source)
    fixed = ~(layer.reads() & ~known).any(axis=1)
    if not fixed.any():
        return None
    places = layer.x.shape[1:3] if layer.node.op in WINDOWED else (1, 1)
    x = np.zeros((*places, channels), np.int64)
    if source is not None:
        x[:, :, known] = source[:, :, known].astype(np.int64) - layer.x.zero_point
    sums = _convolve(layer, x) + layer.bias
    low, high = numerics.activation_range(layer.node.options.get("fused_activation_function", 0), layer.y)
    plane = np.full(sums.shape, np.nan)
    for o in np.flatnonzero(fixed):
        stored = fixed_point.requantize(sums[:, :, o], *layer.scales[o]) + layer.y.zero_point
        plane[:, :, o] = np.clip(stored, low, high)
    return plane


def _convolve(layer: _Layer, x: Array) -> Array:
    """int64 [height, width, outputs]: sums of products with `x` [height, width, inputs], which zeros surround."""
    node, (outputs, kernel_h, kernel_w, _) = layer.node, layer.weights.shape
    if node.op not in WINDOWED:
        return np.asarray(np.tensordot(x, layer.weights[:, 0, 0], axes=([2], [1])))
    padding, strides = node.options["padding"], (node.options["stride_h"], node.options["stride_w"])
    dilations = node.options.get("dilation_h_factor", 1), node.options.get("dilation_w_factor", 1)
    sizes = [
        output_size(padding, *each) for each in zip(x.shape[:2], (kernel_h, kernel_w), strides, dilations, strict=True)
    ]
    (out_h, pad_h), (out_w, pad_w) = sizes
    kernel = kernel_h, kernel_w
    reach = [(sizes[a][0] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 for a in (0, 1)]
    padded = np.zeros((max(reach[0], x.shape[0] + pad_h), max(reach[1], x.shape[1] + pad_w), x.shape[2]), np.int64)
    padded[pad_h : pad_h + x.shape[0], pad_w : pad_w + x.shape[1]] = x
    sums = np.zeros((out_h, out_w, outputs), np.int64)
    for i in range(kernel_h):
        for j in range(kernel_w):
            top, left = i * dilations[0], j * dilations[1]
            rows = slice(top, top + (out_h - 1) * strides[0] + 1, strides[0])
            columns = slice(left, left + (out_w - 1) * strides[1] + 1, strides[1])
            taps = padded[rows, columns]
            if layer.depthwise:
                sums += np.repeat(taps, layer.multiplier, axis=2) * layer.weights[:, i, j, 0]
            else:
                sums += np.tensordot(taps, layer.weights[:, i, j], axes=([2], [1]))
    return sums


def _foldable(layer: _Layer, planes: Mapping[int, Array]) -> Array:
    """int64 [inputs, outputs]: what each known input channel adds to each sum of the layer, where that is the same in
    every place; where it is not, the layer's inputs cannot be folded and the row is NaN (so float64)."""
    plane = planes.get(layer.x.id)
    table = np.full((layer.x.shape[-1], len(layer.bias)), np.nan)
    if plane is None:
        return table
    for channel in np.flatnonzero(_fixed(plane)):
        places = layer.x.shape[1:3] if layer.node.op in WINDOWED else (1, 1)
        x = np.zeros((*places, layer.x.shape[-1]), np.int64)
        x[:, :, channel] = plane[:, :, channel].astype(np.int64) - layer.x.zero_point
        sums = _convolve(layer, x)
        if (sums == sums[0, 0]).all():
            table[channel] = sums[0, 0]
    return table


def _needed(graph: Graph, layers: Mapping[Node, _Layer], folds: Mapping[Node, Array]) -> dict[int, Array]:
    """bool [channels] of each tensor that layers make or read: which channels must stay. The smallest such sets."""
    needed = {t.id: np.zeros(t.shape[-1], bool) for t in graph.tensors.values() if t.shape}
    whole: set[int | None] = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        if node not in layers and not _passes_channels(graph, node):
            whole.update((*node.inputs, *node.outputs))
    for tensor_id in whole.intersection(needed):
        assert tensor_id is not None
        needed[tensor_id][:] = True
    before = -1
    while (count := sum(int(each.sum()) for each in needed.values())) != before:
        before = count
        for node in reversed(graph.nodes):
            if node in layers:
                _need_of_layer(layers[node], folds[node], needed)
            elif _passes_channels(graph, node):
                assert node.inputs[0] is not None
                both = needed[node.inputs[0]] | needed[node.outputs[0]]
                needed[node.inputs[0]], needed[node.outputs[0]] = both, both.copy()
    return needed


def _passes_channels(graph: Graph, node: Node) -> bool:
    """Whether channel c of the node's output is made of channel c of its input alone."""
    if node.op not in (*POOLS, "RESHAPE") or node.inputs[0] is None:
        return False
    x, y = graph.tensor(node.inputs[0]), graph.tensor(node.outputs[0])
    same = bool(x.shape and y.shape and x.shape[-1] == y.shape[-1] and x.dtype is y.dtype is DType.INT8)
    return same and (node.op != "RESHAPE" or x.shape[:-1] == (1,) * (len(x.shape) - 1))


def _need_of_layer(layer: _Layer, fold: Array, needed: dict[int, Array]) -> None:
    x, y = layer.x.id, layer.y.id
    if not needed[y].any():
        needed[y][0] = True  # a tensor without channels would be no tensor
    outputs = needed[y]
    if layer.depthwise:
        groups = outputs.reshape(-1, layer.multiplier).any(axis=1)
        needed[x] = needed[x] | groups
        needed[y] = outputs | np.repeat(needed[x], layer.multiplier)
        return
    reads = layer.reads() & outputs[:, None]
    needed[x] = needed[x] | (reads.any(axis=0) & np.isnan(fold).any(axis=1))


def _rebuild(
    graph: Graph, layers: Mapping[Node, _Layer], folds: Mapping[Node, Array], needed: Mapping[int, Array]
) -> Graph:
    tensors: dict[int, Tensor] = {}
    nodes: list[Node] = []
    fresh = graph.fresh_id()
    for tensor_id, kept in needed.items():
        tensor = graph.tensor(tensor_id)
        if not kept.all() and tensor.data is None and kept.any():
            shape = (*tensor.shape[:-1], int(kept.sum()))
            tensors[tensor_id] = replace(tensor, shape=shape, source=None)
    for node in graph.nodes:
        layer = layers.get(node)
        if layer is None or not (layer.x.id in tensors or layer.y.id in tensors):
            if node.op == "RESHAPE" and node.outputs[0] in tensors:
                node = replace(node, inputs=node.inputs[:1], options={})
            nodes.append(node)
            continue
        made = _shrunk(layer, needed[layer.x.id], needed[layer.y.id], folds[node], fresh)
        tensors |= {tensor.id: tensor for tensor in made}
        nodes.append(replace(node, inputs=(layer.x.id, fresh, fresh + 1)))
        fresh += 2
    return graph.with_nodes(nodes, tensors.values())


def _shrunk(layer: _Layer, inputs: Array, outputs: Array, fold: Array, fresh: int) -> Sequence[Tensor]:
    """The weights and the bias, with ids `fresh` and the next, of a layer of the channels that stay."""
    gone = ~inputs
    bias = layer.bias
    if not layer.depthwise and gone.any():
        # A channel that goes without being known is read with no weight other than zero.
        bias = bias + np.nan_to_num(fold[gone]).sum(axis=0).astype(np.int64)
    stored = layer.stored
    assert stored.data is not None
    assert stored.quantization is not None
    data = stored.data[..., outputs] if layer.depthwise else stored.data[outputs][..., inputs]
    quantization = stored.quantization
    if quantization.per_channel:
        picked = np.flatnonzero(outputs)
        quantization = Quantization(
            tuple(quantization.scale[i] for i in picked),
            tuple(quantization.zero_point[i] for i in picked),
            quantization.axis,
        )
    weights = replace(stored, id=fresh, shape=data.shape, data=data, quantization=quantization, source=None)
    start = fixed_point.wrap32(bias[outputs]).astype(np.int32)
    scales = tuple(layer.x.scale * scale for scale in quantization.scale)
    offsets = Quantization(scales, (0,) * len(scales), 0)
    return weights, Tensor(fresh + 1, "bias", start.shape, DType.INT32, offsets, start)
