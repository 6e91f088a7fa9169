"""sdk boards"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_json
from sdk.cli.console import Console
from sdk.errors import BoardError

if TYPE_CHECKING:
    from sdk.boards import Board

SUMMARY = "list the boards"
DETAILS = """A board is a file: docs/boards.md says how to write one. Files in $MICROLITH_BOARDS and in the folder \
`boards` here come first; those that are not sound are named with their first fault, and the exit code is 7 then."""
EXAMPLES = ("sdk boards", "sdk boards --json | jq -r '.boards[].id'")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(_args: argparse.Namespace, console: Console) -> int:
    from sdk.boards import all_boards

    faults: list[BoardError] = []
    boards = all_boards(faults.append)
    rows = [_row(board) for board in boards]
    console.table(("Board", "Name", "Core", "Kernels", ">Flash", ">RAM", "Flasher"), rows)
    if faults:
        console.say("\nFiles that are no sound board files")
    for fault in faults:
        console.say(f"- {fault.message}")
    console.result({"boards": [_json(board) for board in boards], "faults": [fault.message for fault in faults]})
    return BoardError.exit_code if faults else 0


def _row(board: Board) -> tuple[str, ...]:
    sizes = f"{board.flash_bytes:,}", f"{board.ram_bytes:,}"
    return board.id, board.name, board.cpu, board.profile.name, *sizes, board.flasher


def _json(board: Board) -> dict[str, Any]:
    return {
        "id": board.id,
        "name": board.name,
        "vendor": board.vendor,
        "url": board.url,
        "file": str(board.path),
        "cpu": board.cpu,
        "clock_hz": board.clock_hz,
        "profile": board.profile.name,
        "flash_bytes": board.flash_bytes,
        "ram_bytes": board.ram_bytes,
        "program_flash_bytes": board.program_flash_bytes,
        "program_ram_bytes": board.program_ram_bytes,
        "stack_bytes": board.stack_bytes,
        "flasher": board.flasher,
        "emulated": board.emulator is not None,
        "counter": board.counter.unit,
    }
