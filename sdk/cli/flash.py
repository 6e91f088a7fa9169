"""sdk flash"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_json, add_model, add_optimize, add_port, board_of, is_elf, model_of
from sdk.cli.build import image_json, say_image
from sdk.cli.console import Console
from sdk.cli.lower import lowered_json, say_lowered
from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.boards import Board

SUMMARY = "build a model's firmware, put it on a board and start it"
DETAILS = """MODEL may also be an .elf file that was built for the board before. Ends when the board has answered and \
holds the model. An emulated board keeps its flash until the next time; `sdk monitor` shows what is on it. With \
--update the firmware stays, which takes far less time: it must have the model's kernels, and its flash room."""
EXAMPLES = (
    "sdk flash model.tflite --board mps2-an386",
    "sdk flash retrained.tflite --board esp32 --update",
    "sdk flash build/model-microbit/model.elf --board microbit",
    "sdk flash model.tflite --board rpi5 --host pi@raspberrypi.local --service",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_optimize(parser)
    add_port(parser)
    parser.add_argument(
        "--update", action="store_true", help="replace only the model on a board that runs Microlith's firmware"
    )
    linux = parser.add_argument_group("Linux boards")
    linux.add_argument("--service", action="store_true", help="start the model's camera loop now and at each start")
    linux.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to send along: the board needs no Internet")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.deploy import deployed, prepare

    board, port = board_of(args, console)
    if board.flasher != "ssh" and (args.service or args.wheels):
        raise UsageError(f"--service and --wheels are for Linux boards, and {board.id} is none", "Leave them out.")
    if args.wheels is not None and not list(args.wheels.glob("*.whl")):
        raise UsageError(f"no wheels are in {args.wheels}", "`pip download` fetches them: see docs/raspberry-pi.md.")
    if args.update:
        return _update(args, board, port, console)
    if is_elf(Path(args.model)):
        return _flash_built(Path(args.model), board, port, console)
    lowered = prepare(model_of(args), board, args.optimize, args.weights_in_ram)
    say_lowered(lowered, console)
    with deployed(lowered, board, port=port, progress=console.progress) as target:
        say_image(target.image, console)
        where = target.device.transport.name
    linux = _install(args, board, port, lowered.block, console) if board.flasher == "ssh" else {}
    console.say(f"{where} runs {Path(args.model).name}. Check it: sdk verify {args.model} --board {args.board}")
    console.result(
        {**lowered_json(lowered), **image_json(target.image), "device": where, "emulated": board.emulated} | linux
    )
    return 0


def _update(args: argparse.Namespace, board: Board, port: str | None, console: Console) -> int:
    """Leaves the firmware as it is."""
    from sdk.deploy import prepare
    from sdk.flash import connect
    from sdk.link.device import Device
    from sdk.update import update

    if board.flasher == "ssh" or is_elf(Path(args.model)):
        raise UsageError("--update puts a model into a microcontroller's firmware", "Leave it out.")
    lowered = prepare(model_of(args), board, args.optimize, args.weights_in_ram)
    say_lowered(lowered, console)
    with Device(connect(board, port=port), board_id=board.id) as device:
        update(device, board, lowered, console.progress)
        where = device.transport.name
    console.say(f"{where} runs {Path(args.model).name}, until it is flashed again")
    console.result({**lowered_json(lowered), "board": board.id, "device": where, "emulated": board.emulated})
    return 0


def _install(
    args: argparse.Namespace, board: Board, port: str | None, program: bytes, console: Console
) -> dict[str, Any]:
    """Brings the Python runtime and the model to a Linux board, and starts the service if one is asked for."""
    from sdk.flash.ssh import Host
    from sdk.linux import install_model, install_runtime, restart_service, start_service

    host = Host(board, port)
    install_runtime(host, args.wheels, console.progress)
    installed = install_model(host, Path(args.model), program, console.progress)
    threads = "1 thread" if installed.threads == 1 else f"{installed.threads} threads"
    console.say(f"runtime  {installed.engine}, {threads} (measured), {installed.ms:.2f} ms an inference")
    console.say(f"model    ~/{installed.path}")
    if args.service:
        note = start_service(host, installed)
        console.say(f"service  microlith-{installed.name}{f': {note}' if note else ''}")
    else:
        restart_service(host, installed)
    return {"runtime": vars(installed)}


def _flash_built(elf: Path, board: Board, port: str | None, console: Console) -> int:
    """Flashes an image as it is."""
    from sdk.build import built
    from sdk.deploy import started
    from sdk.flash import flash

    image = built(board, elf)
    with started(board, flash(board, image, port=port, progress=console.progress)) as device:
        where = device.transport.name
    say_image(image, console)
    console.say(f"{where} runs {elf}. See what it says: sdk monitor --board {board.id}")
    console.result({**image_json(image), "device": where, "emulated": board.emulated})
    return 0
