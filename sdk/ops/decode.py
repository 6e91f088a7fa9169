"""TFLM_DECODE: compressed constants. They are decoded here, so that a device stores and runs the plain model.

Input 2i is the code of output i, input 2i + 1 its ancillary data: 16 bytes of metadata, then values or tables. Layouts:
tensorflow/lite/micro/kernels/decode_state*.h of tflite-micro.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType, Node, Tensor
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Op, View
from sdk.program import ALIGNMENT

LUT, HUFFMAN, PRUNE = range(3)
METADATA_BYTES = 16
TYPES = (DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT32, DType.BOOL)


class Decode(Op):
    names = ("CUSTOM:TFLM_DECODE",)
    types = ("all",)
    limits = "constants, decoded on the host: the device stores them plain; no custom codes"

    def check(self, view: View) -> None:
        count = len(view.node.outputs)
        view.need(0 < count == len(view.node.inputs) / 2, f"it has {len(view.node.inputs)} inputs for {count} outputs")
        for index, y in enumerate(view.outputs):
            code, about = view.constant(2 * index), view.constant(2 * index + 1).reshape(-1).view(np.uint8)
            view.need(about.size >= METADATA_BYTES and about[1] == about[4] == 1, "its metadata is not of version 1")
            view.need(y.dtype in TYPES and code.size > 0, f"its output {y.label} is {y.dtype.numpy_name}")
            if about[0] not in DECODERS:
                raise view.unsupported(f"has the code {about[0]}, which is neither a table, Huffman's nor pruning")

    def lower(self, view: View, low: Lowering) -> None:
        # Folding leaves the outputs of the model, and what makes it much larger.
        codes = [tensor.data for tensor in view.inputs if tensor.data is not None]
        for y, values in zip(view.outputs, self.fold(view, codes), strict=True):
            low.alias(y, low.constant(values, ALIGNMENT))

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array]:
        self.check(view)  # again: a uint8 constant with a scale is another one by now
        results = []
        for y, code, about in zip(view.outputs, inputs[::2], inputs[1::2], strict=True):
            code, about = (each.reshape(-1).view(np.uint8) for each in (code, about))
            values = DECODERS[about[0]](view, y, code, about)
            results.append(values.astype(y.dtype.numpy).reshape(y.shape))
        return results

    def cases(self) -> Iterator[Case]:
        for dtype, bits in itertools.product((DType.INT8, DType.INT16, DType.FLOAT32), (1, 2, 3, 4, 7)):
            yield _lut_case(dtype, bits, (3, 4, 11), None)
        for bits, axis in itertools.product((2, 3, 4, 5), (0, 2)):
            yield _lut_case(DType.INT8, bits, (3, 4, 11), axis)
        for dtype in TYPES:
            yield _prune_case(dtype, (5, 7), None)
        yield _prune_case(DType.INT8, (5, 7), 0)
        yield _prune_case(DType.INT8, (5, 7), 1)
        for dtype, wide in ((DType.INT8, False), (DType.INT8, True), (DType.INT16, True)):
            yield _huffman_case(dtype, wide)
        yield _weights_case()


def _channels(view: View, y: Tensor) -> Array:
    """The channel of each element."""
    count = len(y.quantization.scale) if y.quantization is not None else 1
    places = np.arange(y.elements)
    if y.quantization is None or count == 1:
        return places * 0
    if y.quantization.axis == len(y.shape) - 1:
        return places % count
    view.need(y.quantization.axis == 0, f"its output {y.label} has scales along axis {y.quantization.axis}")
    return places // (y.elements // count)


def _table(view: View, y: Tensor, about: Array, dtype: np.dtype[np.generic]) -> Array:
    """What follows the metadata, as values of `dtype`."""
    data = about[METADATA_BYTES:]
    view.need(data.size >= dtype.itemsize, f"its ancillary data of {y.label} ends after the metadata")
    return data[: data.size // dtype.itemsize * dtype.itemsize].copy().view(dtype)


def _look_up(view: View, y: Tensor, code: Array, about: Array) -> Array:
    """Each code of a few bits, the highest first, is a place in its channel's table."""
    width, stride = int(about[5] & 7), int(about[6])
    bits = np.unpackbits(code)
    view.need(width > 0 and bits.size >= width * y.elements, f"its code of {y.label} is too short")
    places = bits[: width * y.elements].reshape(-1, width) @ (1 << np.arange(width)[::-1])
    places += stride * _channels(view, y)
    table = _table(view, y, about, y.dtype.numpy)
    view.need(y.elements == 0 or int(places.max()) < table.size, f"its table of {y.label} is too short")
    values: Array = table[places]
    return values


def _unprune(view: View, y: Tensor, code: Array, about: Array) -> Array:
    """A bit for each element, the highest first: whether it is the next value, or real zero."""
    kept = np.unpackbits(code)[: y.elements].astype(bool)
    table = _table(view, y, about, y.dtype.numpy)
    view.need(kept.size == y.elements and np.count_nonzero(kept) <= table.size, f"its code of {y.label} is too short")
    zeros = np.array(y.quantization.zero_point if y.quantization is not None else (0,))
    values: Array = zeros.astype(y.dtype.numpy)[_channels(view, y)]
    values[kept] = table[: np.count_nonzero(kept)]
    return values


