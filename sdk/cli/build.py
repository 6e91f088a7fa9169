"""sdk build"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_folder, add_json, add_model, add_optimize, is_elf, model_of
from sdk.cli.console import Console
from sdk.cli.lower import lowered_json, say_lowered
from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.build import Image
    from sdk.lower import Lowered

SUMMARY = "build the firmware of a board around a model"
DETAILS = """Says what the model needs before anything is compiled, and where each byte of the image goes after it. \
MODEL may also be an .elf file that was built for the board: what other tools flash is made of it then."""
EXAMPLES = (
    "sdk build model.tflite --board mps2-an386",
    "sdk build model.tflite --board microbit -o out --json",
    "sdk build model.tflite --board microbit --recipe -o out",
    "sdk build .pio/build/esp32/firmware.elf --board esp32 -o .",
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
    from sdk.build import built
    from sdk.deploy import make_image, prepare

    board, model = load_board(args.board), Path(args.model)
    folder = args.output or Path("build") / f"{model.stem}-{board.id}"
    if is_elf(model):
        if args.recipe:
            raise UsageError(f"--recipe is made of a model, and {model} is an image", "Give the .tflite file.")
        return _deliver(args, built(board, model), folder, {}, console)
    lowered = prepare(model_of(args), board, args.optimize, args.weights_in_ram)
    say_lowered(lowered, console)
    if args.recipe:
        return _recipe(lowered, board, folder, console)
    return _deliver(args, make_image(lowered, board, console.progress), folder, lowered_json(lowered), console)


def _deliver(args: argparse.Namespace, image: Image, folder: Path, result: dict[str, Any], console: Console) -> int:
    """Writes the image, and what other tools flash."""
    from sdk.files import deliver
    from sdk.flash import by_hand

    model = Path(args.model)
    files = _files(image, folder / model.stem)
    say_image(image, console)
    deliver({path: data for path, data in files.items() if path.absolute() != model.absolute()})
    for path in files:
        console.say(f"wrote {path}")
    how = by_hand(image.board, path)
    if how:
        console.say(f"Flash it: sdk flash {args.model} --board {args.board}\n    or by hand: {how}")
    console.result({**result, **image_json(image), "files": [str(path) for path in files]})
    return 0


def _files(image: Image, stem: Path) -> dict[Path, bytes]:
    from sdk.elf import flash_image

    board, files = image.board, {stem.with_name(f"{stem.name}.elf"): image.elf.read_bytes()}
    if image.file != image.elf:
        files[stem.with_name(f"{stem.name}{image.file.suffix}")] = image.file.read_bytes()
    elif board.linker_script is not None and "boot" not in board.regions:  # one memory: it may be a plain binary
        files[stem.with_name(f"{stem.name}.bin")] = flash_image(image.elf, board.regions["flash"])[1]
    return files


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
