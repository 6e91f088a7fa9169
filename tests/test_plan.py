"""The arena planner: its plans are sound, repeat, and reach the lower bound where one can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.plan import Buffer, Plan, lower_bound, plan

buffer_lists = st.lists(st.tuples(st.integers(1, 500), st.integers(-1, 12), st.integers(0, 6)), max_size=14).map(
    lambda rows: [Buffer(i, size, first, first + length) for i, (size, first, length) in enumerate(rows)]
)


@given(buffer_lists)
def test_plans_are_sound_and_never_below_the_bound(buffers: list[Buffer]) -> None:
    result = plan(buffers)
    result.check()
    assert result.arena_bytes >= result.lower_bound_bytes == lower_bound(buffers)
    assert plan(buffers).offsets == result.offsets


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    sizes = [64, 1024, 512, 2048, 16]
    buffers = [Buffer(i, size, i - 1, i) for i, size in enumerate(sizes)]
    assert plan(buffers).arena_bytes == 512 + 2048


def test_an_order_by_size_alone_would_miss_the_bound() -> None:
    # Found by search: largest-first leaves a hole that only another order fills.
    buffers = [Buffer(0, 48, 0, 1), Buffer(1, 32, 1, 3), Buffer(2, 48, 3, 4), Buffer(3, 32, 0, 0), Buffer(4, 32, 4, 4)]
    result = plan(buffers)
    assert result.arena_bytes == result.lower_bound_bytes == 80


def test_a_plan_that_overlaps_is_caught() -> None:
    a, b = Buffer(0, 32, 0, 2), Buffer(1, 32, 2, 3)
    with pytest.raises(AssertionError):
        Plan({0: 0, 1: 16}, 64, 64, (a, b)).check()
    with pytest.raises(AssertionError):
        Plan({0: 0, 1: 48}, 64, 64, (a, b)).check()


def test_nothing_to_plan() -> None:
    assert plan([]).arena_bytes == 0
