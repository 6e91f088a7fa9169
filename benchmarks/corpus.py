"""Run folders of .tflite models on a device and print, for each one, whether it computes what the oracles compute.

    python -m benchmarks.corpus MODELS                          every model below a folder, on the host
    python -m benchmarks.corpus MODELS/mcu --board mps2-an386 --match kws --jobs 2
    python -m benchmarks.corpus MODELS --data DATA --json corpus.json

Every output and every intermediate tensor that an oracle keeps is compared with both oracles where both take the model:
over random inputs and, with `--data`, real ones. A model with state is called with them in succession, and its state is
not put back in between. Without folders, $MICROLITH_CORPUS names one. Exit code 1 if any model differs, or failed on
the way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from sdk.boards import Board, load_board
from sdk.build import build
from sdk.emit import emit
from sdk.errors import FitError, InputError, ModelError, SdkError, UnsupportedError
from sdk.flash import flash
from sdk.graph import Array
from sdk.inputs import random_samples, read_samples
from sdk.link.device import Device
from sdk.load import load
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.ops.base import View
from sdk.oracle import IMPLEMENTATIONS
from sdk.piecewise import reference_for
from sdk.program import TensorSpec
from sdk.ranges import input_ranges
from sdk.target import Target
from sdk.verify import verify

STEP_TIMEOUT_S = 600.0
STATEFUL_CALLS = 10  # in succession, at least
REAL_LIMIT = 20  # samples of a file or folder

# Real inputs by the words in a model's name: the files below --data that fit its input.
REAL_INPUTS = {
    "kws_ref": "samples/aww_input/*.bin",
    "vww_96": "samples/vww_input/*.bin",
    "visual_wake_words": "samples/vww_input/*.bin",
    "pretrainedResnet": "samples/resnet_input/*.bin",
    "ToyCar": "samples/toycar_input/*.bin",
    "person_detect": "samples/person_detect_input/*.b*",
    "micro_speech": "samples/micro_speech_input/*.bin",
    "magic_wand": "samples/magic_wand_input/*.bin",
    "cifar10": "samples/cifar10_input/*.bin",
    "audio_preprocessor": "tflm/*.wav",
}


@dataclass
class Row:
    """What became of one model. `oracles` maps each oracle to "exact", to where it differs, or to why it refuses."""

    model: str
    verdict: str = "failed"  # or refused, needs a custom operator, too large, unproven (no oracle), differs, exact
    reason: str = ""
    operators: dict[str, int] = field(default_factory=dict)
    arena_bytes: int = 0
    state_bytes: int = 0
    macs_before: int = 0
    macs_after: int = 0
    random_inputs: int = 0
    real_inputs: int = 0
    compared: int = 0  # values
    oracles: dict[str, str] = field(default_factory=dict)


def corpus_folder() -> Path | None:
    """The folder of public models that $MICROLITH_CORPUS names; None without it."""
    folder = os.environ.get("MICROLITH_CORPUS")
    return Path(folder) if folder else None


def check_model(path: Path, board: Board, data: Path | None = None, count: int = 5) -> Row:
    """Lowers, flashes and verifies one model, layers included."""
    row = Row(path.name)
    try:
        _check(row, path, board, data, count)
    except FitError as error:
        row.verdict, row.reason = "too large", _line(error.message)
    except (ModelError, UnsupportedError) as error:
        row.verdict, row.reason = "refused", _line(error.message)
        missing = [op for op in row.operators if op.startswith("CUSTOM:") and op not in registry().ops]
        if missing and "--ops" in error.remedy:
            row.verdict, row.reason = "needs a custom operator", f"{', '.join(missing)}: {error.remedy}"
    except SdkError as error:
        row.reason = _line(error.message)
    return row


def _check(row: Row, path: Path, board: Board, data: Path | None, count: int) -> None:
    graph = load(path)
    row.operators = dict(Counter(node.op for node in graph.nodes))
    row.macs_before = sum(registry().op(node).macs(View(graph, node)) for node in graph.nodes)
    lowered = lower(graph, Target(profile=board.profile))
    row.arena_bytes, row.state_bytes = lowered.program.arena_bytes, lowered.program.state_bytes
    row.macs_after = lowered.macs
    calls = max(count, STATEFUL_CALLS) if row.state_bytes else count
    chance = [sample.arrays for sample in random_samples(lowered.inputs, calls, 0, input_ranges(graph))]
    real = list(real_inputs(path, lowered.inputs, data))
    row.random_inputs, row.real_inputs = len(chance), len(real)
    with Device(flash(board, build(board, emit(lowered))), board_id=board.id) as device:
        device.open_resident()
        for which in IMPLEMENTATIONS:
            row.oracles[which] = _compare(row, path, which, device, lowered, [*chance, *real])
    found = [text for text in row.oracles.values() if not text.startswith("refuses")]
    row.reason = next(
        (f"{which}: {text}" for which, text in row.oracles.items() if text in found and text != "exact"), ""
    )
    row.verdict = "differs" if row.reason else "exact" if found else "unproven"
    if not found:
        row.reason = "; ".join(f"{which} {text}" for which, text in row.oracles.items())


def _compare(
    row: Row, path: Path, which: str, device: Device, lowered: Lowered, sets: Sequence[Sequence[Array]]
) -> str:
    try:
        oracle = reference_for(path.read_bytes(), which)
    except SdkError as error:
        return f"refuses: {error.message}"
    with oracle:
        try:
            oracle.run(list(sets[0]))
        except SdkError as error:
            return f"refuses: {error.message}"
        verdict = verify(device, lowered, oracle, sets, layers=True, timeout_s=STEP_TIMEOUT_S)
    row.compared += verdict.compared
    return "exact" if verdict.ok else str(verdict.first_difference)


def real_inputs(path: Path, specs: Sequence[TensorSpec], data: Path | None) -> Iterator[tuple[Array, ...]]:
    """The real inputs below `data` that belong to a model and fit its inputs."""
    for words, pattern in REAL_INPUTS.items() if data is not None else ():
        if words in path.name:
            for file in sorted(data.glob(pattern)):
                try:
                    samples = read_samples([file], specs)
                except InputError:  # another form of the model, of another type or size
                    continue
                yield from (sample.arrays for sample in samples[:REAL_LIMIT])


def _line(text: str) -> str:
    return " ".join(text.split())


HEAD = (
    f"{'verdict':<24} {'oracles':<14} {'inputs':>14} {'arena':>11} {'state':>7} {'MACs':>11} {'after passes':>12}"
    "  operators"
)


def print_row(row: Row, width: int) -> None:
    """A line of the table, and one with the reason where the model is not exact."""
    agreed = [which for which, text in row.oracles.items() if text == "exact"]
    oracles = "both" if len(agreed) == len(IMPLEMENTATIONS) else " ".join(agreed) or "-"
    inputs = f"{row.random_inputs}" + (f" + {row.real_inputs} real" if row.real_inputs else "")
    inputs += " calls" if row.state_bytes else ""
    sizes = f"{row.arena_bytes:>11,} {row.state_bytes:>7,} {row.macs_before:>11,} {row.macs_after:>12,}"
    operators = ", ".join(f"{count} {name}" for name, count in sorted(row.operators.items()))
    print(f"{row.model:<{width}} {row.verdict:<24} {oracles:<14} {inputs:>14} {sizes}  {operators}")
    if row.reason:
        print(f"{'':<{width}} {row.reason}")
    sys.stdout.flush()


def summary(rows: Sequence[Row], board: Board) -> Iterator[str]:
    """What the table comes to, in a few lines."""
    counts = Counter(row.verdict for row in rows)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    yield f"{len(rows)} models on {board.id}: {verdicts}"
    both = sum(all(text == "exact" for text in row.oracles.values()) for row in rows if row.verdict == "exact")
    yield f"{both} equal both oracles; the others that are exact equal the one that takes them"
    calls = [row for row in rows if row.verdict == "exact" and row.state_bytes]
    yield f"{len(calls)} have state, compared over {STATEFUL_CALLS} or more successive calls"
    real = sum(row.real_inputs for row in rows)
    yield f"{sum(row.compared for row in rows):,} values compared; {real} of the inputs were real ones"


def model_files(folders: Sequence[Path], match: str) -> list[Path]:
    """The .tflite files in and below `folders`, by name."""
    files = [file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*.tflite"))]
    return [file for file in sorted(files) if match in file.name]


def check_models(files: Sequence[Path], board: str, data: Path | None, count: int, jobs: int) -> Iterator[Row]:
    """The rows of `files` in their order, as they are made by `jobs` processes."""
    work = partial(_check_on, board, data, count)
    if jobs == 1:
        yield from map(work, files)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(work, files)


def _check_on(board: str, data: Path | None, count: int, path: Path) -> Row:
    return check_model(path, load_board(board), data, count)


def main() -> int:
    """Prints a line a model and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="*", help="folders or files; default: $MICROLITH_CORPUS")
    parser.add_argument("--board", default="native", help="board to run on (default: native)")
    parser.add_argument("--match", default="", help="only models whose name contains this")
    parser.add_argument("--data", type=Path, help="folder of real inputs")
    parser.add_argument("--count", type=int, default=5, help="random inputs of a model (default: 5)")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time (default: 1)")
    parser.add_argument("--json", type=Path, help="also write all that is known here, the oracles' refusals included")
    arguments = parser.parse_args()
    files = model_files(arguments.folder or [each for each in [corpus_folder()] if each is not None], arguments.match)
    if not files:
        parser.error("no models: name a folder that holds some, or set MICROLITH_CORPUS")
    board = load_board(arguments.board)
    width = max(len(file.name) for file in files)
    print(f"{'model':<{width}} {HEAD}")
    rows = []
    for row in check_models(files, arguments.board, arguments.data, arguments.count, arguments.jobs):
        rows.append(row)
        print_row(row, width)
        if sys.stderr.isatty():
            print(f"[{len(rows)}/{len(files)}]", end="\r", file=sys.stderr, flush=True)
    print("\n".join(["", *summary(rows, board)]))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 1 if any(row.verdict in ("differs", "failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
