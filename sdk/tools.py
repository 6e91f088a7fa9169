"""The programs that the SDK calls, and where a machine without them gets them."""

from __future__ import annotations

import shutil

from sdk.errors import MissingToolError

# What the user installs with apt, by program.
APT_PACKAGES = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "clang": "clang",
    "gcc": "gcc",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "qemu-system-xtensa": "qemu-system-misc",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf",
}


def find_tool(name: str) -> str:
    """The path of the program `name`. MissingToolError, with the command that installs it, if it is not there."""
    path = shutil.which(name)
    if path is None:
        package = APT_PACKAGES.get(name)
        remedy = f"sudo apt-get install --no-install-recommends {package}" if package else "Install it."
        raise MissingToolError(f"the program {name} is missing (not on PATH)", remedy)
    return path
