"""Images: what is in them and how much, that nothing is built twice, and what is said when one cannot be built."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from sdk.boards import BOARDS, Board, all_boards, load_board
from sdk.build import Image, build, build_image, firmware_sources
from sdk.cache import silent
from sdk.elf import PARTS
from sdk.emit import Emitted, emit_empty
from sdk.errors import FitError, MissingToolError, SdkError, ToolError
from sdk.ops import registry
from sdk.paths import FIRMWARE
from sdk.program import HEADER, Profile, Program

on_each_board = pytest.mark.parametrize("target", all_boards(), ids=lambda board: board.id)


def all_kernels(profile: Profile) -> list[str]:
    return [kernel.name for kernel in registry().kernels_for(profile)]


def with_block(block: bytes, kernels: list[str] | None = None) -> Emitted:
    """An image's files around any bytes as its program."""
    values = ",".join(map(str, block))
    text = (
        f'#include "model.h"\nconst uint8_t ml_model[] __attribute__((aligned(16))) = {{{values}}};\n'
        f"const uint32_t ml_model_bytes = {len(block)}u;\n"
    )
    return Emitted({**emit_empty(kernels or []).files, "model.c": text}, b"")


def built(
    board: Board, emitted: Emitted, progress: Callable[[str], None] = silent, extra_sources: Sequence[Path] = ()
) -> Image:
    try:
        return build(board, emitted, extra_sources=extra_sources, progress=progress)
    except MissingToolError as error:
        pytest.skip(error.message)


def quickly(board: Board, emitted: Emitted, progress: Callable[[str], None] = silent) -> Image:
    """The image without a kernel in reach: a tenth of the sources, for tests that compile all of them anew."""
    sources = [source for source in firmware_sources(board) if not source.folder.startswith("kernels")]
    try:
        return build_image(board, sources, {k: text.encode() for k, text in emitted.files.items()}, (), progress)
    except MissingToolError as error:
        pytest.skip(error.message)


def own_board(folder: Path, name: str = "own", **microlith: object) -> Board:
    """mps2-an386 with other values in its section `microlith`; sizes of regions by `flash` and `ram`."""
    manifest = json.loads((BOARDS / "mps2-an386.json").read_text())
    for region, key in (("flash", "maximum_size"), ("ram", "maximum_ram_size")):
        if region in microlith:
            size = microlith.pop(region)
            manifest["microlith"]["regions"][region]["bytes"] = manifest["upload"][key] = size
    manifest["microlith"].update(microlith)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(manifest))
    return load_board(str(path))


def symbols(image: Image) -> dict[str, int]:
    with image.elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


@on_each_board
def test_image_of_all_kernels(target: Board) -> None:
    """Its parts add up to what a flasher would write, and the board file's promise of RAM is kept."""
    image = built(target, with_block(bytes(1000), all_kernels(target.profile)))
    assert tuple(image.flash) == PARTS
    assert all(image.flash.values())
    assert 1000 + 4 <= image.flash["program"] < 1000 + 4 + 16
    assert image.pool_bytes >= target.program_ram_bytes
    with image.elf.open("rb") as stream:
        sections = [s for s in ELFFile(stream).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_ALLOC]
        written = sum(section["sh_size"] for section in sections if section["sh_type"] != "SHT_NOBITS")
    # A host's process has sections for its loader.
    assert image.flash_bytes <= written <= image.flash_bytes + (4096 if target.linker_script is None else 16)


@on_each_board
def test_pool_is_all_the_ram_that_is_left(target: Board) -> None:
    image = built(target, emit_empty([]))
    addresses = symbols(image)
    assert addresses["ml_pool_start"] % 16 == addresses["ml_pool_end"] % 16 == 0
    assert addresses["ml_pool_end"] - addresses["ml_pool_start"] == image.pool_bytes
    assert addresses["ml_stack_end"] - addresses["ml_stack_start"] == target.stack_bytes
    if target.linker_script:
        assert addresses["ml_stack_start"] == target.regions["ram"].origin
        assert addresses["ml_pool_end"] == target.regions["ram"].origin + target.ram_bytes
        used = target.stack_bytes + image.static_ram_bytes + image.pool_bytes
        assert target.ram_bytes - 16 <= used <= target.ram_bytes


def test_kernels_that_are_not_listed_are_not_there() -> None:
    board = load_board("mps2-an386")
    names = all_kernels(board.profile)
    none, one, all_ = (built(board, emit_empty(kernels)).flash["kernels"] for kernels in ([], names[:1], names))
    assert none == 0 < one < all_


