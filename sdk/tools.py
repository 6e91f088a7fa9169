"""The programs that the SDK calls, and where a machine without them gets them."""

from __future__ import annotations

import difflib
import functools
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from sdk.errors import MissingToolError

# What the user installs with apt, by program.
APT_PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "arm-linux-gnueabi-gcc": "gcc-arm-linux-gnueabi libc6-dev-armel-cross",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "clang": "clang",
    "clang-22": "clang-22",
    "gcc": "gcc",
    "llvm-mc-22": "llvm-22",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "qemu-system-xtensa": "qemu-system-misc",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf",
    "xtensa-lx106-elf-ld": "binutils-xtensa-lx106",
}

# Compilers that are a script of the SDK: the programs that it calls.
DRIVERS = {"xtensa_cc": ("clang-22", "llvm-mc-22", "xtensa-lx106-elf-ld")}

# Compilers of a chip's vendor, and what serves where they are missing: apt has those.
OLDEST_GCC = 12  # 8, which PlatformIO's older platforms bring, writes no call graphs and knows no `.option arch`
SUBSTITUTES = {
    "xtensa-esp32-elf-gcc": "xtensa_cc",
    "xtensa-esp32s3-elf-gcc": "xtensa_cc",
    "riscv32-esp-elf-gcc": "riscv64-unknown-elf-gcc",
}


def locate(name: str) -> str | None:
    """The path of the program `name`: on PATH, or among the packages of PlatformIO."""
    core = Path(os.environ.get("PLATFORMIO_CORE_DIR") or "~/.platformio").expanduser()
    folders = [os.environ.get("PATH", os.defpath), *map(str, sorted(core.glob("packages/*/bin")))]
    return shutil.which(name, path=os.pathsep.join(folders))


def find_tool(name: str) -> str:
    """The path of the program `name`. MissingToolError, with the command that installs it, if it is not there."""
    path = locate(name)
    if path is None:
        package = APT_PACKAGES.get(name)
        remedy = f"sudo apt-get install --no-install-recommends {package}" if package else _other_name(name)
        raise MissingToolError(f"the program {name} is missing (not on PATH)", remedy)
    return path


def _other_name(name: str) -> str:
    close = difflib.get_close_matches(name, [*APT_PACKAGES, *SUBSTITUTES, *DRIVERS], n=1)
    return (
        f"Did you mean {close[0]}? Else install it."
        if close
        else "Install it, or correct its name in the board's file."
    )


def compiler_in_use(compiler: str) -> str:
    """The compiler of a board file, or what serves for it on this machine."""
    if compiler not in SUBSTITUTES:
        return compiler
    path = locate(compiler)
    return compiler if path and _gcc_version(path) >= OLDEST_GCC else SUBSTITUTES[compiler]


@functools.cache
def _gcc_version(path: str) -> float:
    """The first number of a gcc's version; infinite if it does not say one."""
    try:
        said = subprocess.run([path, "-dumpversion"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return math.inf
    number = re.match(r"\d+", said)
    return int(number[0]) if number else math.inf


def programs(compiler: str) -> tuple[str, ...]:
    """The programs that the compiler of a board file consists of."""
    used = compiler_in_use(compiler)
    return DRIVERS.get(used, (used,))


def compiler_command(compiler: str) -> str:
    """How a shell calls the compiler of a board file. MissingToolError if a program of it is not there."""
    paths = [find_tool(name) for name in programs(compiler)]
    if compiler not in DRIVERS and SUBSTITUTES.get(compiler) not in DRIVERS:
        return shlex.quote(paths[0])
    driver = SUBSTITUTES.get(compiler, compiler)
    vendor = [] if compiler_in_use(compiler) == driver else [f"--gcc={paths[0]}"]
    return shlex.join([sys.executable, "-IS", str(Path(__file__).with_name(f"{driver}.py")), *vendor])
