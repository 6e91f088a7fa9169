"""Arguments that several commands share, each in one place with its help and its completion."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.cli.console import Console
    from sdk.graph import Graph
    from sdk.target import Optimize


def add_model(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument("model", metavar="MODEL", help="a .tflite file")
    complete_files(action, "tflite")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="another shape of an input, for a model that leaves one open: --shape input=1,96,96,3",
    )
    parser.add_argument(
        "--signature", metavar="NAME", help="which signature, of a model that has several (default: its main graph)"
    )


def model_of(args: argparse.Namespace, *, sound: bool = True) -> Graph:
    """The model that the arguments of `add_model` name, loaded; `sound` as of `sdk.load.load`."""
    from sdk.load import load
    from sdk.shapes import parse_shape, with_shapes

    graph = load(args.model, args.signature, sound=sound)
    return with_shapes(graph, dict(map(parse_shape, args.shape)))


def add_board(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    action = parser.add_argument(
        "--board", "-b", required=required, metavar="B", help="a board's id (`sdk boards` lists them), or a board file"
    )
    complete_boards(action)


def add_optimize(parser: argparse.ArgumentParser) -> None:
    """--optimize and --weights-in-ram, of the commands that lower a model."""
    parser.add_argument(
        "--optimize",
        type=_optimize,
        default="balanced",
        metavar="O",
        help="speed (weights may grow), balanced (fast, weights at their own size: the default) or size",
    ).completer = lambda **_: ["speed", "balanced", "size"]  # type: ignore[attr-defined]
    parser.add_argument(
        "--weights-in-ram",
        type=_byte_count,
        default=0,
        metavar="BYTES",
        help="copy so many bytes of the weights that are read most to RAM, for boards with slow flash (default: 0)",
    )


def _byte_count(text: str) -> int:
    try:
        count = int(text.replace(",", "").replace("_", ""), 0)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of bytes")
    return count


def _optimize(text: str) -> Optimize:
    from sdk.target import Optimize

    try:
        return Optimize(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(Optimize)}") from None


def add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        "--host",
        metavar="P",
        help="the port or USB serial number of a real board, if it is not the only one (/dev/ttyACM0, socket://...); "
        "or a way of the board to be flashed: emulator, pyocd, pyocd:SERIAL; of a Linux board, where ssh finds it: "
        "pi@name",
    )


def is_elf(path: Path) -> bool:
    """Whether a file is an image that was built, and no model."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False  # whoever reads it as a model says what is wrong


def board_of(args: argparse.Namespace, console: Console) -> tuple[Board, str | None]:
    """The board and port that the arguments of `add_board` and `add_port` name. Says so if an emulator stands in for a
    board because none is connected."""
    from sdk.boards import load_board
    from sdk.flash import choose

    board = load_board(args.board)
    chosen, port = choose(board, args.port)
    if args.port is None and chosen.flasher != board.flasher:
        console.note(f"no {board.id} is connected: its emulator stands in for it (--port chooses a board)")
    return chosen, port


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_folder(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--output", "-o", type=Path, metavar="DIR", help=f"where to write (default: {default})")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """--inputs and what goes with it."""
    action = parser.add_argument(
        "--inputs",
        "-i",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=".npy, .npz, .png, .jpg, .bmp, .wav or raw bytes; random values without it",
    )
    complete_files(action, "npy", "npz", "png", "jpg", "jpeg", "bmp", "wav", "bin")
    parser.add_argument(
        "--pixel-range",
        nargs=2,
        type=float,
        metavar=("BLACK", "WHITE"),
        help="what black and white are to the model (default: the whole range of a quantized input, 0 1 for float32)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random values (default: 0)")


def add_count(parser: argparse.ArgumentParser, count: int) -> None:
    """--count, with `count` random samples as the default."""
    parser.add_argument(
        "--count",
        "-n",
        type=positive,
        metavar="N",
        help=f"at most N samples (default: {count} random ones, or all given)",
    )


def positive(text: str) -> int:
    """An integer from 1 up, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def not_negative(text: str) -> int:
    """An integer from 0 up, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {value}")
    return value


def complete_files(action: argparse.Action, *suffixes: str) -> None:
    """Lets the shell complete files with these endings."""

    def complete(prefix: str, **_: object) -> list[str]:
        from argcomplete.completers import FilesCompleter

        found: list[str] = FilesCompleter(suffixes)(prefix)
        return found

    action.completer = complete  # type: ignore[attr-defined] # argcomplete's way to be told


def complete_boards(action: argparse.Action) -> None:
    """Lets the shell complete the ids of boards."""
    action.completer = _board_ids  # type: ignore[attr-defined] # argcomplete's way to be told


def _board_ids(**_: object) -> list[str]:
    from sdk.boards import all_boards

    return [board.id for board in all_boards(lambda _fault: None)]
