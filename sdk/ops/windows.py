"""Positions of sliding windows, as pooling has them along each of two axes."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.ops.base import View

SAME, VALID = range(2)


@dataclass(frozen=True)
class Window:
    """Windows of `filter` inputs along one axis, `stride` apart, the first one `pad` before the first input."""

    filter: int
    stride: int
    pad: int
    out: int  # number of windows


def window(view: View, size: int, filter_size: int, stride: int, padding: int) -> Window:
    """Follows ComputePaddingHeightWidth (tensorflow/lite/kernels/padding.h). ModelError where there is none."""
    view.need(filter_size > 0 and stride > 0, f"has a filter of {filter_size} and a stride of {stride}")
    view.need(padding in (SAME, VALID), f"has the padding {padding}, which is neither SAME nor VALID")
    out = -(-size // stride) if padding == SAME else (size + stride - filter_size) // stride
    view.need(out > 0, f"its filter of {filter_size} does not fit into {size}")
    return Window(filter_size, stride, max(0, (out - 1) * stride + filter_size - size) // 2, out)
