"""sdk lower"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_folder, add_json, add_model, add_optimize, model_of
from sdk.cli.console import Console
from sdk.cli.samples import declared_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdk.boards import Board
    from sdk.graph import Graph
    from sdk.lower import Lowered
    from sdk.target import Target

FAST_NAMED, NAME_CHARS = 3, 40
SUMMARY = "turn a model into C arrays for your own firmware"
DETAILS = """Writes model.c, model.h, kernels.def (the kernels that the model needs), MODEL.mlith (the program as a \
file) and, where the model declares labels or features of sound, declared.c and declared.h; each whole or not at all. \
The arena that the program needs is exact: reserve as much, no more."""
EXAMPLES = (
    "sdk lower model.tflite",
    "sdk lower model.tflite --board microbit -o src/model     # refuses what does not fit the board",
    "sdk lower model.tflite --library -o lib/model            # of a PlatformIO project",
    "sdk lower model.tflite -v                                # the graph after each pass",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    which = parser.add_mutually_exclusive_group()
    add_board(which, required=False)
    which.add_argument("--profile", "-p", metavar="P", help="the cores to pack constants for: portable, arm_dsp, ...")
    add_optimize(parser)
    add_folder(parser, "build/MODEL")
    parser.add_argument(
        "--library",
        action="store_true",
        help="write a PlatformIO library instead: the model with the interpreter and its kernels, for lib/",
    )
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.emit import emit, write_files
    from sdk.files import deliver
    from sdk.fit import check_fits
    from sdk.library import library_files
    from sdk.lower import lower

    board, target = _target(args)
    graph = model_of(args)
    lowered = lower(graph, target, watch=_watch(console) if console.verbose else None)
    if board is not None:
        check_fits(lowered, board, lambda choice: lower(graph, replace(target, optimize=choice)))
    stem = Path(args.model).stem
    folder = args.output or Path("build") / stem
    emitted = emit(lowered, stem, declared_by(args))
    if args.library:
        files = {folder / path: data for path, data in library_files(emitted, stem, target.profile).items()}
        deliver(files)
        paths = list(files)
    else:
        paths = write_files(emitted, folder, stem, Path(args.model).read_bytes())
    say_lowered(lowered, console)
    for path in paths:
        console.say(f"wrote {path}")
    console.result({**lowered_json(lowered), "files": [str(path) for path in paths]})
    return 0


def _target(args: argparse.Namespace) -> tuple[Board | None, Target]:
    from sdk.boards import load_board
    from sdk.errors import UsageError
    from sdk.program import Profile
    from sdk.target import Target

    if args.board is not None:
        board = load_board(args.board)
        return board, board.target(args.optimize, args.weights_in_ram)
    names = [profile.name for profile in Profile]
    if args.profile is not None and args.profile not in names:
        raise UsageError(f"there is no profile '{args.profile}'", f"There are {', '.join(names)}.")
    profile = Profile[args.profile or Profile.portable.name]
    return None, Target(profile, args.optimize, weights_ram_bytes=args.weights_in_ram)


def _watch(console: Console) -> Callable[[str, Graph], None]:
    from sdk.report import graph_text

    last = ""

    def watch(name: str, graph: Graph) -> None:
        nonlocal last
        text = graph_text(graph)
        console.say(f"after {name}: {'no change' if text == last else ''}".rstrip())
        if text != last:
            console.say(f"{text}\n")
        last = text

    return watch


def say_lowered(lowered: Lowered, console: Console) -> None:
    """What a program needs, before anything is built of it."""
    program = lowered.program
    console.say(
        f"arena    {program.arena_bytes:>12,} bytes of RAM (no plan can be below {lowered.plan.lower_bound_bytes:,})"
    )
    if program.fast_bytes:
        names = ", ".join(buffer.label[:NAME_CHARS] for buffer in lowered.fast.buffers[:FAST_NAMED])
        more = len(lowered.fast.buffers) - FAST_NAMED
        others = f" and {more} more" if more > 0 else ""
        console.say(f"fast     {program.fast_bytes:>12,} bytes of fast RAM, for what is used most: {names}{others}")
    if program.state_bytes:
        console.say(f"state    {program.state_bytes:>12,} bytes of RAM")
    if lowered.weights:
        count = sum(each.bytes for each in lowered.weights)
        console.say(f"weights  {count:>12,} bytes of it, those that are read most: {_most(lowered)}")
    console.say(f"program  {len(lowered.block):>12,} bytes of flash, {len(lowered.steps)} steps, {lowered.macs:,} MACs")
    console.say(f"kernels  {', '.join(kernel.name for kernel in lowered.kernels) or 'none'}")


def _most(lowered: Lowered) -> str:
    named = [f"{each.node}, {each.reads:,} times a byte" for each in lowered.weights[:FAST_NAMED]]
    more = len(lowered.weights) - FAST_NAMED
    return "; ".join(named) + (f"; and {more} more" if more > 0 else "")


def lowered_json(lowered: Lowered) -> dict[str, Any]:
    """The same for machines."""
    program = lowered.program
    return {
        "arena_bytes": program.arena_bytes,
        "arena_lower_bound_bytes": lowered.plan.lower_bound_bytes,
        "fast_bytes": program.fast_bytes,
        "state_bytes": program.state_bytes,
        "weights_in_ram": [asdict(each) for each in lowered.weights],
        "program_bytes": len(lowered.block),
        "profile": program.profile.name,
        "macs": lowered.macs,
        "kernels": [kernel.name for kernel in lowered.kernels],
        "steps": [{"name": step.name, "kernel": step.kernel, "macs": step.macs} for step in lowered.steps],
    }
