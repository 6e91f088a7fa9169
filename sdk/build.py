"""C arrays -> image: compiles the firmware for a board and links it around a program.

Objects that do not depend on the program are compiled once a board; an image takes the program, the table of its
kernels and a link. Ninja decides what is to be done; nothing is done twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ninja
from elftools.common.exceptions import ELFError

from sdk.boards import Board
from sdk.cache import Progress, cache_dir, locked, put, silent
from sdk.elf import read_layout
from sdk.emit import Emitted
from sdk.errors import FitError, ToolError, UsageError
from sdk.flash import package
from sdk.ops import registry
from sdk.paths import FIRMWARE
from sdk.program import HEADER, Profile
from sdk.stack import CALL_GRAPH_FLAG, stack_bound
from sdk.target import Optimize
from sdk.tools import compiler_command

KEPT_IMAGES = 32  # a board; the oldest go

WARNINGS = "-Wall -Wextra -Wconversion -Wshadow -Wmissing-prototypes -Werror"
# Functions and constants in sections of their own, so that the linker drops what nothing refers to. No contraction of
# a * b + c, which rounds once instead of twice: the oracle rounds twice.
# Sums wrap as the oracle's do. Outputs may lie over inputs of another type. Constants that the linker merges would be
# counted to several parts of the image.
ARITHMETIC_FLAGS = "-fwrapv -fno-strict-aliasing -ffp-contract=off"
C_FLAGS = (
    f"-std=c11 {ARITHMETIC_FLAGS} -ffunction-sections -fdata-sections -fno-common "
    f"-fno-unwind-tables -fno-asynchronous-unwind-tables {WARNINGS}"
)
FAST, SMALL = "-O2", "-Os"  # kernels, where the image is not to be small; all else
# Folders of kernels for small images; -Os leaves the assembly of others too few registers.
SMALL_TOO = (".", "arm_dsp")


@dataclass(frozen=True)
class Image:
    """A firmware binary for a board. Sizes in bytes."""

    board: Board
    elf: Path
    file: Path  # what other tools flash: the ELF file, or one made of it
    flash: Mapping[str, int]  # by part: interpreter, kernels, program, port
    static_ram_bytes: int  # .data and .bss; neither pool nor stack
    pool_bytes: int  # RAM for a program's arena and state
    stack_bound_bytes: int | None  # no path through the firmware takes more stack; None: not known

    @property
    def flash_bytes(self) -> int:
        return sum(self.flash.values())


@dataclass(frozen=True)
class Source:
    """A C file, the folder of its object and how it is compiled. The folder's first part is the part of the image that
    the report counts it to: one of sdk.elf.PARTS."""

    path: Path
    folder: str
    optimize: str = SMALL
    shared: bool = True  # by all images of the board; False: compiled for each

    @property
    def object(self) -> str:
        return f"{self.folder}/{self.path.stem}.o"


def build(
    board: Board,
    emitted: Emitted,
    *,
    extra_sources: Sequence[Path] = (),
    extra_includes: Sequence[Path] = (),
    progress: Progress = silent,
) -> Image:
    """The image of an emitted program for `board`. `extra_sources` are kernels of the user's own, `extra_includes` the
    folders of their headers; the program's kernels.def lists them like all others.

    ToolError if a tool is missing or a source does not compile, FitError if flash, RAM or stack do not suffice.
    """
    files = {name: text.encode() for name, text in emitted.files.items()}
    sources = [*image_sources(board, emitted), *_extra(extra_sources)]
    image = build_image(board, sources, files, extra_includes, progress)
    _check_stack(image)
    _check_program_memory(image, emitted.program)
    return image


def built(board: Board, elf: Path) -> Image:
    """An image for `board` that was built before. UsageError if it is none."""
    try:
        layout = read_layout(elf)
    except (ELFError, ToolError) as error:
        raise UsageError(f"{elf} is no image: {error}", f"Build one: sdk build MODEL --board {board.id}") from error
    for name, value in _memory_symbols(board).items():
        if board.linker_script is not None and layout.symbols.get(name) != value:
            remedy = f"Build one: sdk build MODEL --board {board.id}"
            raise UsageError(f"{elf} is no image for {board.id}: it was linked for another memory ({name})", remedy)
    data = elf.read_bytes()
    copy = cache_dir("built", board.id, hashlib.sha256(data).hexdigest()[:16]) / "image.elf"
    put(copy, data)  # what is made of it lies beside it, and beside `elf` lie files of the user's
    file = package(board, copy)
    _forget_old_images(copy.parent)
    return Image(board, copy, file, layout.flash, layout.static_ram_bytes, layout.pool_bytes, None)


def image_sources(board: Board, emitted: Emitted) -> list[Source]:
    """All that an image of `emitted` is made of but its own files."""
    return [*firmware_sources(board, listed(emitted), emitted.optimize), *_extra(emitted.custom_sources)]


def _extra(paths: Sequence[Path]) -> list[Source]:
    return [Source(path.absolute(), "kernels/extra", FAST, shared=False) for path in paths]


def listed(emitted: Emitted) -> list[str]:
    """The names of the kernels that kernels.def lists."""
    return re.findall(r"ML_USE\((\w+)\)", emitted.files["kernels.def"])


def firmware_sources(
    board: Board, kernels: Collection[str] | None = None, optimize: Optimize = Optimize.balanced
) -> list[Source]:
    """All that an image with `kernels` (None: all) is made of but model.c. What else the same files hold, and
    kernels.def does not list, falls out when it is linked."""
    firmware, ports = FIRMWARE / "src", FIRMWARE / "ports"
    return [
        *(Source(path, "port/common") for path in _c_files(ports / "common")),
        *(Source(path, "port/own") for path in _c_files(board.port)),
        *(_firmware_source(path) for path in _c_files(firmware)),
        *kernel_sources(board.profile, kernels, optimize),
    ]


def kernel_sources(
    profile: Profile, names: Collection[str] | None, optimize: Optimize = Optimize.balanced
) -> list[Source]:
    """The files of the kernels `names`, and those that are no kernel's own but serve several."""
    folder = FIRMWARE / "src" / "kernels"
    kernels = registry().kernels.values()
    wanted = {kernel.source for kernel in kernels if names is None or kernel.name in names}
    unused = {kernel.source for kernel in kernels} - wanted
    folders = [folder, *(folder / each.name for each in profile.runs)]
    files = {path.relative_to(folder): path for each in folders for path in _c_files(each)}
    used = {name: path for name, path in files.items() if str(name) not in unused}
    small = SMALL_TOO if optimize is Optimize.size else ()
    return [
        Source(path, str(Path("kernels/small") / name.parent), SMALL)
        if str(name.parent) in small
        else Source(path, str(Path("kernels") / name.parent), FAST)
        for name, path in used.items()
    ]


