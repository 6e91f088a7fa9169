"""What keeps a board from being flashed is said before its image is built."""

from __future__ import annotations

import importlib
import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serial.tools import list_ports

from sdk.boards import load_board
from sdk.cli import main
from sdk.deploy import deployed, prepare
from sdk.errors import LinkError
from sdk.load import load

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits_int8.tflite"
Refuse = Callable[..., str]


@pytest.fixture
def terminal() -> Iterator[str]:
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """A function that flashes in vain, with no USB port at this computer; what is said then. Nothing was compiled."""
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(list_ports, "comports", list)

    def flash(board: str, *words: str, code: int = 9) -> str:
        assert main(["flash", str(DIGITS), "--board", board, *words, "--json"]) == code
        assert not (tmp_path / "cache" / "build").exists()
        return str(json.loads(capsys.readouterr().out)["error"]["message"])

    return flash


@pytest.mark.parametrize("name", ["esp32", "esp32c3", "pico", "nucleo-f446re", "nrf52840-dk"])
def test_no_board(refused: Refuse, name: str) -> None:
    if "pyocd" in load_board(name).flashers:
        pytest.importorskip("pyocd", reason="pyOCD is not installed: pip install -e '.[flash]'")
    assert f"no {name} is connected" in refused(name)
    assert refused(name, "--port", "/dev/ttyNONE9") == "there is no port /dev/ttyNONE9"


def test_port_in_use(refused: Refuse, terminal: str) -> None:
    with Path(terminal).open("rb") as stream, subprocess.Popen(["sleep", "60"], stdin=stream) as process:
        said = refused("esp32", "--port", terminal)
        process.kill()
    assert f"sleep (process {process.pid}) uses {terminal}" in said


def test_board_that_is_not_in_its_boot_loader(refused: Refuse, terminal: str) -> None:
    assert "no drive RPI-RP2 is there" in refused("pico", "--port", terminal)


def test_no_probe(refused: Refuse, terminal: str) -> None:
    pytest.importorskip("pyocd", reason="pyOCD is not installed: pip install -e '.[flash]'")
    swd = pytest.importorskip("swd")
    with swd.emulated_probes(Path(), []):
        assert "no debug probe is connected" in refused("nrf52840-dk", "--port", terminal)


def test_chip_without_its_pack(refused: Refuse, terminal: str, tmp_path: Path) -> None:
    pytest.importorskip("pyocd", reason="pyOCD is not installed: pip install -e '.[flash]'")
    manifest = json.loads(load_board("nrf52840-dk").path.read_text())
    manifest["microlith"]["pyocd"]["target"] = "stm32f999zz"
    (tmp_path / "own.json").write_text(json.dumps(manifest))
    said = refused(str(tmp_path / "own.json"), "--port", terminal, code=8)
    assert said == "pyOCD does not know stm32f999zz, the chip of own"


def test_no_emulator(refused: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever compilers there are."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused("mps2-an386", code=8).startswith("the program qemu-system-arm is missing")


@pytest.mark.parametrize(("name", "package"), [("esp32", "esptool"), ("nucleo-f446re", "pyocd")])
def test_no_flasher(refused: Refuse, monkeypatch: pytest.MonkeyPatch, name: str, package: str, terminal: str) -> None:
    module = importlib.import_module(f"sdk.flash.{package}")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    assert f"package {package} is missing" in refused(name, "--port", terminal, code=8)


def test_nothing_is_made_for_a_program_that_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the SDK is a library."""
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    board = load_board("esp32")
    with (
        pytest.raises(LinkError, match="there is no port /dev/ttyNONE9"),
        deployed(prepare(load(DIGITS), board), board, port="/dev/ttyNONE9"),
    ):
        pytest.fail("it was flashed")
    assert not (tmp_path / "build").exists()