def test_nothing_is_built_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    board = load_board("mps2-an386")
    lines: list[str] = []
    first = quickly(board, emit_empty([]), lines.append)
    assert any(line.endswith("] compile server.c") for line in lines)
    assert lines[-1] == f"[{len(lines)}/{len(lines)}] link"
    written = first.elf.stat().st_mtime_ns
    lines.clear()
    assert quickly(board, emit_empty([]), lines.append) == first
    assert lines == []
    assert first.elf.stat().st_mtime_ns == written
    quickly(board, with_block(b"another program"), lines.append)
    assert sorted(line.split()[-1] for line in lines) == ["kernel_table.c", "link", "model.c"]


def test_changed_header_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    port = tmp_path / "port"
    port.mkdir()
    for path in (FIRMWARE / "ports" / "mps2").iterdir():
        (port / path.name).write_text('#include "extra.h"\n' + path.read_text())
    (port / "extra.h").write_text("")
    board = own_board(tmp_path, port="./port")
    lines: list[str] = []
    quickly(board, emit_empty([]))
    (port / "extra.h").write_text("/* changed */")
    quickly(board, emit_empty([]), lines.append)
    assert [line.split()[-1] for line in lines] == ["mps2.c", "link"]


def test_old_images_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    monkeypatch.setattr(sys.modules["sdk.build"], "KEPT_IMAGES", 2)
    board = load_board("mps2-an386")
    images = [quickly(board, with_block(bytes([i]))) for i in range(4)]
    assert [image.elf.exists() for image in images] == [False, False, True, True]


def test_odd_characters_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / 'it\'s a $HOME: "x" & (y), ö'
    odd.mkdir()
    monkeypatch.setenv("MICROLITH_CACHE", str(odd))
    kernel = odd / "a kernel's.c"
    kernel.write_text('#include "my header.h"\n')
    (odd / "my header.h").write_text("typedef int my_type;\n")
    try:
        image = build(load_board("mps2-an386"), emit_empty([]), extra_sources=[kernel], extra_includes=[odd])
    except MissingToolError as error:
        pytest.skip(error.message)
    assert image.elf.is_file()


BUILD = """
import sys
from sdk.boards import load_board
from sdk.build import build_image, firmware_sources
from sdk.emit import emit_empty
board = load_board("mps2-an386")
sources = [source for source in firmware_sources(board) if not source.folder.startswith("kernels")]
files = {name: text.encode() for name, text in emit_empty([]).files.items()}
print(build_image(board, sources, files, (), print).elf)
"""


def test_builds_at_once(tmp_path: Path) -> None:
    """Of three that begin together one builds, and all have the same image."""
    if not built(load_board("mps2-an386"), emit_empty([])):
        return
    environment = {**os.environ, "MICROLITH_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", BUILD]
    builds = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0] for process in builds]
    assert [process.returncode for process in builds] == [0, 0, 0]
    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert sum("] link" in output for output in outputs) == 1


