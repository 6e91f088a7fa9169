"""Images built by others: a recipe that is followed makes the image of `sdk build`, and such an image is flashed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdk.boards import load_board
from sdk.build import built
from sdk.cli import main
from sdk.deploy import make_image, prepare
from sdk.elf import flash_image
from sdk.errors import ToolError, UsageError
from sdk.load import load

MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
pytestmark = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)


def follow(recipe: dict[str, Any], folder: Path) -> Path:
    """Compiles and links as the recipe says."""

    def compile_(source: dict[str, Any]) -> str:
        out = folder / "objects" / source["object"]
        out.parent.mkdir(parents=True, exist_ok=True)
        words = [*recipe["compiler"], *recipe["flags"], *source["flags"], "-c", source["path"], "-o", str(out)]
        subprocess.run(words, check=True)
        return str(out)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_, recipe["sources"]))
    libraries = [f"-l{name}" for name in recipe["libraries"]]
    elf = folder / "image.elf"
    subprocess.run([*recipe["compiler"], *recipe["link_flags"], *objects, *libraries, "-o", str(elf)], check=True)
    return elf


def test_recipe_makes_the_same_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(MODEL), "--board", "microbit", "--recipe", "-o", str(tmp_path)]) == 0
    elf = follow(json.loads((tmp_path / "recipe.json").read_text()), tmp_path)
    board = load_board("microbit")
    own = make_image(prepare(load(MODEL), board), board)
    other = built(board, elf)
    assert (other.flash_bytes, other.static_ram_bytes, other.pool_bytes) == (
        own.flash_bytes,
        own.static_ram_bytes,
        own.pool_bytes,
    )
    capsys.readouterr()
    assert main(["flash", str(elf), "--board", "microbit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "microbit (emulated)"


def test_nothing_is_made_beside_an_image_of_the_users(tmp_path: Path) -> None:
    board = replace(load_board("microbit"), flasher="pyocd")
    own = make_image(prepare(load(MODEL), board), board)
    (tmp_path / "model.elf").write_bytes(own.elf.read_bytes())
    (tmp_path / "model.hex").write_text("the user's")
    image = built(board, tmp_path / "model.elf")
    assert image.file.read_bytes() == own.file.read_bytes()
    assert (tmp_path / "model.hex").read_text() == "the user's"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("where", "count"), [(0x20000000, 64), (-16, 64), (None, 0)], ids=["far", "before", "none"])
def test_image_that_is_not_in_the_flash(where: int | None, count: int, tmp_path: Path) -> None:
    """With a segment elsewhere, which a gap of gigabytes would lead to; and without one."""
    board = load_board("microbit")
    elf = tmp_path / "odd.elf"
    data = bytearray(make_image(prepare(load(MODEL), board), board).elf.read_bytes())
    start, size, segments = (int.from_bytes(data[at : at + n], "little") for at, n in ((28, 4), (42, 2), (44, 2)))
    for at in range(start, start + size * segments, size):
        if where is not None:
            data[at + 12 : at + 16] = (where % 2**32).to_bytes(4, "little")
        data[at + 16 : at + 20] = count.to_bytes(4, "little")
    elf.write_bytes(data)
    with pytest.raises(ToolError, match="not in the board's flash" if count else "holds nothing"):
        flash_image(elf, board.regions["flash"])


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "of another board": (lambda data: data, "is no image for mps2-an385: it was linked for another memory"),
    "cut off": (lambda data: data[: len(data) // 2], "is no image"),
    "only the magic": (lambda data: data[:4], "is no image"),
    "of this computer": (lambda _: Path("/bin/true").read_bytes(), "is no image: the image has no symbol"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_file_that_is_no_image_of_the_board(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = FAULTS[name]
    board = load_board("microbit")
    elf = tmp_path / "odd.elf"
    elf.write_bytes(change(make_image(prepare(load(MODEL), board), board).elf.read_bytes()))
    with pytest.raises(UsageError, match=message):
        built(load_board("mps2-an385"), elf)
    assert main(["flash", str(elf), "--board", "mps2-an385"]) == 2
    assert "sdk build MODEL --board mps2-an385" in capsys.readouterr().err
