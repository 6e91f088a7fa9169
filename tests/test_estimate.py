"""Estimated cycles: the instructions are those that the board counts, the cycles those of the manuals' tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdk.boards import load_board
from sdk.deploy import deployed, prepare
from sdk.errors import MissingToolError, UsageError
from sdk.estimate import CORES, PAGE_BYTES, Instruction, _Timing, check_core, estimate
from sdk.load import load

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits_int8.tflite"


class Listing:
    """Code that consists of these instructions, two bytes each."""

    def __init__(self, *lines: str) -> None:
        split = [line.partition(" ") for line in lines]
        self.code = {2 * i: Instruction(name, operands, 2 * i + 2) for i, (name, _, operands) in enumerate(split)}

    def block(self, address: int, stop: int | None) -> list[Instruction]:
        inside = [at for at in sorted(self.code) if at >= address and (stop is None or at < stop)]
        ends = next((i for i, at in enumerate(inside) if self.code[at].ends_block), len(inside))
        return [self.code[at] for at in inside[: ends + 1]]


def cycles(core: str, follower: int, *lines: str, flash_wait: int = 0) -> int:
    """Of a block that starts at 0 and is followed by the one at `follower`."""
    return _Timing(Listing(*lines), CORES[core], flash_wait).sum({(0, follower): 1})[1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("core", "follower", "lines", "expected"),
    [
        ("cortex-m4", 6, ("adds r0, r1, r2", "mul r0, r1", "bne 100 <x>"), 3),  # not taken
        ("cortex-m4", 0x100, ("adds r0, r1, r2", "mul r0, r1", "bne 100 <x>"), 5),
        ("cortex-m4", 6, ("ldr r0, [r1, #0]", "ldr r2, [r1, #4]", "str r0, [r3, #0]"), 4),
        ("cortex-m4", 2, ("ldmia r0!, {r1, r2, r4-r7}",), 7),
        ("cortex-m4", 0x40, ("pop {r4, pc}",), 5),
        ("cortex-m4", 2, ("udiv r0, r0, r1",), 7),
        ("cortex-m0plus", 6, ("ldr r0, [r1, #0]", "ldr r2, [r1, #4]", "str r0, [r3, #0]"), 6),
        ("cortex-m0plus", 0x100, ("subs r0, #1", "bne 100 <x>"), 3),
        ("cortex-m7", 4, ("adds r0, r1, r2", "adds r3, r4, r5"), 1),
        ("cortex-m7", 4, ("adds r0, r1, r2", "adds r3, r0, r5"), 2),  # waits for r0
        ("cortex-m7", 4, ("ldr r0, [r1, #0]", "adds r3, r0, r5"), 3),
    ],
)
def test_cycles_of_a_block(core: str, follower: int, lines: tuple[str, ...], expected: int) -> None:
    assert cycles(core, follower, *lines) == expected


def test_a_page_cuts_a_run_even_where_a_loop_begins() -> None:
    assert (
        cycles("cortex-m4", PAGE_BYTES, *["nop"] * (PAGE_BYTES // 2), "adds r0, r1", "bne 400 <x>") == PAGE_BYTES // 2
    )


def test_flash_waits_count_where_flash_is_read_anew() -> None:
    lines = ("ldr r0, [pc, #16]", "bne 100 <x>")
    assert cycles("cortex-m4", 0x100, *lines, flash_wait=3) == cycles("cortex-m4", 0x100, *lines) + 6
    assert cycles("cortex-m4", 4, *lines, flash_wait=3) == cycles("cortex-m4", 4, *lines) + 3


def test_instructions_are_those_that_the_board_counts() -> None:
    board = load_board("mps2-an386")
    lowered = prepare(load(DIGITS), board)
    inputs = [np.zeros(spec.shape, spec.dtype.numpy) for spec in lowered.inputs]
    try:
        with deployed(lowered, board) as target:
            first, second = (estimate(target, inputs, "cortex-m4") for _ in range(2))
            counted = board.counter.units(target.device.measure(inputs).invoke_ticks)
    except MissingToolError as error:
        pytest.skip(error.message)
    assert first == second
    assert abs(first.instructions - counted) < 1000
    assert first.instructions < first.cycles < 3 * first.instructions
    assert len(first.steps) == len(lowered.steps)
    assert 0.9 * first.cycles < sum(first.steps) < first.cycles


def test_what_cannot_be_estimated_is_said() -> None:
    with pytest.raises(UsageError, match="native is no emulated Arm board"):
        check_core(load_board("native"), "cortex-m4")
    with pytest.raises(UsageError, match="no timings of cortex-m85"):
        check_core(load_board("mps2-an386"), "cortex-m85")