def test_source_that_does_not_compile(tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int fine(void);\nint fine(void) { return undeclared; }\n")
    with pytest.raises(ToolError, match=r"broken.c:2:\d+: error: 'undeclared' undeclared") as error:
        built(load_board("mps2-an386"), emit_empty([]), extra_sources=[broken])
    log = re.search(r"/\S+/build.log", error.value.remedy)
    assert log
    assert "undeclared" in Path(log[0]).read_text()
    assert not list(Path(log[0]).parent.glob("image.elf*"))
    broken.write_text("int fine(void);\nint fine(void) { return 1; }\n")
    assert built(load_board("mps2-an386"), emit_empty([]), extra_sources=[broken]).elf.is_file()


def test_tools_that_the_compiler_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler is there, what it calls is not: the first line that says so."""
    for name, words in {"as": "error: .*'as'", "ld": "fatal error: cannot find 'ld'", "mv": "mv: not found"}.items():
        folder = tmp_path / name
        folder.mkdir()
        for tool in {"gcc", "as", "ld", "mv"} - {name}:
            (folder / tool).symlink_to(str(shutil.which(tool)))
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("MICROLITH_CACHE", str(folder / "cache"))
        with pytest.raises(ToolError, match=words) as error:
            quickly(load_board("native"), emit_empty([]))
        assert Path(error.value.remedy.rpartition(": ")[2]).is_file()
        monkeypatch.undo()


def test_linker_script_that_is_wrong(tmp_path: Path) -> None:
    """The linker says why; that the compiler then says that the linker has failed is not the first error."""
    board = own_board(tmp_path)
    script = tmp_path / "wrong.ld"
    script.write_text("MEMORY { nonsense }\n")
    with pytest.raises(ToolError, match=r"wrong.ld:1: syntax error"):
        quickly(replace(board, linker_script=script), emit_empty([]))


def test_kernel_that_does_not_exist() -> None:
    with pytest.raises(ToolError, match="ML_KERNEL_ENTRY_no_such_kernel") as error:
        built(load_board("mps2-an386"), emit_empty(["no_such_kernel"]))
    assert not isinstance(error.value, MissingToolError)


def test_program_larger_than_flash(tmp_path: Path) -> None:
    """The error says how much is missing: with exactly that much more, the image fits."""
    block = os.urandom(20_000)
    small = own_board(tmp_path, flash=16_384)
    with pytest.raises(FitError, match="bytes of flash more than the 16,384") as error:
        quickly(small, with_block(block))
    number = re.search(r"needs ([\d,]+) bytes of", error.value.message)
    assert number
    missing = int(number[1].replace(",", ""))
    assert missing > len(block) - 16_384
    quickly(own_board(tmp_path, flash=16_384 + missing), with_block(block))
    with pytest.raises(FitError, match="needs 1 bytes of"):
        quickly(own_board(tmp_path, flash=16_384 + missing - 1), with_block(block))


def test_stack_smaller_than_its_bound(tmp_path: Path) -> None:
    board = own_board(tmp_path, stack_bytes=512)
    kernels = all_kernels(board.profile)
    with pytest.raises(FitError, match=r"may need [\d,]+ bytes of stack, and own reserves 512") as error:
        built(board, emit_empty(kernels))
    assert str(tmp_path / "own.json") in error.value.remedy
    image = built(load_board("mps2-an386"), emit_empty(kernels))
    assert image.stack_bound_bytes
    assert 512 < image.stack_bound_bytes < image.board.stack_bytes


def test_arena_larger_than_ram() -> None:
    board = load_board("microbit")
    pool = built(board, emit_empty([])).pool_bytes

    def image_for(arena_bytes: int) -> Image:
        program = Program(Profile.portable, arena_bytes, 0, (), (), (), b"")
        block = program.encode()
        assert HEADER.unpack(block)["arena_bytes"] == arena_bytes
        return built(board, Emitted(with_block(block).files, block))

    assert image_for(pool).pool_bytes == pool
    with pytest.raises(FitError, match=f"needs {pool + 16:,} bytes of RAM, and microbit has {pool:,} left"):
        image_for(pool + 1)


@pytest.mark.parametrize(("compiler", "remedy"), [("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("gcc", "gcc")])
def test_compiler_is_missing(compiler: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    target = next(board for board in all_boards() if board.compiler == compiler)
    with pytest.raises(MissingToolError, match=f"{compiler} is missing") as error:
        build(target, emit_empty([]))
    assert error.value.remedy.endswith(f"apt-get install --no-install-recommends {remedy}")


def test_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SdkError, match="cannot write") as error:
        built(load_board("mps2-an386"), emit_empty([]))
    assert "MICROLITH_CACHE" in error.value.remedy


def test_firmware_needs_no_c_library() -> None:
    """No header and no object of one, on any bare board: the compiler's own and ours are enough."""
    for board in all_boards():
        if board.linker_script is None:
            continue
        image = built(board, with_block(b"x", all_kernels(board.profile)))
        text = (image.elf.parent / "image.map").read_text()
        assert not re.findall(r"^\S*lib(?:c|m|nosys)(?:_nano)?\.a\S*", text, re.MULTILINE)
        for depfile in image.elf.parent.parent.parent.rglob("*.d"):
            assert "newlib" not in depfile.read_text()
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m0", "-E", "-"]  # that a header of the C library would be noticed
    found = subprocess.run(command, input="#include <stdio.h>", capture_output=True, text=True, check=False)
    assert "stdio.h" in found.stdout + found.stderr


def test_clang_compiles_the_firmware() -> None:
    """The warnings of two compilers: build() takes gcc."""
    native = load_board("native")
    image = built(native, emit_empty(all_kernels(native.profile)))
    rules = (image.elf.parent / "build.ninja").read_text()
    command = re.search(r"^  command = \S+ (.*) \$options ", rules, re.MULTILINE)
    assert command
    sources = " ".join(str(source.path) for source in firmware_sources(native))
    flags = command[1].replace(" -fno-merge-constants", "")
    line = f"clang {flags} -I{shlex.quote(str(image.elf.parent))} -fsyntax-only {sources}"
    result = subprocess.run(line, shell=True, cwd=image.elf.parents[2], capture_output=True, text=True, check=False)
    if result.returncode == 127:
        pytest.skip("clang is missing")
    assert result.returncode == 0, result.stderr
