"""sdk verify"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sdk.cli.arguments import (
    add_board,
    add_count,
    add_folder,
    add_inputs,
    add_json,
    add_model,
    add_optimize,
    add_port,
    board_of,
    model_of,
)
from sdk.cli.console import Console
from sdk.cli.samples import declared_by, samples_of
from sdk.errors import UsageError, VerifyError

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.dataset import Scores
    from sdk.graph import Graph
    from sdk.link.device import Device
    from sdk.lower import Lowered
    from sdk.verify import Difference, Verdict

SUMMARY = "check on a board that a model computes what the reference computes"
DETAILS = """Flashes the model, sends it inputs and compares every output with TensorFlow Lite's reference kernels: \
integers bit for bit, float32 within the operator's bound. Exit code 11 if they differ.
--json prints ok, compared, mismatches (both in values) and first_difference (null if there is none).

--dataset takes labelled samples: an .npz with x and y (or images and labels, inputs and labels, x_test and y_test), a \
folder with a subfolder for each class, or a .csv of file,label. The class is the index of the first output's largest \
value. Both accuracies are printed, and each sample whose class differs between device and oracle; that too is exit \
code 11. --json adds samples, device_accuracy, oracle_accuracy (of 1) and disagreements.

--camera records frames, on a Linux board with its own camera and Python runtime (the engine microlith, or that of \
--engine), and brings them back with the inputs they became and the outputs computed. Frames that differ are written \
to --output. --json prints ok, frames and differing."""
EXAMPLES = (
    "sdk verify model.tflite --board mps2-an386",
    "sdk verify model.tflite --board mps2-an386 --layers          # every tensor between the operators too",
    "sdk verify model.tflite --board native --inputs a.png b.png --json",
    "sdk verify model.tflite --board native --count 100 --seed 7",
    "sdk verify model.tflite --board mps2-an386 --dataset test.npz --count 1000",
    "sdk verify model.tflite --board rpi4 --host pi@raspberrypi.local --camera",
    "sdk verify model.tflite --board mps2-an386 --camera photos/",
)
COUNT = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_optimize(parser)
    add_port(parser)
    add_inputs(parser)
    add_count(parser, COUNT)
    parser.add_argument(
        "--dataset", type=Path, metavar="PATH", help="labelled samples: .npz, .csv or a folder of folders; see above"
    )
    parser.add_argument(
        "--camera",
        nargs="?",
        const="",
        metavar="SOURCE",
        help="frames of a Linux board's camera, or of this SOURCE there; for other boards of a SOURCE of this computer "
        "(see sdk camera)",
    )
    parser.add_argument(
        "--layers", action="store_true", help="compare every intermediate tensor, and name the first step that differs"
    )
    parser.add_argument(
        "--oracle",
        metavar="NAME",
        help="the reference: tflite-runtime or tflite-micro (default: the first that takes the model)",
    )
    parser.add_argument(
        "--engine",
        choices=("litert", "tflite", "microlith"),
        help="on a Linux board: let this engine of its Python runtime compute, instead of the image",
    )
    parser.add_argument("--reference-kernels", action="store_true", help="with --engine: its exact, slow kernels")
    add_folder(parser, "build/frames-MODEL-BOARD, for --camera: frames that differ")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.deploy import prepare
    from sdk.piecewise import reference_for
    from sdk.verify import verify

    if args.reference_kernels and args.engine is None:
        raise UsageError("--reference-kernels are those of an engine", "Name it with --engine.")
    if args.camera is not None and (args.inputs or args.dataset or args.layers):
        raise UsageError("--camera was given with other inputs, or with --layers", "Leave one of them out.")
    if args.output and args.camera is None:
        raise UsageError("--output is for the frames of --camera", "Leave it out.")
    board, port = board_of(args, console)
    graph = model_of(args)
    lowered = prepare(graph, board, args.optimize, args.weights_in_ram)
    if args.camera is not None:
        from sdk.cli.verify_frames import verify_frames

        with reference_for(_bytes(args, graph), args.oracle) as oracle:
            return verify_frames(args, lowered, board, port, oracle, console)
    scores = _labelled(args, lowered, console) if args.dataset else None
    if scores is not None:
        samples = [each.sample for each in scores.labelled]
    else:
        samples = samples_of(args, graph, lowered.inputs, COUNT, console)
    console.progress("load the oracle")
    with (
        reference_for(_bytes(args, graph), args.oracle) as oracle,
        _device(args, lowered, board, port, console) as device,
    ):
        verdict = verify(
            device,
            lowered,
            oracle,
            [sample.arrays for sample in samples],
            args.layers,
            on_progress=lambda number, count: console.progress(f"inference {number} of {count}"),
            on_outputs=None if scores is None else scores.add,
        )
        reference = oracle.name
    ok = verdict.ok and (scores is None or not scores.disagreements)
    _say(verdict, ok, f"{Path(args.model).name} on {board.id} against {reference}", args.layers, console)
    if scores is not None:
        _say_scores(scores, lowered, console)
    about = {
        "model": args.model,
        "board": board.id,
        "emulated": board.emulated,
        "oracle": reference,
        "layers": args.layers,
    }
    console.result({**_json(verdict, ok), **(_scores_json(scores) if scores is not None else {}), **about})
    return 0 if ok else VerifyError.exit_code


def _bytes(args: argparse.Namespace, graph: Graph) -> bytes:
    """The model as the oracle gets it."""
    from sdk.write import write

    return write(graph) if args.shape or args.signature else Path(args.model).read_bytes()


@contextmanager
def _device(
    args: argparse.Namespace, lowered: Lowered, board: Board, port: str | None, console: Console
) -> Iterator[Device]:
    """The board with the model flashed; with --engine a Linux board on which that engine runs it."""
    from sdk.deploy import deployed

    if args.engine is None:
        with deployed(lowered, board, port=port, progress=console.progress) as target:
            yield target.device
        return
    if board.flasher != "ssh" or args.layers:
        raise UsageError("--engine is for the outputs of Linux boards", "Leave it out, or leave out --layers.")
    from sdk.flash.ssh import Host
    from sdk.linux import install_model, install_runtime
    from sdk.remote import RemoteRuntime

    host = Host(board, port)
    install_runtime(host, progress=console.progress)
    installed = install_model(host, Path(args.model), lowered.block, console.progress)
    with RemoteRuntime(host, installed.path, args.engine, reference=args.reference_kernels) as remote:
        yield cast("Device", remote)  # all of it that is asked for without layers


def _labelled(args: argparse.Namespace, lowered: Lowered, console: Console) -> Scores:
    """What --dataset names, to be scored."""
    from sdk.dataset import Scores, read_dataset

    if args.inputs:
        raise UsageError("--inputs and --dataset were both given", "Give one of them.")
    if not lowered.outputs:
        raise UsageError("the model has no outputs, so it gives no class", "Verify it without --dataset.")
    pixel_range = tuple(args.pixel_range) if args.pixel_range else None
    console.progress("read the data set")
    labelled = read_dataset(
        args.dataset, lowered.inputs, lowered.outputs[0], pixel_range, args.count, console.note, declared_by(args)
    )
    return Scores(labelled)


def _say_scores(scores: Scores, lowered: Lowered, console: Console) -> None:
    count = len(scores.labelled)
    for name, right in (("device", scores.device_right), ("oracle", scores.oracle_right)):
        console.say(f"{name:<6}  {right:,} of {count:,} right, {right / count:.2%}")
    found = scores.disagreements
    console.say(f"{len(found):,} of {count:,} classes differ (the largest value of '{lowered.outputs[0].name}')")
    rows = [[each.sample, str(each.label), str(each.device), str(each.oracle)] for each in found]
    console.table(["sample", ">label", ">device", ">oracle"], rows)


def _scores_json(scores: Scores) -> dict[str, Any]:
    count = len(scores.labelled)
    return {
        "samples": count,
        "device_accuracy": scores.device_right / count,
        "oracle_accuracy": scores.oracle_right / count,
        "disagreements": [vars(each) for each in scores.disagreements],
    }


def _say(verdict: Verdict, ok: bool, what: str, layers: bool, console: Console) -> None:
    times = "once" if verdict.inputs == 1 else f"{verdict.inputs} times"
    values = f"{verdict.compared:,} values of {'every tensor' if layers else 'the outputs'}, run {times}"
    console.say(f"ok: {what}" if ok else f"DIFFERENT: {what}")
    if verdict.ok:
        error = f"within the bounds, at most {verdict.max_abs_error:.3g} apart" if verdict.max_abs_error else "equal"
        console.say(f"{values}: {error}")
        return
    console.say(f"{values}: {verdict.mismatches:,} differ")
    if verdict.first_difference is not None:
        console.say(f"first: {verdict.first_difference}")
    if not layers:
        console.say("`--layers` names the first step that differs.")


def _json(verdict: Verdict, ok: bool) -> dict[str, Any]:
    first = verdict.first_difference
    return {
        "ok": ok,
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
