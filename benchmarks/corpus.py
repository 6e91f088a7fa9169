"""Run a folder of .tflite models on a device and print, for each one, whether it computes what the oracle computes.

    python benchmarks/corpus.py ../models                     all models, on the host
    python benchmarks/corpus.py ../models/mcu --board mps2-an386 --match kws
    python benchmarks/corpus.py ../models --json corpus.json

Every output and every intermediate tensor that the oracle keeps is compared, over random inputs and, with `--data`,
real ones; stateful models see them in succession. A model that is refused is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from sdk.boards import Board, load_board
from sdk.build import build
from sdk.emit import emit
from sdk.errors import SdkError
from sdk.flash import flash
from sdk.graph import Array, DType, Graph
from sdk.link.device import Device
from sdk.load import load
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.ops.base import View
from sdk.oracle import IMPLEMENTATIONS, Oracle
from sdk.target import Target
from sdk.verify import verify

STATEFUL = {"READ_VARIABLE", "ASSIGN_VARIABLE", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "CUSTOM:CIRCULAR_BUFFER"}
STEP_TIMEOUT_S = 600.0

# Real inputs by the words in a model's name: the folder below --data that holds them as raw bytes.
REAL_INPUTS = {
    "kws_ref": "samples/aww_input",
    "vww_96": "samples/vww_input",
    "pretrainedResnet": "samples/resnet_input",
    "ToyCar": "samples/toycar_input",
    "person_detect": "samples/person_detect_input",
    "micro_speech": "samples/micro_speech_input",
    "magic_wand": "samples/magic_wand_input",
    "cifar10": "samples/cifar10_input",
}


@dataclass
class Row:
    """What became of one model. `oracles` maps each oracle to "exact", to where it differs, or to why it refuses."""

    model: str
    operators: dict[str, int] = field(default_factory=dict)
    arena_bytes: int = 0
    state_bytes: int = 0
    macs_before: int = 0
    macs_after: int = 0
    inputs: int = 0
    oracles: dict[str, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def verdict(self) -> str:
        """refused, unproven (no oracle), differs or exact."""
        if self.refused:
            return "refused"
        results = [text for text in self.oracles.values() if not text.startswith("refuses")]
        if not results:
            return "unproven"
        return "exact" if all(text == "exact" for text in results) else "differs"


def corpus_folder() -> Path | None:
    """The public models, where they are on this machine: $MICROLITH_CORPUS or ../shared/models beside the checkout."""
    named = os.environ.get("MICROLITH_CORPUS")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "models"
    return folder if folder.is_dir() else None


def check_model(path: Path, board: Board, data: Path | None = None, count: int = 5) -> Row:
    """Lowers, flashes and verifies one model, layers included."""
    row = Row(path.name)
    try:
        graph = load(path)
        row.operators = dict(Counter(node.op for node in graph.nodes))
        row.macs_before = sum(registry().op(node).macs(View(graph, node)) for node in graph.nodes)
        lowered = lower(graph, Target(profile=board.profile))
        row.arena_bytes, row.state_bytes = lowered.program.arena_bytes, lowered.program.state_bytes
        row.macs_after = lowered.macs
        rounds = 10 if STATEFUL & set(row.operators) else count
        sets = [*random_inputs(graph, rounds), *real_inputs(path, graph, data)]
        row.inputs = len(sets)
        with Device(flash(board, build(board, emit(lowered))), board_id=board.id) as device:
            device.open_resident()
            for which in IMPLEMENTATIONS:
                row.oracles[which] = _compare(path, which, device, lowered, sets)
    except SdkError as error:
        row.refused = f"{type(error).__name__}: {error.message}"
    return row


def _compare(path: Path, which: str, device: Device, lowered: Lowered, sets: Sequence[Sequence[Array]]) -> str:
    try:
        oracle = Oracle(path.read_bytes(), which)
    except SdkError as error:
        return f"refuses: {error.message}"
    with oracle:
        try:
            oracle.run(list(sets[0]))
        except SdkError as error:
            return f"refuses: {error.message}"
        verdict = verify(device, lowered, oracle, sets, layers=True, timeout_s=STEP_TIMEOUT_S)
    return "exact" if verdict.ok else str(verdict.first_difference)


def random_inputs(graph: Graph, count: int) -> Iterator[tuple[Array, ...]]:
    """`count` sets of inputs over the whole range of their types, always the same."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield tuple(_random(graph, tensor_id, rng) for tensor_id in graph.inputs)


def _random(graph: Graph, tensor_id: int, rng: np.random.Generator) -> Array:
    tensor = graph.tensor(tensor_id)
    if tensor.dtype is DType.FLOAT32:
        values = rng.normal(size=tensor.shape).astype(np.float32)
        # Numbers that become indices must be some: both oracles refuse negative ones.
        return np.abs(values) if any(node.op == "GATHER" for node in graph.nodes) else values
    if tensor.dtype is DType.BOOL:
        return rng.integers(0, 2, tensor.shape).astype(bool)
    limits = np.iinfo(tensor.dtype.numpy)
    low, high = (limits.min, limits.max) if limits.bits <= 16 else (0, 10)
    return rng.integers(low, high, tensor.shape, endpoint=True).astype(tensor.dtype.numpy)


def real_inputs(path: Path, graph: Graph, data: Path | None) -> Iterator[tuple[Array, ...]]:
    """The real inputs below `data` that belong to a model: files with exactly the bytes of its one input."""
    if data is None or len(graph.inputs) != 1:
        return
    tensor = graph.tensor(graph.inputs[0])
    for words, folder in REAL_INPUTS.items():
        if words not in path.name:
            continue
        for file in sorted((data / folder).glob("*.bin")):
            raw = file.read_bytes()
            if len(raw) == tensor.bytes:
                yield (np.frombuffer(raw, tensor.dtype.numpy).reshape(tensor.shape),)


def _print_row(row: Row) -> None:
    operators = " ".join(f"{name}:{count}" for name, count in sorted(row.operators.items()))
    sizes = (
        f"arena {row.arena_bytes:>8,} state {row.state_bytes:>6,} MACs {row.macs_before:>12,} -> {row.macs_after:>12,}"
    )
    print(f"{row.verdict:<9} {row.model:<52} {sizes}  {operators}")
    if row.refused:
        print(f"          {row.refused}")
    for which, text in row.oracles.items():
        if text != "exact":
            print(f"          {which}: {text[:160]}")


def main() -> int:
    """Prints a line a model and the sums; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="*", help="folders or files; default: $MICROLITH_CORPUS")
    parser.add_argument("--board", default="native", help="board to run on")
    parser.add_argument("--match", default="", help="only models whose name contains this")
    parser.add_argument("--data", type=Path, help="folder of real inputs")
    parser.add_argument("--count", type=int, default=5, help="random input sets a model")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    folders = arguments.folder or [folder for folder in [corpus_folder()] if folder is not None]
    if not folders:
        parser.error("name a folder of models, or set MICROLITH_CORPUS")
    files = sorted(file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*.tflite")))
    board = load_board(arguments.board)
    rows = []
    for file in files:
        if arguments.match in file.name:
            rows.append(check_model(file, board, arguments.data, arguments.count))
            _print_row(rows[-1])
            sys.stdout.flush()
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(Counter(row.verdict for row in rows).items())))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) | {"verdict": row.verdict} for row in rows], indent=1))
    return 1 if any(row.verdict == "differs" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
