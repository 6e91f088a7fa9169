"""How far a kernel lets its output overlap an input that nobody needs any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """Leave for the operand `written` to lie over the operand `read`, where that dies in this step.

    The kernel owes: whenever it reads byte i of `read`, each byte w of `written` that it has written before has
    w < i + `ahead_bytes`. Then `written` may begin `ahead_bytes` before `read` does (where that is below 0, as much
    behind it) or anywhere before that: what is written lies below all that is still to be read.

    None: only at the very same place, for a kernel that reads each element before it writes there, in whatever order.
    """

    read: int
    written: int
    ahead_bytes: int | None = None


def items_ahead_bytes(count: int, input_bytes: int, output_bytes: int) -> int:
    """The `Overlap.ahead_bytes` of a kernel that makes `count` items (elements, rows, images) in order, each of the
    input item at its place, which it has read by then."""
    return max(0, (count - 1) * (output_bytes - input_bytes))


def window_ahead_bytes(shape: Mapping[str, int], input_pixel_bytes: int, output_pixel_bytes: int) -> int:
    """The `Overlap.ahead_bytes` of a kernel that goes through the pixels of its output in order, each after reading all
    of its window (`shape`: a `WINDOW`).

    A kernel that writes before it has read the whole window owes as many bytes more as it may have written by then. One
    that reads the windows of several pixels before it writes the first of them owes no more.
    """
    row_bytes = shape["input_width"] * input_pixel_bytes
    rows = _axis(shape, "height", "top", row_bytes, shape["output_width"] * output_pixel_bytes)
    columns = _axis(shape, "width", "left", input_pixel_bytes, output_pixel_bytes)
    if rows is None or columns is None:  # it reads padding alone
        return 0
    image_bytes = shape["input_height"] * row_bytes
    growth = shape["output_height"] * shape["output_width"] * output_pixel_bytes - image_bytes
    return rows + columns + max(0, (shape["batches"] - 1) * growth)


def _axis(shape: Mapping[str, int], axis: str, side: str, input_step: int, output_step: int) -> int | None:
    """The most by which the output written before a position is ahead of the first input that the position needs."""
    size, kernel, dilation = (shape[f"{name}_{axis}"] for name in ("input", "kernel", "dilation"))
    ahead = None
    for position in range(shape[f"output_{axis}"]):
        origin = position * shape[f"stride_{axis}"] - shape[f"pad_{side}"]
        taps = range(origin, origin + kernel * dilation, dilation)
        first = next((tap for tap in taps if 0 <= tap < size), None)
        if first is not None:
            here = position * output_step - first * input_step
            ahead = here if ahead is None else max(ahead, here)
    return ahead
