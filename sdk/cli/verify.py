"""sdk verify"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_count, add_inputs, add_json, add_model, add_port, model_of
from sdk.cli.console import Console
from sdk.cli.samples import samples_of
from sdk.errors import VerifyError

if TYPE_CHECKING:
    from sdk.verify import Difference, Verdict

SUMMARY = "check on a board that a model computes what the reference computes"
DETAILS = """Flashes the model, sends it inputs and compares every output with TensorFlow Lite's reference kernels: \
integers bit for bit, float32 within the operator's bound. Exit code 11 if they differ.
--json prints ok, compared, mismatches (both in values) and first_difference (null if there is none)."""
EXAMPLES = (
    "sdk verify model.tflite --board mps2-an386",
    "sdk verify model.tflite --board mps2-an386 --layers          # every tensor between the operators too",
    "sdk verify model.tflite --board native --inputs a.png b.png --json",
    "sdk verify model.tflite --board native --count 100 --seed 7",
)
COUNT = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_port(parser)
    add_inputs(parser)
    add_count(parser, COUNT)
    parser.add_argument(
        "--layers", action="store_true", help="compare every intermediate tensor, and name the first step that differs"
    )
    parser.add_argument(
        "--oracle",
        metavar="NAME",
        help="the reference: tflite-runtime or tflite-micro (default: the first that takes the model)",
    )
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.boards import load_board
    from sdk.deploy import deployed, prepare
    from sdk.piecewise import reference_for
    from sdk.verify import verify
    from sdk.write import write

    board = load_board(args.board)
    graph = model_of(args)
    lowered = prepare(graph, board)
    samples = samples_of(args, lowered.inputs, COUNT, console)
    console.progress("load the oracle")
    with (
        reference_for(write(graph) if args.shape else Path(args.model).read_bytes(), args.oracle) as oracle,
        deployed(lowered, board, port=args.port, progress=console.progress) as target,
    ):
        verdict = verify(
            target.device,
            lowered,
            oracle,
            [sample.arrays for sample in samples],
            args.layers,
            on_progress=lambda done, count: console.progress(f"[{done}/{count}] compared"),
        )
        reference = oracle.name
    _say(verdict, f"{Path(args.model).name} on {board.id} against {reference}", args.layers, console)
    about = {"model": args.model, "board": board.id, "oracle": reference, "layers": args.layers}
    console.result({**_json(verdict), **about})
    return 0 if verdict.ok else VerifyError.exit_code


def _say(verdict: Verdict, what: str, layers: bool, console: Console) -> None:
    times = "once" if verdict.inputs == 1 else f"{verdict.inputs} times"
    values = f"{verdict.compared:,} values of {'every tensor' if layers else 'the outputs'}, run {times}"
    if verdict.ok:
        console.say(f"ok: {what}")
        error = f"within the bounds, at most {verdict.max_abs_error:.3g} apart" if verdict.max_abs_error else "equal"
        console.say(f"{values}: {error}")
        return
    console.say(f"DIFFERENT: {what}")
    console.say(f"{values}: {verdict.mismatches:,} differ")
    if verdict.first_difference is not None:
        console.say(f"first: {verdict.first_difference}")
    if not layers:
        console.say("`--layers` names the first step that differs.")


def _json(verdict: Verdict) -> dict[str, Any]:
    first = verdict.first_difference
    return {
        "ok": verdict.ok,
        "compared": verdict.compared,
        "mismatches": verdict.mismatches,
        "first_difference": None if first is None else _difference(first),
        "inputs": verdict.inputs,
        "max_abs_error": _number(verdict.max_abs_error),
    }


def _difference(first: Difference) -> dict[str, Any]:
    return {**vars(first), "device": _number(first.device), "oracle": _number(first.oracle)}


def _number(value: float) -> float | str:
    """JSON has no infinities."""
    return value if math.isfinite(value) else str(value)
