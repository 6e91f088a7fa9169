"""Whether a program fits a board, said before anything is built; and where not, what would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sdk.boards import Board, all_boards
from sdk.errors import FitError
from sdk.lower import Lowered
from sdk.target import Optimize

BOARDS_NAMED = 4
KERNELS_BYTES = 20 << 10  # more than the kernels of most programs take


@dataclass(frozen=True)
class Fit:
    """What a program and its memory need beside what a board's firmware leaves; sizes in bytes."""

    board: Board
    flash_bytes: int  # of the program
    ram_bytes: int  # arena and state

    @property
    def flash_missing(self) -> int:
        return max(0, self.flash_bytes - self.board.program_flash_bytes)

    @property
    def ram_missing(self) -> int:
        return max(0, self.ram_bytes - self.board.program_ram_bytes)

    @property
    def kernels_room(self) -> int:
        """Flash that is left for kernels. How much they take is known when they are compiled."""
        return max(0, self.board.program_flash_bytes - self.flash_bytes)

    @property
    def fits(self) -> bool:
        return self.flash_missing == self.ram_missing == 0

    @property
    def verdict(self) -> str:
        """In words, whether it fits and what is missing."""
        if self.fits:
            tight = self.kernels_room < KERNELS_BYTES
            return f"yes, if {self.kernels_room:,} bytes hold its kernels" if tight else "yes"
        return f"no: {self.missing} too little"

    @property
    def missing(self) -> str:
        """How many bytes of what."""
        lacks = {"flash": self.flash_missing, "RAM": self.ram_missing}
        return " and ".join(f"{count:,} bytes of {name}" for name, count in lacks.items() if count)


def fit(lowered: Lowered, board: Board) -> Fit:
    """How `lowered` fits `board`."""
    return Fit(board, len(lowered.block), lowered.program.ram_bytes)


def check_fits(lowered: Lowered, board: Board, lower_as: Callable[[Optimize], Lowered]) -> None:
    """FitError, saying how much is missing and what would fit, if no image for `board` can hold `lowered`. `lower_as`
    lowers the same model for the same board."""
    found = fit(lowered, board)
    if found.fits:
        return
    program = lowered.program
    raise FitError(
        f"the model does not fit {board.id}: {found.missing} too little. It needs {found.flash_bytes:,} of "
        f"{board.program_flash_bytes:,} bytes of flash, and of {board.program_ram_bytes:,} bytes of RAM "
        f"{program.arena_bytes:,} for its arena and {program.state_bytes:,} for its state",
        _remedy(found, lower_as),
    )


def _remedy(found: Fit, lower_as: Callable[[Optimize], Lowered]) -> str:
    """The choices that would fit, from the least change to the largest."""
    for choice in Optimize:
        other = fit(lower_as(choice), found.board)
        if other.fits:
            return f"Use --optimize {choice}: {other.flash_bytes:,} bytes of flash, {other.ram_bytes:,} of RAM."
    boards = sorted(all_boards(lambda _: None), key=lambda board: board.ram_bytes)
    roomy = [board.id for board in boards if Fit(board, found.flash_bytes, found.ram_bytes).fits]
    more = f", or a board with more room: {', '.join(roomy[:BOARDS_NAMED])}" if roomy else ""
    return f"No --optimize makes it fit. Use a smaller input or model{more}."
