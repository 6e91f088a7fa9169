"""sdk build"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_folder, add_json, add_model, add_optimize, model_of
from sdk.cli.console import Console
from sdk.cli.lower import lowered_json, say_lowered

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.build import Image
    from sdk.lower import Lowered

SUMMARY = "build the firmware of a board around a model"
DETAILS = "Says what the model needs before anything is compiled, and where each byte of the image goes after it."
EXAMPLES = (
    "sdk build model.tflite --board mps2-an386",
    "sdk build model.tflite --board microbit -o out --json",
    "sdk build model.tflite --board microbit --recipe -o out",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_optimize(parser)
    add_folder(parser, "build/MODEL-BOARD")
    parser.add_argument(
        "--recipe",
        action="store_true",
        help="compile nothing: write model.c, kernels.def and recipe.json, which tells another build system how",
    )
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.boards import load_board
    from sdk.deploy import make_image, prepare
    from sdk.elf import flash_image
    from sdk.files import deliver
    from sdk.flash import by_hand

    board = load_board(args.board)
    lowered = prepare(model_of(args), board, args.optimize, args.weights_in_ram)
    say_lowered(lowered, console)
    stem = Path(args.model).stem
    folder = args.output or Path("build") / f"{stem}-{board.id}"
    if args.recipe:
        return _recipe(lowered, board, folder, console)
    image = make_image(lowered, board, console.progress)
    files = {folder / f"{stem}.elf": image.elf.read_bytes()}
    if image.file != image.elf:
        files[folder / f"{stem}{image.file.suffix}"] = image.file.read_bytes()
    elif board.linker_script is not None and "boot" not in board.regions:  # one memory: it may be a plain binary
        files[folder / f"{stem}.bin"] = flash_image(image.elf, board.regions["flash"])[1]
    say_image(image, console)
    deliver(files)
    for path in files:
        console.say(f"wrote {path}")
    how = by_hand(board, path)
    if how:
        console.say(f"Flash it: sdk flash {args.model} --board {args.board}\n    or by hand: {how}")
    console.result({**lowered_json(lowered), **image_json(image), "files": [str(path) for path in files]})
    return 0


def _recipe(lowered: Lowered, board: Board, folder: Path, console: Console) -> int:
    from sdk.emit import emit
    from sdk.recipe import write_recipe

    paths = write_recipe(board, emit(lowered), folder)
    for path in paths:
        console.say(f"wrote {path}")
    console.result({**lowered_json(lowered), "board": board.id, "files": [str(path) for path in paths]})
    return 0


def say_image(image: Image, console: Console) -> None:
    """Where the bytes of an image go."""
    parts = ", ".join(f"{part} {count:,}" for part, count in image.flash.items())
    console.say(f"flash    {image.flash_bytes:>12,} of {image.board.flash_bytes:,} bytes: {parts}")
    static, stack = image.static_ram_bytes, image.board.stack_bytes
    console.say(
        f"RAM      {static + stack:>12,} of {image.board.ram_bytes:,} bytes beside the model's: "
        f"variables {static:,}, stack {stack:,}; {image.pool_bytes:,} are left for it"
    )


def image_json(image: Image) -> dict[str, Any]:
    """The same for machines."""
    return {
        "board": image.board.id,
        "flash": dict(image.flash),
        "flash_bytes": image.flash_bytes,
        "static_ram_bytes": image.static_ram_bytes,
        "stack_bytes": image.board.stack_bytes,
        "pool_bytes": image.pool_bytes,
    }
