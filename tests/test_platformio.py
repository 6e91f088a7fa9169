"""PlatformIO as a front end of the same boards and sources: without its registry, the same image as of `sdk build`."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from sdk.boards import load_board
from sdk.deploy import make_image, prepare
from sdk.flash import package
from sdk.load import load
from sdk.paths import BOARDS

ROOT = Path(__file__).parents[1]
needs_arm = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)
# Linux boards have no PlatformIO part.
LOCAL = [path.stem for path in sorted(BOARDS.glob("*.json")) if "upload" in json.loads(path.read_bytes())]

Pio = Callable[..., "subprocess.CompletedProcess[str]"]


def options() -> dict[str, dict[str, str]]:
    """The sections of platformio.ini."""
    config = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    config.read(ROOT / "platformio.ini")
    return {name: dict(config[name]) for name in config.sections()}


def test_each_board_has_an_environment() -> None:
    found = {name: each["board"] for name, each in options().items() if each.get("extends") == "microlith"}
    assert found == {f"env:{board}": board for board in LOCAL}


def test_stock_boards_are_not_taken_for_our_own() -> None:
    """PlatformIO looks for board files in `boards` first."""
    stock = [each["board"] for each in options().values() if each.get("extends") == "arduino"]
    assert stock
    assert not set(stock) & set(LOCAL)


@pytest.fixture(scope="module")
def pio(tmp_path_factory: pytest.TempPathFactory) -> Pio:
    """Runs PlatformIO in this checkout, with no network and all that it writes in a temporary folder."""
    pytest.importorskip("platformio", reason="PlatformIO is not installed: pip install -e '.[platformio]'")
    pytest.importorskip("SCons", reason="SCons is not installed: pip install -e '.[platformio]'")
    folder = tmp_path_factory.mktemp("pio")
    settings = {
        "PLATFORMIO_CORE_DIR": str(folder / "core"),
        "PLATFORMIO_WORKSPACE_DIR": str(folder / "work"),
        "PLATFORMIO_PLATFORMS_DIR": str(folder / "platforms"),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
        "PLATFORMIO_SETTING_CHECK_PLATFORMIO_INTERVAL": "9999",
        "PLATFORMIO_SETTING_CHECK_PRUNE_SYSTEM_THRESHOLD": "0",
        "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    }

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=300, check=False
        )

    assert call("firmware/platform/offline.py").returncode == 0
    return lambda *words: call("-m", "platformio", "run", *words)


def stored_bytes(elf: Path) -> int:
    with elf.open("rb") as stream:
        sections = list(ELFFile(stream).iter_sections())
    allocated = [section for section in sections if section["sh_flags"] & SH_FLAGS.SHF_ALLOC]
    return sum(section["sh_size"] for section in allocated if section["sh_type"] != "SHT_NOBITS")


@needs_arm
def test_upload_of_the_same_image(pio: Pio) -> None:
    """Built by SCons, flashed by `sdk flash`, and answering there."""
    done = pio("-e", "microbit", "-t", "upload")
    assert done.returncode == 0, done.stdout + done.stderr
    elf = Path(re.findall(r"^Linking (\S+)", done.stdout, re.MULTILINE)[0])
    assert f"microbit (emulated) runs {elf}" in done.stdout
    board = load_board("microbit")
    model = load(ROOT / options()["microlith"]["custom_model"])
    own = make_image(prepare(model, board), board)
    assert stored_bytes(elf) == pytest.approx(own.flash_bytes, rel=0.02)
    assert f"used {own.flash_bytes} bytes from {board.flash_bytes} bytes" in done.stdout
    left = elf.with_suffix(".hex").read_bytes()
    assert left == package(board, elf).read_bytes()
    assert "lambda" not in done.stdout


def test_faults_are_those_of_the_sdk(pio: Pio, tmp_path: Path) -> None:
    """A model that is none: one message, and no program."""
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    config = (ROOT / "platformio.ini").read_text()
    config = config.replace(options()["microlith"]["custom_model"], f"{tmp_path}/bad.tflite")
    (tmp_path / "other.ini").write_text(config)
    done = pio("-e", "microbit", "-c", str(tmp_path / "other.ini"))
    assert done.returncode != 0
    assert "the model bad is not a .tflite file" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