def _c_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.c"))


def _firmware_source(path: Path) -> Source:
    """kernel_table.c includes kernels.def, so that each image has its own."""
    own = path.name == "kernel_table.c"
    return Source(path, "interpreter" if own or path.name in ("interpreter.c", "crc32.c") else "port", shared=not own)


def build_image(
    board: Board,
    sources: Sequence[Source],
    files: Mapping[str, bytes],
    extra_includes: Sequence[Path] = (),
    progress: Progress = silent,
) -> Image:
    """Compiles and links `sources` and the program: those of `files`, by name, that are C. Errors as for build()."""
    compiler = compiler_command(board.compiler)
    flags = compile_flags(board, extra_includes)
    folder = cache_dir("build", f"{board.id}-{_digest(compiler, flags, link_flags(board, Path()))}")
    with locked(folder, progress):
        image = folder / "images" / _digest(repr(sorted(files.items())), repr(sources))
        image.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            put(image / name, data)
        programs = [Source(image / name, "program", shared=False) for name in files if name.endswith(".c")]
        put(image / "build.ninja", _ninja_file(board, compiler, flags, [*sources, *programs], image).encode())
        _run_ninja(board, image, progress)
        layout = read_layout(image / "image.elf", image / "image.map")
        objects = [(folder if source.shared else image) / source.object for source in sources]
        bound = stack_bound(objects, layout.functions) if board.linker_script else None
        file = package(board, image / "image.elf")
        _forget_old_images(image)
    elf = image / "image.elf"
    return Image(board, elf, file, layout.flash, layout.static_ram_bytes, layout.pool_bytes, bound)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def compile_flags(board: Board, extra_includes: Sequence[Path]) -> str:
    """The compiler's flags for every source, as a shell reads them."""
    defines = {
        "ML_BOARD_ID": f'"{board.id}"',
        "ML_PROFILE": int(board.profile),
        "ML_FRAME_BYTES": f"{board.frame_bytes}u",
        "ML_CLOCK_HZ": f"{board.clock_hz}u",
        "ML_BAUD": f"{board.serial.baud}u",
        "ML_FLASH_BYTES": f"{board.flash_bytes}u",
        "ML_RAM_BYTES": board.ram_bytes,
        "ML_STACK_BYTES": board.stack_bytes,
    }
    if board.fast_bytes:
        defines |= {"ML_FAST_ORIGIN": f"{board.regions['fast'].origin:#x}u", "ML_FAST_BYTES": f"{board.fast_bytes}u"}
    if "programs" in board.regions:
        programs = board.regions["programs"]
        defines |= {
            "ML_PROGRAMS_ORIGIN": f"{programs.origin:#x}u",
            "ML_PROGRAMS_BYTES": f"{programs.bytes}u",
            "ML_PROGRAMS_ERASE_BYTES": f"{programs.erase_bytes}u",
        }
    common = FIRMWARE / "ports" / "common"
    includes = [FIRMWARE / "include", FIRMWARE / "src", FIRMWARE / "gen", common, board.port, *extra_includes]
    freestanding = ["-ffreestanding", "-isystem", str(common / "libc")] if board.linker_script else []
    return shlex.join(
        [
            *board.flags,
            *C_FLAGS.split(),
            *(["-fno-merge-constants"] if "gcc" in board.compiler else []),  # clang does not know it
            *freestanding,
            *(f"-D{name}={value}" for name, value in defines.items()),
            *(f"-I{folder.absolute()}" for folder in includes),
        ]
    )


