"""The programs that the SDK calls, and where a machine without them gets them."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from sdk.errors import MissingToolError

# What the user installs with apt, by program.
APT_PACKAGES = {
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


def find_tool(name: str) -> str:
    """The path of the program `name`. MissingToolError, with the command that installs it, if it is not there."""
    path = shutil.which(name)
    if path is None:
        package = APT_PACKAGES.get(name)
        remedy = f"sudo apt-get install --no-install-recommends {package}" if package else "Install it."
        raise MissingToolError(f"the program {name} is missing (not on PATH)", remedy)
    return path


def programs(compiler: str) -> tuple[str, ...]:
    """The programs that the compiler of a board file consists of."""
    return DRIVERS.get(compiler, (compiler,))


def compiler_command(compiler: str) -> str:
    """How a shell calls the compiler of a board file. MissingToolError if a program of it is not there."""
    paths = [find_tool(name) for name in programs(compiler)]
    if compiler not in DRIVERS:
        return shlex.quote(paths[0])
    script = Path(__file__).with_name(f"{compiler}.py")
    return shlex.join([sys.executable, "-IS", str(script)])
