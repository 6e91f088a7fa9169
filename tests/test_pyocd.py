"""Flashing by debug probe: pyOCD's own session, with an emulated probe (tests/swd.py) where it needs one."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from board_line import ask, wake
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from sdk.boards import Board, all_boards, load_board
from sdk.build import Image, Source, build_image, firmware_sources
from sdk.elf import flash_image
from sdk.errors import LinkError, MissingToolError, ToolError
from sdk.flash import connect, flash, package

pytest.importorskip("pyocd", reason="pyOCD is not installed: pip install -e '.[flash]'")
if shutil.which("qemu-system-arm") is None:
    pytest.skip("qemu-system-arm is not on this machine", allow_module_level=True)

from swd import EmulatedProbe, Machine, emulated_probes

module = importlib.import_module("sdk.flash.pyocd")
FIRMWARE = Path(__file__).parent / "c" / "board.c"
BOARDS = [board for board in all_boards() if "pyocd" in board.flashers]


@pytest.fixture(autouse=True)
def no_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyOCD leaves its archive of chips' registers open, which nobody asks for here."""
    from pyocd.debug.svd.loader import SVDFile

    monkeypatch.setattr(SVDFile, "from_builtin", lambda _name: None)


@pytest.fixture(scope="module")
def image() -> Image:
    board = load_board("microbit")
    ports = [source for source in firmware_sources(board) if source.folder.startswith("port/")]
    try:
        return build_image(board, [*ports, Source(FIRMWARE, "port/test", shared=False)], {})
    except MissingToolError as error:
        pytest.skip(error.message)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with emulated_probes(tmp_path, ["0123"]) as [found]:
        yield found


def variant(board: Board, **options: object) -> Board:
    flashers = {**board.flashers, "pyocd": {**board.flashers["pyocd"], **options}}
    return replace(board, flashers=flashers)


def test_image_is_flashed_started_and_reset(image: Image, machine: Machine) -> None:
    """By pyOCD's flash algorithm on the emulated core, over the emulated flash controller."""
    said: list[str] = []
    line = flash(image.board, image, port=machine.serial, progress=said.append)
    assert said[-1] == "flash microbit by emulated probe: 100 %"
    wake(line)
    assert ask(line, "v") == 0x12345678
    assert ask(line, "v") != 0x12345678
    line.reset()
    wake(line)
    assert ask(line, "v") == 0x12345678
    line.close()
    again = connect(image.board, port=machine.serial)
    assert ask(again, "v") != 0x12345678
    again.close()


@pytest.mark.usefixtures("machine")
def test_port_that_does_not_open(image: Image) -> None:
    """Nothing is written: nobody would hear the board."""
    told: list[str] = []
    with pytest.raises(LinkError, match="cannot connect to socket"):
        flash(image.board, image, port="socket://127.0.0.1:9", progress=told.append)
    assert not [text for text in told if "%" in text]


def test_another_chip_is_left_alone(image: Image, machine: Machine) -> None:
    board = variant(image.board, id_value=0xC600)
    with pytest.raises(LinkError, match=r"not that of microbit: it says 0xc200, and nrf51822 says 0xc600") as error:
        flash(board, image, port=machine.serial)
    assert "nothing was written" in error.value.remedy


def test_target_without_its_pack(image: Image, machine: Machine) -> None:
    board = variant(image.board, target="stm32f999zz")
    with pytest.raises(ToolError, match="pyOCD does not know stm32f999zz") as error:
        flash(board, image, port=machine.serial)
    assert "pyocd pack install stm32f999zz" in error.value.remedy


def test_no_probe(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USB_DEVICES", tmp_path)
    with emulated_probes(tmp_path, []):
        with pytest.raises(LinkError, match="no debug probe is connected"):
            flash(image.board, image, port="socket://127.0.0.1:9")
        for key, text in {"idVendor": "0483", "idProduct": "374b", "busnum": "1", "devnum": "200"}.items():
            (tmp_path / "1-1").mkdir(exist_ok=True)
            (tmp_path / "1-1" / key).write_text(text + "\n")
        with pytest.raises(LinkError, match="no permission to use the ST-Link at /dev/bus/usb/001/200") as error:
            flash(image.board, image, port="socket://127.0.0.1:9")
        assert 'ATTRS{idVendor}=="0483", ATTRS{idProduct}=="374b"' in error.value.remedy


def test_two_probes(image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of the serial port is taken, if it has one."""
    with emulated_probes(tmp_path, []):
        monkeypatch.setattr(EmulatedProbe, "machines", {"066A": None, "00077": None})
        with pytest.raises(LinkError, match=r"2 debug probes are connected: 00077 .*066A"):
            flash(image.board, image, port="socket://127.0.0.1:9")
        assert module._probe(image.board, module.Wanted("066a", True)).unique_id == "066A"
        assert module._probe(image.board, module.Wanted("77", False)).unique_id == "00077"


def test_probe_of_another_board_is_left_alone(image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the port is a probe's, or was given by its number; a plain adapter goes with the only probe."""
    port = ListPortInfo("/dev/null")
    port.serial_number = "AAA1"
    monkeypatch.setattr(list_ports, "comports", lambda: [port])
    with emulated_probes(tmp_path, []):
        monkeypatch.setattr(EmulatedProbe, "machines", {"066A": None})
        for vendor, given in ((0x0483, None), (0x10C4, "aaa1")):
            port.vid, port.pid = vendor, 1
            with pytest.raises(LinkError, match="no debug probe has the serial number AAA1 of the port: 066A"):
                module._probe(image.board, module._wanted("/dev/null", given))
        assert module._probe(image.board, module._wanted("/dev/null", "/dev/null")).unique_id == "066A"


def test_another_reader_reads_the_hex_file(image: Image) -> None:
    reader = pytest.importorskip("intelhex")
    file = reader.IntelHex(str(package(image.board, image.elf)))
    origin, data = flash_image(image.elf, image.board.regions["flash"])
    assert (file.minaddr(), file.tobinstr()) == (origin, data)
    data = bytes(range(256)) * 600  # over two borders of 64 KB
    (image.elf.parent / "x.hex").write_text(module.intel_hex(0x0800FFF9, data))
    file = reader.IntelHex(str(image.elf.parent / "x.hex"))
    assert (file.minaddr(), file.tobinstr()) == (0x0800FFF9, data)


@pytest.mark.parametrize("probed", BOARDS, ids=lambda board: board.id)
def test_pyocd_knows_the_memory(probed: Board) -> None:
    """Its flash holds the board's, and its RAM begins where the board's does."""
    from pyocd.core.exceptions import TargetSupportError
    from pyocd.core.session import Session

    target = str(probed.flashers["pyocd"]["target"])
    try:
        session = Session(EmulatedProbe("none"), options={"target_override": target, "no_config": True})
    except TargetSupportError:
        pytest.skip(f"pyOCD needs a pack for it: pyocd pack install {target}")
    memory = session.target.memory_map
    flash_region, ram = probed.regions["flash"], probed.regions["ram"]
    for address in (flash_region.origin, flash_region.origin + flash_region.bytes - 1):
        region = memory.get_region_for_address(address)
        assert region is not None
        assert region.is_flash
    assert memory.get_region_for_address(ram.origin).is_ram
