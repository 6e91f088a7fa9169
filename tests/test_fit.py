"""What fits a board, said before anything is built."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from sdk.boards import FIRMWARE_FLASH_BYTES, Board, MemoryRegion, all_boards, load_board
from sdk.build import build
from sdk.emit import emit
from sdk.errors import FitError, MissingToolError
from sdk.fit import KERNELS_BYTES, check_fits, fit
from sdk.load import load
from sdk.lower import Lowered, lower
from sdk.paths import BOARDS
from sdk.report import fits, inspect
from sdk.target import Optimize, Target

GRAPH = load(BOARDS.parent / "examples" / "digits" / "digits_int8.tflite")
SIZES = ("ram", "flash")


def lowered(board: Board, optimize: Optimize = Optimize.balanced) -> Lowered:
    return lower(GRAPH, Target(board.profile, optimize))


def with_room(board: Board, **sizes: int) -> Board:
    """`board` with memory that leaves a program so many bytes, by the region."""
    room = {"ram": board.program_ram_bytes, "flash": board.program_flash_bytes}
    regions = {
        name: MemoryRegion(region.origin, region.bytes - room[name] + sizes[name]) if name in sizes else region
        for name, region in board.regions.items()
    }
    return replace(board, regions=MappingProxyType(regions))


@pytest.mark.parametrize("region", SIZES)
def test_one_byte_too_little(region: str) -> None:
    board = load_board("mps2-an386")
    need = {"ram": (lowered(board).program.ram_bytes + 15) & ~15, "flash": len(lowered(board).block)}[region]
    assert fit(lowered(board), with_room(board, **{region: need})).fits
    small = with_room(board, **{region: need - 16})
    found = fit(lowered(board), small)
    assert (found.fits, found.verdict) == (False, f"no: {found.missing} too little")
    assert 0 < {"ram": found.ram_missing, "flash": found.flash_missing}[region] <= 16
    with pytest.raises(FitError, match=r"does not fit mps2-an386: .* too little") as error:
        check_fits(lowered(board), small, lambda choice: lowered(board, choice))
    assert "--optimize" in error.value.remedy


def test_the_smaller_choice_is_named() -> None:
    """Weights that `speed` widens may fit as they are."""
    board = load_board("mps2-an386")
    least = min((lowered(board, choice) for choice in Optimize), key=lambda each: len(each.block))
    small = with_room(board, flash=len(least.block))
    with pytest.raises(FitError) as error:
        check_fits(lowered(board, Optimize.speed), small, lambda choice: lowered(board, choice))
    choice = Optimize(error.value.remedy.removeprefix("Use --optimize ").split(":")[0])
    assert fit(lowered(board, choice), small).fits


def test_the_smallest_boards_with_room_are_named() -> None:
    small = with_room(load_board("microbit"), ram=16)
    with pytest.raises(FitError) as error:
        check_fits(lowered(small), small, lambda choice: lowered(small, choice))
    named = error.value.remedy.partition(": ")[2].rstrip(".").split(", ")
    assert "microbit" in named
    assert all(fit(lowered(small), load_board(name)).fits for name in named)


def test_kernels_may_not_fit() -> None:
    board = load_board("mps2-an386")
    tight = with_room(board, flash=len(lowered(board).block) + 1000)
    assert fit(lowered(board), tight).verdict == "yes, if 1,000 bytes hold its kernels"
    assert fit(lowered(board), with_room(board, flash=len(lowered(board).block) + KERNELS_BYTES)).verdict == "yes"


def test_a_fast_program_says_nothing_of_other_profiles() -> None:
    """It is larger by more than half: a board that holds the portable one alone holds the model."""
    fast = inspect(GRAPH, load_board("mps2-an386").target(Optimize.speed))
    board = load_board("mps2-an385")
    portable_bytes = len(lowered(board, Optimize.speed).block)
    assert fast.lowered is not None
    assert len(fast.lowered.block) > 1.5 * portable_bytes
    (found,) = fits(fast, [with_room(board, flash=portable_bytes)])
    assert (found.fits, found.flash_bytes) == (True, portable_bytes)


@pytest.mark.parametrize("target", [board for board in all_boards() if board.linker_script], ids=lambda board: board.id)
def test_no_firmware_is_smaller_than_supposed(target: Board) -> None:
    try:
        image = build(target, emit(lowered(target)))
    except MissingToolError as error:
        pytest.skip(error.message)
    assert image.flash["interpreter"] + image.flash["port"] >= FIRMWARE_FLASH_BYTES
