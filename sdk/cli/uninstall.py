"""sdk uninstall"""

from __future__ import annotations

import argparse

from sdk.cli.arguments import add_board, add_json, add_port, board_of
from sdk.cli.console import Console

SUMMARY = "remove from a Linux board all that was put there"
DETAILS = "Stops and removes the services, then the folder ~/.microlith with the runtime, the images and the models."
EXAMPLES = ("sdk uninstall --board rpi5 --host pi@raspberrypi.local",)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_board(parser)
    add_port(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.errors import UsageError
    from sdk.flash.ssh import Host
    from sdk.linux import uninstall

    board, port = board_of(args, console)
    if board.flasher != "ssh":
        raise UsageError(f"{board.id} is no Linux board", "Flash another model over this one.")
    host = Host(board, port)
    uninstall(host)
    console.say(f"{host.name} has nothing of Microlith any more")
    console.result({"board": board.id, "host": host.name})
    return 0
