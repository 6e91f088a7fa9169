"""Commands with a board on a serial line: the real firmware at the other end of a pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.boards import BOARDS, load_board
from sdk.cli import main
from sdk.deploy import make_image, prepare
from sdk.errors import LinkError
from sdk.link import connect
from sdk.load import load

MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not on this machine")

Wired = tuple[str, str, "subprocess.Popen[bytes]"]


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    """The file of a board that is flashed by UF2, a port, and the process that runs its firmware there."""
    manifest = json.loads((BOARDS / "native.json").read_text())
    pico = json.loads((BOARDS / "pico.json").read_text())
    manifest["microlith"] |= {"flasher": "uf2", "uf2": pico["microlith"]["uf2"]}
    path = tmp_path / "wired.json"
    path.write_text(json.dumps(manifest))
    manifest["microlith"]["flasher"] = "native"
    manifest["microlith"].pop("uf2")
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "wired.json").write_text(json.dumps(manifest))
    board = load_board(str(tmp_path / "built" / "wired.json"))
    image = make_image(prepare(load(MODEL), board), board)
    master, slave = pty.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    with subprocess.Popen([image.elf], stdin=master, stdout=master) as process:
        os.close(master)
        yield str(path), port, process
        process.kill()
    os.close(slave)


def test_monitor_tells_who_it_is(wired: Wired, capsys: pytest.CaptureFixture[str]) -> None:
    board, port, _ = wired
    assert main(["monitor", "--board", board, "--port", port, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["board_id"], info["emulated"]) == ("wired", False)
    assert info["resident_bytes"] > 0


def test_another_board_is_told(wired: Wired, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "--board", "pico", "--port", wired[1], "--json"]) == 9
    assert "wired" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_unplugged_half_way(wired: Wired) -> None:
    board, port, process = wired
    with connect(load_board(board), port=port) as device:
        device.open_resident()
        process.kill()
        process.wait()
        with pytest.raises(LinkError, match=f"{port} went away"):
            device.reset_state()


def test_port_in_use_names_the_process(wired: Wired, capsys: pytest.CaptureFixture[str]) -> None:
    board, port, _ = wired
    script = f"file = open({port!r}, 'rb'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            assert main(["monitor", "--board", board, "--port", port, "--json"]) == 9
        finally:
            other.kill()
    assert f"(process {other.pid}) uses {port}" in json.loads(capsys.readouterr().out)["error"]["message"]
