"""How far a kernel lets its output overlap an input that nobody needs any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sdk.graph import Tensor


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


def elementwise(x: Tensor, y: Tensor) -> Overlap:
    """Of a kernel that makes element i of operand 1, `y`, of element i of operand 0, `x`, in order."""
    return Overlap(0, 1, items_ahead_bytes(y.elements, x.dtype.bytes, y.dtype.bytes))


def window_ahead_bytes(shape: Mapping[str, int], input_pixel_bytes: int, output_pixel_bytes: int) -> int:
    """The `Overlap.ahead_bytes` of a kernel that goes through the pixels of its output in order, each after reading all
    of its window (`shape`: a `WINDOW`).

    A kernel that writes before it has read the whole window owes as many bytes more as it may have written by then. One
    that reads the windows of several pixels before it writes the first of them owes no more.
    """
    firsts = _first_taps(shape, "height", "top"), _first_taps(shape, "width", "left")
    image = shape["batches"], shape["input_height"], shape["input_width"]
    return grid_ahead_bytes(image, firsts, input_pixel_bytes, output_pixel_bytes)


def _first_taps(shape: Mapping[str, int], axis: str, side: str) -> list[int | None]:
    """The first input in each window along an axis; None for a window of padding alone."""
    size, stride, dilation = (shape[f"{name}_{axis}"] for name in ("input", "stride", "dilation"))
    firsts = []
    for position in range(shape[f"output_{axis}"]):
        origin = position * stride - shape[f"pad_{side}"]
        taps = range(origin, origin + shape[f"kernel_{axis}"] * dilation, dilation)
        firsts.append(next((tap for tap in taps if 0 <= tap < size), None))
    return firsts


def grid_ahead_bytes(
    image: tuple[int, int, int],
    firsts: tuple[Sequence[int | None], Sequence[int | None]],
    input_pixel_bytes: int,
    output_pixel_bytes: int,
) -> int:
    """The same where output pixel (y, x) reads nothing before input row `firsts[0][y]` and column `firsts[1][x]` (None:
    nothing at all); `image`: batches, rows and columns of the input."""
    batches, height, width = image
    row_bytes = len(firsts[1]) * output_pixel_bytes
    rows = [y * row_bytes - first * width * input_pixel_bytes for y, first in enumerate(firsts[0]) if first is not None]
    columns = [
        x * output_pixel_bytes - first * input_pixel_bytes for x, first in enumerate(firsts[1]) if first is not None
    ]
    if not rows or not columns:
        return 0
    growth = len(firsts[0]) * row_bytes - height * width * input_pixel_bytes
    return max(rows) + max(columns) + max(0, (batches - 1) * growth)
