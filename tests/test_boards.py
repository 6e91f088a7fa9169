"""Board files: the shipped ones are sound, and each fault in one of a user's is told by file and key."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdk.boards import BOARDS, Board, all_boards, load_board
from sdk.errors import BoardError
from sdk.program import Profile

Manifest = dict[str, Any]
GOOD: Manifest = json.loads((BOARDS / "mps2-an386.json").read_text())


def put(folder: Path, manifest: object, name: str = "my-board") -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(manifest))
    return str(path)


@pytest.mark.parametrize("shipped", all_boards(), ids=lambda board: board.id)
def test_shipped_board(shipped: Board) -> None:
    assert load_board(shipped.id) == shipped
    assert shipped.path.parent.samefile(BOARDS)
    assert 0 < shipped.program_ram_bytes < shipped.ram_bytes - shipped.stack_bytes
    assert 0 < shipped.program_flash_bytes < shipped.flash_bytes
    assert shipped.url.startswith("https://")


def test_fields() -> None:
    board = load_board("mps3-an547")
    assert (board.id, board.profile, board.cpu, board.clock_hz) == (
        "mps3-an547",
        Profile.arm_mve,
        "cortex-m55",
        32_000_000,
    )
    assert board.regions["flash"].origin == 0x38000000
    assert board.flags == ("-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard")
    assert board.counter.units(4096) == 1000
    assert load_board("microbit").serial.usb_ids == ((0x0D28, 0x0204),)
    assert load_board("native").linker_script is None


Change = Callable[[Manifest], object]


def programs(**values: object) -> Change:
    """Gives the board a region `programs`, sound but for `values`; None leaves a key out."""
    region = {"origin": "0x22000000", "bytes": 8192, "erase_bytes": 4096, **values}
    region = {key: value for key, value in region.items() if value is not None}
    return lambda m: m["microlith"]["regions"].update(programs=region)


FAULTS: dict[str, tuple[Change, str]] = {
    "no name": (lambda m: m.pop("name"), "name is missing"),
    "empty vendor": (lambda m: m.update(vendor=""), "vendor is empty"),
    "no build": (lambda m: m.pop("build"), "build is missing"),
    "build is a list": (lambda m: m.update(build=[]), "build must be an object"),
    "clock": (lambda m: m["build"].update(f_cpu="fast"), 'build.f_cpu must be .*, not "fast"'),
    "clock of 33 bits": (lambda m: m["build"].update(f_cpu=1 << 32), "build.f_cpu must be .*, not 4294967296"),
    "chip": (lambda m: m["build"].update(mcu=407), "build.mcu must be the chip, not 407"),
    "two lines of chip": (lambda m: m["build"].update(mcu="a\nb"), "build.mcu holds a character"),
    "hwids": (lambda m: m["build"].update(hwids=[["0x1"]]), "build.hwids must be a list of pairs"),
    "hwids of 17 bits": (
        lambda m: m["build"].update(hwids=[["0x0D28", "0x10000"]]),
        "build.hwids must be a list",
    ),
    "hwids below 0": (lambda m: m["build"].update(hwids=[["-0x1", "0x1"]]), "build.hwids must be a list of pairs"),
    "zero byte": (
        lambda m: m["microlith"]["emulator"].update(machine="a\0"),
        "microlith.emulator.machine holds",
    ),
    "line feed": (lambda m: m["build"].update(extra_flags="-mthumb\n-x"), "build.extra_flags holds a character"),
    "half a character": (
        lambda m: m["microlith"]["emulator"].update(options=["\ud800"]),
        "microlith.emulator.options",
    ),
    "region beyond 32 bits": (
        lambda m: m["microlith"]["regions"]["ram"].update(origin="0xFFFFF000"),
        "microlith.regions.ram must begin at a multiple of 4 and end within 32 bits",
    ),
    "region at an odd address": (
        lambda m: m["microlith"]["regions"]["ram"].update(origin="0x20000001"),
        "microlith.regions.ram must begin at a multiple of 4",
    ),
    "linker script": (lambda m: m["build"].update(ldscript="no.ld"), "build.ldscript is 'no.ld'"),
    "no section": (lambda m: m.pop("microlith"), "microlith is missing"),
    "port": (lambda m: m["microlith"].update(port="mps9"), "microlith.port is 'mps9'"),
    "blocks": (
        programs(origin="0x22000100"),
        "microlith.regions.programs must be whole blocks of its erase_bytes, 4,096",
    ),
    "block": (programs(erase_bytes=100), "microlith.regions.programs.erase_bytes must be a size in bytes, from 256"),
    "no block": (programs(erase_bytes=None), "microlith.regions.programs.erase_bytes is missing"),
    "programs": (programs(origin="0x00003000"), "microlith.regions.programs must be the end of the region flash"),
    "overlap": (
        lambda m: m["microlith"]["regions"]["ram"].update(origin=m["microlith"]["regions"]["flash"]["origin"]),
        "microlith.regions.flash overlaps ram",
    ),
    "another core's kernels": (
        lambda m: m["microlith"].update(profile="xtensa"),
        "microlith.profile is 'xtensa', whose kernels do not run on a cortex-m4\nIt may be portable, thumb, arm_dsp.",
    ),
    "baud in quotes": (
        lambda m: m["microlith"]["serial"].update(baud="115200"),
        'microlith.serial.baud .* not "115200"',
    ),
    "odd baud": (lambda m: m["microlith"]["serial"].update(baud=115201), "microlith.serial.baud .* not 115201\nOne of"),
    "profile": (lambda m: m["microlith"].update(profile="fast"), "microlith.profile is 'fast'"),
    "flasher": (lambda m: m["microlith"].update(flasher="magic"), "microlith.flasher is 'magic'"),
    "flasher path": (lambda m: m["microlith"].update(flasher="../x"), "microlith.flasher is '../x'"),
    "not a flasher": (lambda m: m["microlith"].update(flasher="process"), "microlith.flasher is 'process'"),
    "options of another": (lambda m: m["microlith"].update(native={"x": 1}), "microlith.native.x is not a key"),
    "emulator's counter": (lambda m: m["microlith"]["emulator"].update(counter={}), "microlith.emulator.counter.unit"),
    "no ram": (lambda m: m["microlith"]["regions"].pop("ram"), "microlith.regions.ram is missing"),
    "region name": (lambda m: m["microlith"]["regions"].update({"A B": {}}), "microlith.regions.A B"),
    "region size": (lambda m: m["microlith"]["regions"]["ram"].update(bytes=-1), "microlith.regions.ram.bytes must be"),
    "size is true": (lambda m: m["microlith"].update(stack_bytes=True), "microlith.stack_bytes must be"),
    "size is a float": (lambda m: m["microlith"].update(stack_bytes=4096.0), "microlith.stack_bytes must be"),
    "odd stack": (lambda m: m["microlith"].update(stack_bytes=1001), "microlith.stack_bytes must be a multiple of 16"),
    "large stack": (lambda m: m["microlith"].update(stack_bytes=1 << 22), "microlith.stack_bytes and two frames leave"),
    "small frame": (lambda m: m["microlith"].update(frame_bytes=64), "microlith.frame_bytes must be"),
    "odd frame": (lambda m: m["microlith"].update(frame_bytes=1001), "microlith.frame_bytes must be a multiple of 4"),
    "other size": (lambda m: m["upload"].update(maximum_size=1), "upload.maximum_size is 1, but microlith.regions.fl"),
    "unit": (lambda m: m["microlith"]["counter"].update(unit="s"), "microlith.counter.unit is 's'"),
    "ratio": (lambda m: m["microlith"]["counter"].update(ticks_per_unit=0), "microlith.counter.ticks_per_unit must be"),
    "tiny ratio": (
        lambda m: m["microlith"]["counter"].update(ticks_per_unit=1e-300),
        "microlith.counter.ticks_per_unit",
    ),
    "no emulator": (lambda m: m["microlith"].pop("emulator"), "microlith.emulator is missing"),
    "baud": (lambda m: m["microlith"]["serial"].update(baud="quick"), "microlith.serial.baud must be"),
    "unknown key": (lambda m: m["microlith"].update(stack_byte=1), "microlith.stack_byte is not a key"),
    "unknown inner key": (lambda m: m["microlith"]["emulator"].update(cpu="x"), "microlith.emulator.cpu is not a key"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_names_file_and_key(name: str, tmp_path: Path) -> None:
    manifest = copy.deepcopy(GOOD)
    change, message = FAULTS[name]
    change(manifest)
    path = put(tmp_path, manifest)
    with pytest.raises(BoardError, match=f"{path}: {message}"):
        load_board(path)


def test_misspelt_key_has_a_suggestion(tmp_path: Path) -> None:
    manifest = copy.deepcopy(GOOD)
    manifest["microlith"]["stack_byte"] = 1
    with pytest.raises(BoardError) as error:
        load_board(put(tmp_path, manifest))
    assert "'stack_bytes'" in error.value.remedy


def keys(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, inner in items:
        yield (*path, key)
        yield from keys(inner, (*path, key))


JUNK = [None, True, -1, 0, 1 << 70, 1.5, 1e300, "", "x", "0x", "\0", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("junk", [*JUNK, pytest.param("x" * 10_000, id="long")], ids=repr)
def test_junk_anywhere_is_a_board_error_or_harmless(junk: object, tmp_path: Path) -> None:
    for shipped in ("microbit", "native"):
        good = json.loads((BOARDS / f"{shipped}.json").read_text())
        for path in keys(good):
            manifest = copy.deepcopy(good)
            place = manifest
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
            try:
                assert load_board(put(tmp_path, manifest)).id == "my-board"
            except BoardError as error:
                assert str(tmp_path / "my-board.json") in error.message  # noqa: PT017
                assert len(str(error)) < 1000  # noqa: PT017


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\xff", '{"name": 1}'])
def test_not_a_manifest(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BoardError, match=r"odd\.json"):
        load_board(str(path))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"cannot read .*nothing.json"):
        load_board(str(tmp_path / "nothing.json"))


@pytest.mark.parametrize("name", ["My-Board", "a b", "x" * 33, "-a"])
def test_bad_id(name: str, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="id is the name of its file"):
        load_board(put(tmp_path, GOOD, name))


def test_unknown_board_has_a_suggestion() -> None:
    with pytest.raises(BoardError, match="no board 'mps2-an368'") as error:
        load_board("mps2-an368")
    assert "mps2-an386" in error.value.remedy


def test_own_boards_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folders of MICROLITH_BOARDS first, then in ./boards, then the shipped ones."""
    project, named = tmp_path / "project" / "boards", tmp_path / "named"
    project.mkdir(parents=True)
    named.mkdir()
    put(project, {**GOOD, "name": "from the project"}, "my-board")
    put(project, {**GOOD, "name": "from the project"}, "other-board")
    put(named, {**GOOD, "name": "from the variable"}, "my-board")
    (project / "package.json").write_text('{"name": "no board at all"}')
    monkeypatch.chdir(project.parent)
    assert load_board("my-board").name == "from the project"
    monkeypatch.setenv("MICROLITH_BOARDS", str(named))
    assert load_board("my-board").name == "from the variable"
    assert load_board("boards/my-board.json").name == "from the project"
    shipped = {path.stem for path in BOARDS.glob("*.json")}
    assert {board.id for board in all_boards()} == shipped | {"my-board", "other-board"}


def test_own_port_is_found_from_the_board_file(tmp_path: Path) -> None:
    manifest = copy.deepcopy(GOOD)
    manifest["microlith"]["port"] = "./port"
    (tmp_path / "port").mkdir()
    path = put(tmp_path, manifest)
    with pytest.raises(BoardError, match=r"microlith\.port"):
        load_board(path)
    (tmp_path / "port" / "my_port.c").write_text("")
    assert load_board(path).port == tmp_path / "port"
