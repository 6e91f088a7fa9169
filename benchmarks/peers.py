"""Measure the figures of the README against those of peers, and fail where one has become worse.

    python -m benchmarks.peers MODELS                 everything, compared with benchmarks/results.json
    python -m benchmarks.peers MODELS --match kws --board mps2-an386
    python -m benchmarks.peers MODELS --update        writes results.json, the tables of README and docs, the picture

MODELS is the folder with the public models that benchmarks/peers.json names (or $MICROLITH_CORPUS/mcu); without it only
the project's own example is measured. Instructions are counted by emulators and repeat exactly, with the same compiler.
Exit code 1 where a figure is worse than the committed one. The picture needs matplotlib: pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk.bench import bench
from sdk.boards import Board, load_board
from sdk.deploy import deployed, prepare
from sdk.estimate import CORES, estimate
from sdk.inputs import random_samples
from sdk.load import load
from sdk.program import Profile
from sdk.target import Optimize
from sdk.tools import find_tool, programs

HERE = Path(__file__).parent
PEERS = HERE / "peers.json"
RESULTS = HERE / "results.json"
README = HERE.parent / "README.md"
PERFORMANCE = HERE.parent / "docs" / "performance.md"
PICTURE = HERE.parent / "docs" / "benchmarks.svg"
OWN = {"digits": HERE.parent / "examples" / "digits" / "digits_int8.tflite"}
BOARDS = {
    "mps2-an386": "Cortex-M4",
    "mps2-an385-m0plus": "Cortex-M0+",
    "mps3-an547": "Cortex-M55",
    "riscv32-virt": "RISC-V",
    "xtensa-sim": "Xtensa",
}
FIGURES = ("instructions", "cycles", "arena_bytes", "code_bytes", "program_bytes", "start_instructions")

Results = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One measurement: a model for a board and a trade."""

    model: str
    path: Path
    board: Board
    optimize: Optimize

    @property
    def label(self) -> str:
        return f"{self.model} on {self.board.id}, {self.optimize}"


def settings(
    folder: Path | None, boards: Sequence[str], match: str, trades: Sequence[Optimize] = tuple(Optimize)
) -> Iterator[Setting]:
    """All that is to be measured. Where a profile has no variants, every trade gives the same program."""
    peers = json.loads(PEERS.read_text())["models"]
    paths = OWN | {name: folder / peer["file"] for name, peer in peers.items() if folder is not None}
    for board_id in boards:
        board = load_board(board_id)
        for optimize in trades if board.profile is not Profile.portable else trades[:1]:
            for name, path in paths.items():
                if re.search(match, name):
                    yield Setting(name, path, board, optimize)


def measure(setting: Setting) -> Results:
    """The `FIGURES` of one setting; cycles only for cores whose timings are known."""
    lowered = prepare(load(setting.path), setting.board, setting.optimize)
    sample = next(iter(random_samples(lowered.inputs, 1, 0)))
    with deployed(lowered, setting.board) as target:
        cycles = None
        if setting.board.cpu in CORES:
            cycles = estimate(target, sample.arrays, setting.board.cpu).cycles
        measured = bench(target, lowered, sample.arrays)
    return {
        "macs": measured.macs,
        "instructions": measured.cost,
        "cycles": cycles,
        "arena_bytes": measured.arena_bytes,
        "code_bytes": measured.flash["interpreter"] + measured.flash["kernels"],
        "program_bytes": measured.flash["program"],
        "start_instructions": measured.start,
    }


def worse(setting: Setting, figures: Results, committed: Results) -> list[str]:
    """What has become worse, in words."""
    known = committed["figures"].get(setting.board.id, {}).get(setting.optimize, {}).get(setting.model, {})
    return [
        f"{setting.label}: {name} {figures[name]:,}, was {known[name]:,}"
        for name in FIGURES
        if known.get(name) is not None and figures[name] is not None and figures[name] > known[name]
    ]


def compilers(boards: Sequence[str]) -> dict[str, str]:
    """The version of each board's compiler: figures of another one are no comparison."""
    names = sorted({name for board in boards for name in programs(load_board(board).compiler)})
    return {name: _version(find_tool(name)) for name in names}


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(?<![\d.])\d+\.\d+(\.\d+)*(?![\d.])", said)
    return found[0] if found else said


