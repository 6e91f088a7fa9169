"""sdk boards"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_json, complete_boards
from sdk.cli.console import Console
from sdk.errors import BoardError

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.link.ports import Port

SUMMARY = "list the boards and which are connected, or begin a board file of your own"
DETAILS = """A board is a file: docs/boards.md says how to write one. Files in $MICROLITH_BOARDS and in the folder \
`boards` here come first; those that are not sound are named with their first fault, and the exit code is 7 then. \
Connected boards are known by the USB ids of their serial port."""
EXAMPLES = (
    "sdk boards",
    "sdk boards --json | jq -r '.boards[].id'",
    "sdk boards new my-board --from microbit",
    "sdk boards new my-board --chip nrf51822",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    actions = parser.add_subparsers(dest="action", metavar="new")
    new = actions.add_parser("new", help="write the file of a board of your own, after that of one like it")
    new.add_argument("id", metavar="ID", help="what it shall be called: up to 32 of a-z, 0-9, - and _")
    like = new.add_mutually_exclusive_group(required=True)
    complete_boards(like.add_argument("--from", dest="like", metavar="B", help="a board that is like it"))
    like.add_argument("--chip", metavar="C", help="or its chip: nrf51822")
    new.add_argument("--name", default="", help="what people call it")
    new.add_argument(
        "--output", "-o", type=Path, default=Path("boards"), metavar="DIR", help="the folder (default: boards)"
    )
    new.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")


def run(args: argparse.Namespace, console: Console) -> int:
    return _new(args, console) if args.action == "new" else _list(console)


def _new(args: argparse.Namespace, console: Console) -> int:
    from sdk.own_board import board_like, new_board

    like = board_like(args.like, args.chip)
    board = new_board(args.id, like, args.output, args.name)
    console.say(f"wrote {board.path}, after {like.path}\nNext:")
    console.say(
        f"  set clock, memory (twice: upload and microlith.regions) and USB ids in {board.path}: docs/boards.md"
    )
    console.say(f"  sdk verify MODEL --board {board.path}")
    console.result({"board": board.id, "file": str(board.path), "like": like.id})
    return 0


def _list(console: Console) -> int:
    from sdk.boards import all_boards
    from sdk.link.ports import connected, present

    faults: list[BoardError] = []
    ports = present()
    boards = [(board, connected(board, ports)) for board in all_boards(faults.append)]
    rows = [_row(board, found) for board, found in boards]
    console.table(("Board", "Name", "Core", "Kernels", ">Flash", ">RAM", "Flasher", "Connected"), rows)
    if faults:
        console.say("\nFiles that are no sound board files")
    for fault in faults:
        console.say(f"- {fault.message}")
    console.result({"boards": [_json(*each) for each in boards], "faults": [fault.message for fault in faults]})
    return BoardError.exit_code if faults else 0


def _row(board: Board, found: Sequence[Port]) -> tuple[str, ...]:
    sizes = f"{board.flash_bytes:,}", f"{board.ram_bytes:,}"
    where = ", ".join(f"{port.device} ({port.serial_number or 'no serial number'})" for port in found)
    return board.id, board.name, board.cpu, board.profile.name, *sizes, ", ".join(board.flashers), where or "-"


def _json(board: Board, found: Sequence[Port]) -> dict[str, Any]:
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
        "flashers": list(board.flashers),
        "emulated": board.emulator is not None,
        "connected": [{"port": port.device, "serial_number": port.serial_number or None} for port in found],
        "counter": board.counter.unit,
    }
