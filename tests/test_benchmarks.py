"""The committed figures: that they are those of the README, and that they still hold."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from benchmarks import peers
from sdk.boards import load_board
from sdk.errors import MissingToolError
from sdk.target import Optimize

COMMITTED = json.loads(peers.RESULTS.read_text())


def own(board: str = "mps2-an386", optimize: Optimize = Optimize.balanced) -> peers.Setting:
    return peers.Setting("digits", peers.OWN["digits"], load_board(board), optimize)


@pytest.mark.parametrize("page", [peers.README, peers.PERFORMANCE], ids=lambda page: page.name)
def test_pages_have_the_committed_tables(page: Path) -> None:
    text = page.read_text()
    assert peers.with_tables(text, COMMITTED) == text
    assert peers.with_tables(text, {"figures": {}}) != text


def test_the_readme_shows_the_demo_with_the_committed_figures() -> None:
    known, text = COMMITTED["figures"]["mps2-an386"]["balanced"]["digits"], peers.README.read_text()
    each = known["instructions"] / known["macs"]
    for line in (
        f"instructions         {known['instructions']:,} an inference, {each:.2f} a MAC",
        f"arena                {known['arena_bytes']:,} bytes",
        f"program {known['program_bytes']:,}, port ",
    ):
        assert line in text
    parts = re.search(r"interpreter ([\d,]+), kernels ([\d,]+), program", text)
    assert parts is not None
    assert sum(int(part.replace(",", "")) for part in parts.groups()) == known["code_bytes"]


def test_size_is_smallest() -> None:
    """`size` never takes more flash than `balanced`, on any board."""
    for board, rows in COMMITTED["figures"].items():
        for model, balanced in rows["balanced"].items():
            size = rows["size"][model]
            total = {key: row["code_bytes"] + row["program_bytes"] for key, row in (("s", size), ("b", balanced))}
            assert total["s"] <= total["b"], (board, model, total)


def test_each_figure_that_is_worse_is_named() -> None:
    known = COMMITTED["figures"]["mps2-an386"]["balanced"]["digits"]
    for name in peers.FIGURES:
        figures = copy.copy(known)
        assert peers.worse(own(), figures, COMMITTED) == []
        figures[name] += 1
        assert peers.worse(own(), figures, COMMITTED) == [
            f"digits on mps2-an386, balanced: {name} {figures[name]:,}, was {known[name]:,}"
        ]
        figures[name] -= 2
        assert peers.worse(own(), figures, COMMITTED) == []


@pytest.mark.parametrize("optimize", Optimize)
def test_the_committed_figures_of_the_example_hold(optimize: Optimize) -> None:
    setting = own(optimize=optimize)
    try:
        if peers.compilers([setting.board.id]).items() - COMMITTED["compilers"].items():
            pytest.skip("another compiler than that of the committed figures")
        figures = peers.measure(setting)
    except MissingToolError as error:
        pytest.skip(error.message)
    assert peers.worse(setting, figures, COMMITTED) == []