def table(results: Results) -> str:
    """The README's table, in Markdown."""
    peers = json.loads(PEERS.read_text())["models"]
    lines = [
        "| model | core | instructions: speed, balanced, size | TFLM | arena | TFLM | code | TFLM |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, peer in peers.items():
        for board, core in BOARDS.items():
            rows = {optimize: results["figures"].get(board, {}).get(optimize, {}).get(name) for optimize in Optimize}
            balanced = rows[Optimize.balanced]
            if balanced is None:
                continue
            counts = " · ".join(f"{row['instructions']:,}" for row in rows.values() if row)
            theirs = [peer[key].get(board) for key in ("instructions", "code_bytes")]
            other = [f"{value:,}" if value else "" for value in theirs]
            lines.append(
                f"| {name} | {core} | {counts} | {other[0]} | {balanced['arena_bytes']:,} | {peer['arena_bytes']:,} "
                f"| {balanced['code_bytes']:,} | {other[1]} |"
            )
    return "\n".join(lines)


def cycle_table(results: Results) -> str:
    """The table of estimated cycles of docs/performance.md, in Markdown."""
    peers = json.loads(PEERS.read_text())["models"]
    lines = ["| model | speed | balanced | TFLM | best on silicon |", "|---|---|---|---|---|"]
    for name, peer in peers.items():
        rows = results["figures"].get("mps2-an386", {})
        ours = [rows.get(optimize, {}).get(name, {}).get("cycles") for optimize in (Optimize.speed, Optimize.balanced)]
        figures = (*ours, peer["cycles"].get("mps2-an386"), peer.get("best_silicon_m4_cycles"))
        lines.append(f"| {name} | {' | '.join(f'{figure:,}' if figure else '' for figure in figures)} |")
    return "\n".join(lines)


def with_tables(text: str, results: Results) -> str:
    """`text` with each table between its marks."""
    for name, made in (("benchmarks", table), ("cycles", cycle_table)):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if begin in text:
            head, rest = text.split(begin)
            text = head + begin + made(results) + "\n" + end + rest.split(end)[1]
    return text


def draw(results: Results, path: Path) -> None:
    """Bars of peer / ours by model and core: how many times fewer instructions."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "microlith"  # the same figures give the same file
    from matplotlib import pyplot as plt

    peers = json.loads(PEERS.read_text())["models"]
    boards = [board for board in BOARDS if any(board in peer["instructions"] for peer in peers.values())]
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(boards)
    for i, board in enumerate(boards):
        ours = results["figures"].get(board, {}).get(Optimize.balanced, {})
        names = [name for name in peers if name in ours]
        ratios = [peers[name]["instructions"][board] / ours[name]["instructions"] for name in names]
        bars = axes.bar([list(peers).index(name) + i * width for name in names], ratios, width, label=BOARDS[board])
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xticks([k + width * (len(boards) - 1) / 2 for k in range(len(peers))], list(peers))
    axes.set_ylabel("times fewer instructions")
    axes.set_title("One inference against TensorFlow Lite Micro with CMSIS-NN (--optimize balanced)")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def say(setting: Setting, figures: Results) -> None:
    """A line of the report."""
    cycles = f"{figures['cycles']:>12,} cycles" if figures["cycles"] else " " * 19
    print(
        f"{setting.label:<40} {figures['instructions']:>12,} instructions {cycles} {figures['arena_bytes']:>7,} arena "
        f"{figures['code_bytes']:>7,} code {figures['start_instructions']:>7,} start",
        flush=True,
    )


def main() -> int:
    """Measures and compares; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("MICROLITH_CORPUS")
    parser.add_argument("models", nargs="?", type=Path, default=Path(root) / "mcu" if root else None)
    parser.add_argument("--board", action="append", help="may be repeated; default: all of the table")
    parser.add_argument("--match", default="", help="a regular expression that models' names must have")
    parser.add_argument("--optimize", type=Optimize, action="append", help="may be repeated; default: all")
    parser.add_argument("--update", action="store_true", help="take what is measured as the committed figures")
    args = parser.parse_args()
    boards = args.board or list(BOARDS)
    committed = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"compilers": {}, "figures": {}}
    versions = compilers(boards)
    same = all(committed["compilers"].get(name, version) == version for name, version in versions.items())
    if not same:
        print(f"compilers {versions} are not those of the committed figures: not compared", file=sys.stderr)
    faults: list[str] = []
    for setting in settings(args.models, boards, args.match, args.optimize or tuple(Optimize)):
        figures = measure(setting)
        say(setting, figures)
        faults += worse(setting, figures, committed) if same else []
        board = committed["figures"].setdefault(setting.board.id, {})
        board.setdefault(str(setting.optimize), {})[setting.model] = figures
    if args.update:
        committed["compilers"] |= versions
        RESULTS.write_text(json.dumps(committed, indent=1, sort_keys=True) + "\n")
        for page in (README, PERFORMANCE):
            page.write_text(with_tables(page.read_text(), committed))
        draw(committed, PICTURE)
    print("\n".join(faults) or "no figure is worse than the committed one")
    return 1 if faults and not args.update else 0


if __name__ == "__main__":
    sys.exit(main())
