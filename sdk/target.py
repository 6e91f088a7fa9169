"""What lowering needs to know of where a program will run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sdk.program import Profile


class Optimize(StrEnum):
    """What fast variants of kernels may cost."""

    speed = "speed"
    """Fewest cycles: weights may take several times their size."""
    balanced = "balanced"
    """Fast with weights at their own size."""
    size = "size"
    """Smallest image: the variants that pay in a few hundred bytes of code."""


@dataclass(frozen=True)
class Target:
    """A board's kernel profile, what to optimize for, its fast RAM beside the one that holds arena and state, and how
    much of the latter weights may take, which are copied there when a session starts."""

    profile: Profile = Profile.portable
    optimize: Optimize = Optimize.balanced
    fast_bytes: int = 0
    weights_ram_bytes: int = 0