def _huffman(view: View, y: Tensor, code: Array, about: Array) -> Array:
    """Symbols by tables: an entry is a symbol with the bits of it that were used, or where the next table begins."""
    wide = bool(about[5] & 1)
    view.need(y.dtype is DType.INT8 or (wide and y.dtype is DType.INT16), f"it makes {y.dtype.numpy_name} of symbols")
    found, shift = (1 << 31, 27) if wide else (1 << 15, 11)
    table = _table(view, y, about, np.dtype("<u4" if wide else "<u2")).tolist()
    text = "".join(f"{byte:08b}" for byte in code.tolist())
    symbols, at, first = [], 0, (int(about[5]) >> 4) + 1
    for _ in range(y.elements):
        place, entry, bits = 0, 0, first
        while not entry & found:
            view.need(at + bits <= len(text) + 32, f"its code of {y.label} is too short")
            place += (entry & ((1 << shift) - 1)) + int(text[at : at + bits].ljust(bits, "0"), 2)
            view.need(place < len(table), f"its tables of {y.label} are too short")
            entry, at, last = table[place], at + bits, bits
            bits = (entry >> shift & 15) + 1
        at -= max(last - (entry >> shift & 15), 0)
        symbols.append(entry & 0xFFFF)
    return np.array(symbols, np.uint16)


DECODERS = {LUT: _look_up, HUFFMAN: _huffman, PRUNE: _unprune}


def _case(name: str, y: int, g: CaseGraph, code: Array, about: Array) -> Case:
    """The decoded tensor is an output beside one that is computed."""
    x = g.input((2, 3), DType.FLOAT32)
    z = g.output((2, 3), DType.FLOAT32)
    g.output_ids.insert(0, y)
    inputs = (g.constant(code, DType.UINT8), g.constant(about, DType.UINT8))
    nodes = [Node(Decode.names[0], inputs, (y,), {"custom_options": b""}, 0), Node("ABS", (x,), (z,), {}, 1)]
    return g.case_of(nodes, name)


def _metadata(kind: int, parameters: Sequence[int], data: Array) -> Array:
    head = np.zeros(METADATA_BYTES, np.uint8)
    head[[0, 1, 4]] = kind, 1, 1
    head[5 : 5 + len(parameters)] = parameters
    return np.concatenate([head, np.ascontiguousarray(data).reshape(-1).view(np.uint8)])


def _output(g: CaseGraph, shape: Sequence[int], dtype: DType, axis: int | None, zero_point: int) -> int:
    if dtype not in (DType.INT8, DType.INT16):
        return g.tensor(shape, dtype)
    if axis is None:
        return g.tensor(shape, dtype, 0.5, zero_point)
    return g.tensor(shape, dtype, [0.5 + i for i in range(shape[axis])], zero_point, axis=axis)


def _packed(bits: Array) -> Array:
    """Bytes of bits, and enough behind them for who reads whole words."""
    return np.append(np.packbits(bits), np.zeros(16, np.uint8))


def _random(rng: np.random.Generator, count: int, dtype: DType) -> Array:
    return rng.integers(0, 2 if dtype is DType.BOOL else 100, count).astype(dtype.numpy)


def _lut_case(dtype: DType, bits: int, shape: tuple[int, ...], axis: int | None) -> Case:
    rng = np.random.default_rng(bits)
    g = CaseGraph()
    channels = 1 if axis is None else shape[axis]
    table = _random(rng, channels << bits, dtype)
    about = _metadata(LUT, (bits, 1 << bits), table)
    code = _packed(rng.integers(0, 2, int(np.prod(shape)) * bits))
    return _case(f"lut-{dtype.suffix}-{bits}-{axis}", _output(g, shape, dtype, axis, 0), g, code, about)


def _prune_case(dtype: DType, shape: tuple[int, ...], axis: int | None) -> Case:
    rng = np.random.default_rng(3)
    g = CaseGraph()
    kept = rng.integers(0, 2, int(np.prod(shape)))
    about = _metadata(PRUNE, (), _random(rng, int(kept.sum()), dtype))
    y = _output(g, shape, dtype, axis, -7 if dtype is DType.INT8 else 0)
    return _case(f"prune-{dtype.suffix}-{axis}", y, g, _packed(kept), about)


def _huffman_case(dtype: DType, wide: bool) -> Case:
    """The codes 0, 10, 110 and 111 of four symbols, by a table of two bits and one of the bit after 11."""
    g = CaseGraph()
    symbols = (5, 100, 3, 77)
    found, shift = (1 << 31, 27) if wide else (1 << 15, 11)
    entries = [found | 1 << shift | symbols[0]] * 2 + [found | 2 << shift | symbols[1], 0 << shift | 1]
    entries += [found | 1 << shift | symbol for symbol in symbols[2:]]
    about = _metadata(HUFFMAN, (1 << 4 | wide,), np.array(entries, np.uint32 if wide else np.uint16))
    drawn = np.random.default_rng(4).integers(0, 4, 60)
    bits = [int(bit) for i in drawn for bit in ("0", "10", "110", "111")[i]]
    return _case(f"huffman-{dtype.suffix}-{wide}", _output(g, (60,), dtype, None, 0), g, _packed(np.array(bits)), about)


def _weights_case() -> Case:
    """What compression is for: the weights of a layer."""
    g = CaseGraph()
    x, y = g.input((1, 8), DType.INT8, 0.5, 3), g.output((1, 5), DType.INT8, 4.0, -1)
    about = _metadata(LUT, (2, 4), np.array([-100, -3, 40, 127], np.int8))
    code = _packed(np.random.default_rng(5).integers(0, 2, 2 * 40))
    weights = g.tensor((5, 8), DType.INT8, 0.02, 0)
    inputs = (g.constant(code, DType.UINT8), g.constant(about, DType.UINT8))
    options = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": False}
    decode = Node(Decode.names[0], inputs, (weights,), {"custom_options": b""}, 0)
    return g.case_of([decode, Node("FULLY_CONNECTED", (x, weights, None), (y,), options, 1)], "weights")


OPS = [Decode()]
