"""What a fast variant of a kernel is: how a step of a portable kernel becomes a step of a faster one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sdk.graph import Array
from sdk.ops.base import Kernel
from sdk.overlap import Overlap
from sdk.program import Profile

if TYPE_CHECKING:
    from sdk.lower import Lowering, Value
    from sdk.target import Target


@dataclass(frozen=True)
class PortableStep:
    """A call of a portable kernel that an operator has asked for: arguments by name, operands by position."""

    low: Lowering
    kernel: Kernel
    args: Mapping[str, Any]
    values: tuple[Value, ...]
    overlaps: tuple[Overlap, ...] = ()  # of the portable kernel: a variant states its own

    @property
    def target(self) -> Target:
        return self.low.target

    def constant(self, index: int) -> Array:
        """The data of a constant operand, flat, in the type of its slot."""
        return self.low.data(self.values[index], self.kernel.slots[index].dtype)


class Variant(ABC):
    """Faster kernels for steps of portable ones, exact like those.

    Of the variants of a profile the first whose `lower` takes a step serves it.
    """

    profile: ClassVar[Profile]
    kernels: ClassVar[tuple[Kernel, ...]]
    replaces: ClassVar[tuple[Kernel, ...]]

    @abstractmethod
    def lower(self, step: PortableStep, low: Lowering) -> bool:
        """Adds steps that do what `step` does (`low.step`, `low.scratch`, `low.constant`) and returns True; or adds
        nothing and returns False: shape, values or `low.target.optimize` are not for this variant."""


def by_kernel(variants: Sequence[Variant]) -> dict[str, list[Variant]]:
    """The variants that may replace each portable kernel, by its name, in order."""
    found: dict[str, list[Variant]] = {}
    for variant in variants:
        for kernel in variant.replaces:
            found.setdefault(kernel.name, []).append(variant)
    return found
