"""sdk monitor"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_json, add_port, board_of
from sdk.cli.console import Console

if TYPE_CHECKING:
    from sdk.link.device import DeviceInfo
    from sdk.link.transport import Transport

SUMMARY = "ask a board who it is, then show what it says on its serial line"
DETAILS = """Shows all that comes, until Ctrl-C: also of firmware that is not Microlith's. Bytes that are no text \
appear as \\xNN. With --json it prints what the device says of itself, and ends."""
EXAMPLES = ("sdk monitor --board microbit", "sdk monitor --board mps2-an386 --reset --json")
READ_S = 0.2


def arguments(parser: argparse.ArgumentParser) -> None:
    add_board(parser)
    add_port(parser)
    parser.add_argument("--reset", action="store_true", help="restart the board first, as its reset button would")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.errors import LinkError
    from sdk.flash import connect
    from sdk.link.device import Device

    board, port = board_of(args, console)
    transport = connect(board, port=port)
    try:
        if args.reset:
            transport.reset()
    except BaseException:
        transport.close()
        raise
    console.note(f"asking {transport.name} who it is")
    try:
        device = Device(transport, board_id=board.id)
    except LinkError as error:
        if args.json:
            raise
        console.note(f"{error}\nListening all the same; Ctrl-C ends it.")
        transport = connect(board, port=port)  # a Device that does not come about has closed it
    else:
        _say(device.info, transport.name, console)
        console.result({**_json(device.info), "emulated": board.emulated})
    with contextlib.closing(transport):
        if not args.json:
            _follow(transport, console)
    return 0


def _say(info: DeviceInfo, where: str, console: Console) -> None:
    program = f"{info.resident_bytes:,} bytes, CRC-32 {info.resident_crc:08x}" if info.resident_bytes else "none"
    console.say(f"{where}: {info.board_id}, {info.profile.name} kernels")
    console.say(f"program  {program}")
    console.say(f"RAM      {info.pool_bytes:,} bytes for programs, {info.stack_bytes:,} for the stack")
    console.say(f"kernels  {len(info.kernels)}; frames of {info.frame_bytes} bytes; counter {_runs(info)}")


def _runs(info: DeviceInfo) -> str:
    return "runs" if info.counter_runs else "does not run"


def _json(info: DeviceInfo) -> dict[str, Any]:
    return {**vars(info), "profile": info.profile.name}


def _follow(transport: Transport, console: Console) -> None:
    """Prints what comes, for ever. LinkError if the other side goes away."""
    while True:
        data = transport.read(READ_S)
        if data:
            console.write(printable(data))
            console.flush()


def printable(data: bytes) -> str:
    """Text as it is, and every other byte as \\xNN, so that noise cannot upset the terminal."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
