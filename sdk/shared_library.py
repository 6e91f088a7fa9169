"""The C interpreter with all portable kernels as a shared library, and the wheel that takes it to a Linux board.

python -m sdk.shared_library --output dist                  microlith_runtime-*.whl for this computer
python -m sdk.shared_library --output dist --abi aarch64    for 64-bit boards; armhf: for 32-bit ones from ARMv6 on
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import platform
import re
import shlex
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sdk import __version__
from sdk.build import C_FLAGS, FAST
from sdk.cache import Progress, cache_dir, locked, put, silent
from sdk.emit import emit_every_kernel
from sdk.errors import ToolError, UsageError
from sdk.files import deliver
from sdk.paths import FIRMWARE
from sdk.program import Profile
from sdk.tools import compiler_command

PACKAGE = Path(__file__).parent
WHEEL_PARTS = (
    "__init__.py",
    "camera",
    "closing.py",
    "errors.py",
    "files.py",
    "preprocess.py",
    "runtime",
    "sound.py",
)  # of the package sdk: to import them needs nothing more than numpy
TIMESTAMP = (2020, 1, 1, 0, 0, 0)  # the same sources make the same wheel


@dataclass(frozen=True)
class Abi:
    """How to compile for a kind of Linux Python."""

    compiler: str
    flags: tuple[str, ...] = ()


# ARMv6 is what every Raspberry Pi with a 32-bit system runs. Debian's own start-up files and static libgcc are ARMv7:
# none is linked, divisions come from the board's libgcc_s.
ABIS = {
    platform.machine(): Abi("gcc"),
    "aarch64": Abi("aarch64-linux-gnu-gcc"),
    "armhf": Abi(
        "arm-linux-gnueabihf-gcc", ("-march=armv6", "-mfpu=vfp", "-mfloat-abi=hard", "-marm", "-shared-libgcc")
    ),
}
LINK_FLAGS = "-shared -nostartfiles -Wl,--gc-sections -Wl,-Bsymbolic -Wl,-soname,libmicrolith.so"


def build_library(abi: str = platform.machine(), progress: Progress = silent) -> Path:
    """libmicrolith.so for `abi`, built if it is not there. UsageError, ToolError."""
    if abi not in ABIS:
        raise UsageError(f"there is no ABI '{abi}'", f"There are {', '.join(ABIS)}.")
    sources = _sources()
    flags = [*ABIS[abi].flags, *C_FLAGS.split(), FAST, "-fPIC", "-DML_PROFILE=0"]
    flags += [f"-I{FIRMWARE / folder}" for folder in ("include", "src", "gen")]
    files = {"kernels.def": emit_every_kernel(Profile.portable).files["kernels.def"], "exports.map": _exports()}
    known = [compiler_command(ABIS[abi].compiler), *flags, LINK_FLAGS, *files.values()]
    folder = cache_dir("library", f"{abi}-{_digest(known, sources)}")
    library = folder / "libmicrolith.so"
    with locked(folder, progress):
        if not library.is_file():
            for name, text in files.items():
                put(folder / name, text.encode())
            _compile(ABIS[abi], flags, sources, folder, progress)
    return library


def _sources() -> list[Path]:
    source = FIRMWARE / "src"
    return [source / name for name in ("interpreter.c", "crc32.c", "kernel_table.c")] + sorted(
        (source / "kernels").glob("*.c")
    )


def _exports() -> str:
    """The linker's list of what the library shows: the functions of the public header."""
    names = re.findall(r"^[a-z].*?\b(ml_\w+)\(", (FIRMWARE / "include" / "microlith.h").read_text(), re.MULTILINE)
    return "{ global: " + " ".join(f"{name};" for name in names) + " local: *; };\n"


def _digest(known: Sequence[str], sources: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(known).encode())
    for path in [*sources, *sorted(FIRMWARE.glob("*/**/*.h"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(abi: Abi, flags: Sequence[str], sources: Sequence[Path], folder: Path, progress: Progress) -> None:
    compiler = shlex.split(compiler_command(abi.compiler))
    objects = [folder / f"{path.stem}.o" for path in sources]

    def compile_one(source: Path, target: Path) -> None:
        progress(f"compile {source.name}")
        _call([*compiler, *flags, f"-I{folder}", "-c", str(source), "-o", str(target)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))
    new = folder / "libmicrolith.so.new"
    script = f"-Wl,--version-script={folder / 'exports.map'}"
    _call([*compiler, *abi.flags, *LINK_FLAGS.split(), script, *map(str, objects), "-o", str(new)])
    for each in objects:
        each.unlink()
    new.rename(folder / "libmicrolith.so")


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["failed"]
        raise ToolError(lines[0], f"All that the compiler says: {shlex.join(command)}")


def make_wheel(folder: Path, abis: Sequence[str], progress: Progress = silent) -> Path:
    """Writes the wheel microlith-runtime, which holds the Python half of the runtime and a C library for each ABI."""
    files = _package_files()
    for abi in abis:
        files[f"sdk/runtime/lib/libmicrolith-{abi}.so"] = build_library(abi, progress).read_bytes()
    info = f"microlith_runtime-{__version__}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    # Tagged for any platform: a 32-bit Python on a 64-bit kernel names itself in several ways, and the runtime picks
    # the library that fits.
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: microlith\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, TIMESTAMP), content, zipfile.ZIP_DEFLATED)
    path = folder / f"microlith_runtime-{__version__}-py3-none-any.whl"
    deliver({path: data.getvalue()})
    return path


def _package_files() -> dict[str, bytes]:
    paths = []
    for part in WHEEL_PARTS:
        paths += sorted((PACKAGE / part).rglob("*.py")) if (PACKAGE / part).is_dir() else [PACKAGE / part]
    return {f"sdk/{path.relative_to(PACKAGE)}": path.read_bytes() for path in paths}


def _metadata() -> str:
    lines = ["Metadata-Version: 2.1", "Name: microlith-runtime", f"Version: {__version__}", "License: Apache-2.0"]
    lines += ["Summary: Runs models on a Linux board: LiteRT, tflite-runtime or Microlith's own interpreter"]
    lines += ["Requires-Python: >=3.11", "Requires-Dist: numpy", "Requires-Dist: Pillow"]
    for extra, package in (("litert", "ai-edge-litert"), ("tflite", "tflite-runtime")):
        lines += [f"Provides-Extra: {extra}", f'Requires-Dist: {package}; extra == "{extra}"']
    return "\n".join(lines) + "\n"


def _record(files: Mapping[str, bytes], own: str) -> str:
    rows = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join(rows) + f"{own},,\n"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m sdk.shared_library", description="Makes the wheel microlith-runtime."
    )
    parser.add_argument("--output", "-o", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--abi", nargs="+", default=[platform.machine()], choices=ABIS, metavar="A")
    args = parser.parse_args()
    print(make_wheel(args.output, args.abi))  # noqa: T201 - what a script that calls this needs


if __name__ == "__main__":
    main()
