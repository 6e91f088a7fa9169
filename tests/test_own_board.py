"""A board of the user's own is one JSON file: copied, or begun by `sdk boards new`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from sdk.boards import BOARDS, load_board
from sdk.cli import main
from sdk.errors import BoardError, OutputError
from sdk.own_board import board_with_chip, new_board

MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
needs_arm = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_arm
def test_copy_of_one_file_is_a_board(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With less RAM and another stack than its model's: the device says what its file says."""
    manifest = json.loads((BOARDS / "netduinoplus2.json").read_text())
    manifest["upload"]["maximum_ram_size"] = manifest["microlith"]["regions"]["ram"]["bytes"] = 40960
    manifest["microlith"]["stack_bytes"] = 3072
    (here / "boards").mkdir()
    (here / "boards" / "my-f405.json").write_text(json.dumps(manifest))
    assert main(["verify", str(MODEL), "--board", "my-f405", "--count", "2"]) == 0
    capsys.readouterr()
    assert main(["monitor", "--board", "my-f405", "--reset", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["board_id"], info["stack_bytes"], info["emulated"]) == ("my-f405", 3072, True)
    assert info["resident_bytes"] > 0
    assert info["pool_bytes"] >= load_board("my-f405").program_ram_bytes


@pytest.mark.usefixtures("here")
def test_new_board_is_found_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "new", "mine", "--chip", "nRF51822", "--name", "My board", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"board": "mine", "file": "boards/mine.json", "like": "microbit"}
    mine, like = load_board("mine"), load_board("microbit")
    assert mine.name == "My board"
    assert (mine.regions, mine.flags, mine.flashers, mine.port) == (like.regions, like.flags, like.flashers, like.port)
    assert main(["boards", "new", "other", "--from", "mine"]) == 0
    assert main(["verify", str(MODEL), "--board", "mine", "--port", "/dev/ttyNONE"]) == 9


@pytest.mark.parametrize("id_", ["taken", "native", "No Id", "x" * 33, "../up"])
def test_nothing_is_overwritten(id_: str, here: Path) -> None:
    taken = here / "boards" / "taken.json"
    taken.parent.mkdir()
    taken.write_text("the user's own")
    with pytest.raises(BoardError):
        new_board(id_, load_board("native"), taken.parent)
    assert taken.read_text() == "the user's own"
    assert [path.name for path in here.rglob("*")] == ["boards", "taken.json"]


def test_folder_that_cannot_be_written(here: Path) -> None:
    (here / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write file/mine"):
        new_board("mine", load_board("native"), Path("file"))


def test_port_of_ones_own_is_found_from_the_copy_too(here: Path) -> None:
    manifest = json.loads((BOARDS / "native.json").read_text())
    manifest["microlith"]["port"] = "./port"
    (here / "port").mkdir()
    shutil.copy(load_board("native").port / "native.c", here / "port")
    (here / "first.json").write_text(json.dumps(manifest))
    second = new_board("second", load_board("./first.json"), here / "boards")
    assert second.port.samefile(here / "port")


def test_chip_is_found_by_its_beginning() -> None:
    assert board_with_chip("STM32F405").id == board_with_chip("stm32f405rgt6").id == "netduinoplus2"
    assert board_with_chip("ESP32-D0WD-V3").id == board_with_chip("esp32").id == "esp32"
    assert board_with_chip("ESP32-S3-WROOM-1").id == "esp32s3"
    assert board_with_chip("nRF52840").id == "nrf52840-dk", "that of the Nano begins behind a boot loader"


@pytest.mark.parametrize("chip", ["pic16", "ESP32-S2", "esp32c6", "ESP32-P4", "stm32h743", "host", "virt", "sim", ""])
def test_no_board_has_that_chip(chip: str) -> None:
    with pytest.raises(BoardError, match=f"no board has the chip '{chip}'") as error:
        board_with_chip(chip)
    assert "nrf51822" in error.value.remedy
    assert "--from" not in error.value.remedy
    assert not {"host", "sim", "virt"} & set(re.findall(r"\w+", error.value.remedy))


@pytest.mark.parametrize(
    ("chip", "akin"),
    [
        ("stm32f407", "blackpill-f411ce"),  # the STM32F405 is nearer; its board is an emulator
        ("STM32F407VGT6", "blackpill-f411ce"),
        ("stm32f103", "stm32vldiscovery"),
        ("stm32l476", "nucleo-l4r5zi"),
        ("stm32f767", "disco-f746ng"),
        ("nrf52832", "nrf52840-dk"),
        ("nRF51422", "microbit"),
    ],
)
def test_board_of_the_chips_family_is_named(chip: str, akin: str) -> None:
    with pytest.raises(BoardError, match=f"no board has the chip '{chip}'") as error:
        board_with_chip(chip)
    assert f"--from {akin}, which has the" in error.value.remedy
