"""docs/porting.md: the port and the board file that it shows are one that works."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from sdk.boards import load_board
from sdk.cli import main

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "digits" / "digits_int8.tflite"
FILES = dict(
    re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", (ROOT / "docs" / "porting.md").read_text(), re.DOTALL)
)
pytestmark = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)


@pytest.fixture
def new_board(tmp_path: Path) -> str:
    """The board file of the page, its port beside it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return str(tmp_path / "lm3s6965evb.json")


def test_five_functions_carry_a_model(new_board: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(FILES) == ["lm3s6965evb.json", "port/lm3s.c"]
    assert main(["verify", str(MODEL), "--board", new_board, "--count", "2", "--layers"]) == 0
    capsys.readouterr()
    assert main(["monitor", "--board", new_board, "--reset", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["board_id"], info["counter_runs"]) == ("lm3s6965evb", True)


def test_its_counter_counts_as_the_same_core_elsewhere(new_board: str, capsys: pytest.CaptureFixture[str]) -> None:
    """QEMU counts instructions, and both boards run the same: but for where flash and RAM lie."""

    def instructions(id_or_path: str) -> int:
        assert main(["bench", str(MODEL), "--board", id_or_path, "--json"]) == 0
        return int(json.loads(capsys.readouterr().out)["instructions"])

    assert load_board(new_board).cpu == load_board("mps2-an385").cpu
    assert instructions(new_board) == pytest.approx(instructions("mps2-an385"), rel=0.01)