def link_flags(board: Board, image: Path) -> str:
    """The linker's flags; `image` is the folder of the image. A board without a linker script is a process of the host
    and linked as one."""
    words = [*board.flags, "-Wl,--gc-sections", f"-Wl,-Map={image / 'image.map.new'}"]
    if board.linker_script is not None:
        words += ["-nostdlib", "-T", str(board.linker_script.absolute())]
        words += [f"-Wl,--defsym={name}={value}" for name, value in _memory_symbols(board).items()]
    return shlex.join(words)


def _memory_symbols(board: Board) -> dict[str, int]:
    """What the linker script is told of the board's memory."""
    symbols = {"ML_STACK_BYTES": board.stack_bytes}
    for name, region in board.regions.items():
        symbols |= {f"ML_{name.upper()}_ORIGIN": region.origin, f"ML_{name.upper()}_BYTES": region.bytes}
    return symbols


def _ninja_file(board: Board, compiler: str, flags: str, sources: Sequence[Source], image: Path) -> str:
    """The text of an image's build.ninja. Ninja runs in the board's folder, two above the image's, where its log lies
    too: what one image has compiled, the others know to be done. The files of an image appear when they are whole."""
    folder = Path("images") / image.name
    link = f"{compiler} {link_flags(board, folder)} -o {folder}/image.elf.new"
    rename = " && ".join(f"mv {folder}/{name}.new {folder}/{name}" for name in ("image.map", "image.elf"))
    lines = [
        "rule compile",
        f"  command = {_escape(f'{compiler} {flags}')} $options {CALL_GRAPH_FLAG} -MD -MF $out.d -c $in -o $out",
        "  description = compile $name",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {_escape(link)} $in -lgcc && {rename}",
        "  description = link",
    ]
    objects = []
    for source in sources:
        target = source.object if source.shared else f"{folder}/{source.object}"
        objects.append(_escape_path(target))
        lines.append(f"build {objects[-1]}: compile {_escape_path(source.path.absolute())}")
        # Only what is compiled for this image may know its folder: the command of all others must stay the same.
        options = source.optimize if source.shared else f"{source.optimize} -I{folder}"
        lines += [f"  options = {options}", f"  name = {_escape(source.path.name)}"]
    script = f"| {_escape_path(board.linker_script.absolute())}" if board.linker_script else ""
    lines.append(f"build {folder}/image.elf | {folder}/image.map: link {' '.join(objects)} {script}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("$", "$$")


def _escape_path(path: Path | str) -> str:
    return re.sub(r"([$ :])", r"$\1", str(path))


def _run_ninja(board: Board, image: Path, progress: Progress) -> None:
    """Builds the image in the folder `image`, whose build.ninja is written."""
    command = [str(Path(ninja.BIN_DIR) / "ninja"), "-f", f"images/{image.name}/build.ninja"]
    environment = {**os.environ, "LC_ALL": "C", "NINJA_STATUS": "[%f/%t] "}
    log = []
    with subprocess.Popen(
        command,
        cwd=image.parent.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            if re.match(r"\[\d+/\d+\] ", line):
                progress(line.rstrip())
    if process.returncode:
        path = image / "build.log"
        put(path, "".join(log).encode())
        raise _failure(board, log, path)


def _failure(board: Board, log: Sequence[str], path: Path) -> FitError | ToolError:
    """What went wrong, from the first line of the log that tells it."""
    for line in log:
        overflow = re.search(r"region `(\w+)' overflowed by (\d+) bytes?", line)
        if overflow:
            name = overflow[1].lower()
            region = board.regions.get(name)
            size = f"the {region.bytes:,} that {board.id} has" if region else f"{board.id} has"
            return FitError(
                f"the image needs {int(overflow[2]):,} bytes of {name} more than {size}",
                "Use a smaller model or a board with more memory.",
            )
    return ToolError(_first_error(log), f"All that the tools said: {path}")


def _first_error(log: Sequence[str]) -> str:
    """The line of a failed build's log that tells most: `file:line: error: ...`, else the first after the command."""
    failed = next((i for i, line in enumerate(log) if line.startswith("FAILED: ")), -2)
    said = [line.strip() for line in log[failed + 2 :] if line.strip() and "warning:" not in line]
    said = [line for line in said if "error: ld returned" not in line] or said  # the linker itself has said why
    told = (line for line in said if re.search("error:|undefined reference|multiple definition", line))
    return next(told, said[0] if said else "ninja failed")


def _check_stack(image: Image) -> None:
    needed, board = image.stack_bound_bytes or 0, image.board
    if needed > board.stack_bytes:
        raise FitError(
            f"the firmware may need {needed:,} bytes of stack, and {board.id} reserves {board.stack_bytes:,}",
            f"Enlarge microlith.stack_bytes in {board.path}.",
        )


def _check_program_memory(image: Image, program: bytes) -> None:
    """The linker knows nothing of arenas: those come out of the pool."""
    if not program:
        return
    header = HEADER.unpack(program)
    needed = sum((header[key] + 15) & ~15 for key in ("arena_bytes", "state_bytes"))
    if header["fast_bytes"] > image.board.fast_bytes:
        raise FitError(
            f"the program needs {header['fast_bytes']:,} bytes of fast RAM, and {image.board.id} has "
            f"{image.board.fast_bytes:,}",
            "Lower the model for this board.",
        )
    if needed > image.pool_bytes:
        raise FitError(
            f"the program needs {needed:,} bytes of RAM, and {image.board.id} has {image.pool_bytes:,} left for it",
            "Use a smaller model or a board with more RAM.",
        )


def _forget_old_images(latest: Path) -> None:
    """Deletes the images used longest ago but for the last KEPT_IMAGES."""
    os.utime(latest)
    images = sorted(latest.parent.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in images[KEPT_IMAGES:]:
        shutil.rmtree(folder, ignore_errors=True)
