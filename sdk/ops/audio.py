"""What tflite-micro's operators of the audio front end share: they are custom ones, with options by name."""

from __future__ import annotations

from collections.abc import Sequence

import tflite

from sdk.graph import DType
from sdk.ops.base import View

INT32_MAX = (1 << 31) - 1
# Numbers of the types that the option T names.
TYPE_CODES = {
    DType.INT16: tflite.TensorType.INT16,
    DType.INT32: tflite.TensorType.INT32,
    DType.FLOAT32: tflite.TensorType.FLOAT32,
}


def option(view: View, name: str, least: int = 0, most: int = INT32_MAX) -> int:
    """The whole number that the option `name` must be. ModelError if it is missing or out of range."""
    value = view.option(name, None)
    view.need(
        isinstance(value, int) and least <= value <= most,
        f"its option {name} is {value!r}, not a whole number from {least} to {most}",
    )
    return int(value)


def element_type(view: View, types: Sequence[DType]) -> DType:
    """The type that the option T names. UnsupportedError if it is none of `types`."""
    code = option(view, "T")
    for dtype in types:
        if TYPE_CODES[dtype] == code:
            return dtype
    raise view.unsupported(f"has the type number {code}, none of {', '.join(dtype.numpy_name for dtype in types)}")


def need_types(view: View, inputs: Sequence[DType], outputs: Sequence[DType]) -> None:
    """ModelError unless the node has just these inputs and outputs, none of them empty."""
    for what, ids, wanted, get in (
        ("inputs", view.node.inputs, inputs, view.input),
        ("outputs", view.node.outputs, outputs, view.output),
    ):
        view.need(len(ids) == len(wanted), f"it has {len(ids)} {what}, not {len(wanted)}")
        for index, dtype in enumerate(wanted):
            tensor = get(index)
            view.need(
                tensor.dtype is dtype,
                f"its tensor {tensor.label} is {tensor.dtype.numpy_name}, not {dtype.numpy_name}",
            )
            view.need(tensor.elements > 0, f"its tensor {tensor.label} is empty")


def need_count(view: View, what: str, count: int, wanted: int) -> None:
    """ModelError unless a tensor has as many elements as it needs."""
    view.need(count == wanted, f"its {what} has {count} elements, not {wanted}")


def rows_of(view: View, shape: Sequence[int], what: str) -> tuple[int, int]:
    """(rows, elements of a row), the last dimension being the rows."""
    view.need(len(shape) > 0, f"its {what} is a scalar")
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows, shape[-1]
