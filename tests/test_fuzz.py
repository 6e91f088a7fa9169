"""Damaged models end in an error with a message: never in a traceback, a hang or a full memory.

`make fuzz` does the same with the code's coverage as a guide, and runs what is lowered under sanitizers.
"""

from __future__ import annotations

import contextlib
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import attempt, mutated, seeds

from sdk.errors import SdkError

SEEDS = list(seeds())
ROUNDS = 12  # changes of changes of each seed
MEMORY_BYTES = 1 << 30


@pytest.fixture
def memory() -> Iterator[None]:
    """Lets an allocation that would need a gigabyte more fail."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_damaged_models_are_refused_with_a_message(seed: int) -> None:
    rng = random.Random(seed)
    data = SEEDS[seed]
    for _ in range(ROUNDS):
        damaged = mutated(data, rng)
        with contextlib.suppress(SdkError):
            attempt(damaged)
            data = damaged  # what is still accepted may be damaged further
