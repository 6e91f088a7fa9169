"""Boards with fast RAM beside the other, and weights in RAM: what lies where, and that results stay the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdk.boards import Board, load_board
from sdk.build import build
from sdk.cases import run_cases
from sdk.deploy import connected, deployed, prepare
from sdk.emit import emit, emit_every_kernel
from sdk.errors import BoardError, FitError, MissingToolError
from sdk.inputs import random_samples
from sdk.link.device import Device
from sdk.load import load
from sdk.lower import Lowered, lower
from sdk.oracle import Oracle
from sdk.paths import BOARDS
from sdk.program import Profile, Region
from sdk.target import Target
from sdk.verify import verify

DIGITS = BOARDS.parent / "examples" / "digits" / "digits_int8.tflite"
RAM_ORIGIN, RAM_BYTES = 0x20100000, 3 << 20
OPERATORS = ("CONCATENATION", "IF", "SPLIT", "SVDF", "WHILE")


def manifest(fast_bytes: int, origin: int = 0x20000000) -> dict[str, Any]:
    """The emulated Cortex-M4 with a part of its RAM called fast."""
    values: dict[str, Any] = json.loads((BOARDS / "mps2-an386.json").read_text())
    values["upload"]["maximum_ram_size"] = RAM_BYTES
    values["microlith"]["regions"]["ram"] = {"origin": RAM_ORIGIN, "bytes": RAM_BYTES}
    values["microlith"]["regions"]["fast"] = {"origin": origin, "bytes": fast_bytes}
    return values


def board_with(tmp_path: Path, fast_bytes: int, **how: int) -> Board:
    path = tmp_path / "two-rams.json"
    path.write_text(json.dumps(manifest(fast_bytes, **how)))
    return load_board(str(path))


def exact(lowered: Lowered, board: Board) -> bool:
    """Whether every tensor on the emulated board is the oracle's; skips without the emulator."""
    try:
        with deployed(lowered, board) as target, Oracle(DIGITS.read_bytes()) as oracle:
            inputs = [sample.arrays for sample in random_samples(lowered.inputs, 2, 0)]
            verdict = verify(target.device, lowered, oracle, inputs, layers=True)
    except MissingToolError as error:
        pytest.skip(error.message)
    assert verdict.ok, verdict.first_difference
    return verdict.ok


@pytest.mark.parametrize("fast_bytes", [256, 1024, 1 << 16])
def test_exact_with_a_part_in_fast_ram(fast_bytes: int, tmp_path: Path) -> None:
    board = board_with(tmp_path, fast_bytes)
    graph = load(DIGITS)
    lowered = prepare(graph, board)
    program = lowered.program
    whole = prepare(graph, load_board("mps2-an386")).program.arena_bytes
    assert 0 < program.fast_bytes <= fast_bytes
    assert (program.arena_bytes == 0) == (fast_bytes >= whole)
    assert program.arena_bytes + program.fast_bytes >= whole
    assert exact(lowered, board)


def test_what_is_used_most_is_fast(tmp_path: Path) -> None:
    """A byte in fast RAM is read and written more than one in the other."""
    lowered = prepare(load(DIGITS), board_with(tmp_path, 1024))
    operands = [operand for step in lowered.program.steps for operand in step.operands]
    moved = {region: sum(o.bytes for o in operands if o.region is region) for region in (Region.FAST, Region.ARENA)}
    held = {Region.FAST: lowered.fast.buffers, Region.ARENA: lowered.plan.buffers}
    density = {region: moved[region] / sum(b.size for b in buffers) for region, buffers in held.items()}
    assert density[Region.FAST] > density[Region.ARENA]


def test_weights_in_ram_are_those_read_most() -> None:
    graph, board = load(DIGITS), load_board("mps2-an386")
    plain, whole = prepare(graph, board), prepare(graph, board, weights_ram_bytes=1 << 20)
    some = prepare(graph, board, weights_ram_bytes=2048)
    assert plain.weights == ()
    assert plain.program.state_bytes == 0
    assert whole.program.constants == b""
    assert whole.program.arena_bytes == plain.program.arena_bytes
    assert 0 < some.program.state_bytes <= 2048
    left = [each for each in whole.weights if each not in some.weights]
    chosen, other = (
        sum(each.reads * each.bytes for each in w) / sum(each.bytes for each in w) for w in (some.weights, left)
    )
    assert chosen > other


@pytest.mark.parametrize("fast_bytes", [1024, 1 << 16])
def test_exact_with_weights_in_ram(fast_bytes: int, tmp_path: Path) -> None:
    """In the other RAM, and behind the arena in fast RAM."""
    board = board_with(tmp_path, fast_bytes)
    lowered = prepare(load(DIGITS), board, weights_ram_bytes=6000)
    assert sum(each.bytes for each in lowered.weights) > 4000
    assert exact(lowered, board)


@pytest.fixture(scope="module")
def host() -> Iterator[Device]:
    with connected(load_board("native"), emit_every_kernel(Profile.portable)).device as device:
        yield device


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_with_parts_in_either_ram(name: str, host: Device) -> None:
    """Jumps, loops and state among them."""
    outcomes = list(run_cases(name, host, Target(fast_bytes=64, weights_ram_bytes=64), every=3))
    assert any(outcome.ran for outcome in outcomes)
    assert [outcome for outcome in outcomes if outcome.fault] == []


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (RAM_ORIGIN, "ram overlaps fast"),
        (RAM_ORIGIN - 8192, "guard the stack"),
        (0x3FF000, "flash overlaps fast"),
        (0x20000008, "multiple of 16"),
    ],
)
def test_fast_ram_lies_apart(origin: int, text: str, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=text):
        board_with(tmp_path, 8192, origin=origin)


def test_a_program_for_another_board_is_refused() -> None:
    graph, board = load(DIGITS), load_board("mps2-an386")
    try:
        with pytest.raises(FitError, match="fast RAM, and mps2-an386 has 0"):
            build(board, emit(lower(graph, Target(board.profile, fast_bytes=4096))))
    except MissingToolError as error:
        pytest.skip(error.message)
