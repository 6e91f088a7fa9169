"""A C compiler for Xtensa cores, called as gcc is: clang to assembly, llvm-mc to an object, GNU ld to an image.

A script of its own, which imports nothing of the SDK: ninja runs it for each file. clang's own way to objects puts
literals behind the code that reads them, and has no linker. `-mcpu=` chooses the core. `--gcc=` names a gcc made for
that core, which then does it all.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMPILER, ASSEMBLER, LINKER = "clang-22", "llvm-mc-22", "xtensa-lx106-elf-ld"
_COMMON = (
    "density windowed bool loop sext nsa clamps minmax mul16 mul32 mac16 fp coprocessor threadptr exception interrupt "
    "rvector timers3 regprotect"
)
CORES = {
    "de233_fpu": _COMMON,  # QEMU's
    "esp32": f"{_COMMON} mul32high div32",
    "esp32s3": f"{_COMMON} mul32high div32",
}
UNKNOWN = ("-fcallgraph-info=su", "-fno-merge-constants")  # flags of gcc alone


def main(arguments: Sequence[str]) -> int:
    """Does what a C compiler does with these arguments; its exit status."""
    gcc = [word.removeprefix("--gcc=") for word in arguments if word.startswith("--gcc=")]
    if gcc:  # calls from internal RAM to flash are long
        return _run(gcc[0], "-mlongcalls", *(word for word in arguments if not word.startswith(("--gcc=", "-mcpu="))))
    words = [word for word in arguments if word not in UNKNOWN and not word.startswith("-mcpu=")]
    if "-c" not in words:
        return _link(words)
    words.remove("-c")
    return _compile(words, _core(arguments))


def _core(arguments: Sequence[str]) -> str:
    core = next((word.removeprefix("-mcpu=") for word in arguments if word.startswith("-mcpu=")), "")
    if core not in CORES:
        sys.exit(f"error: no -mcpu= of {', '.join(CORES)}")
    return core


def _compile(words: list[str], core: str) -> int:
    """Without a frame pointer: that takes an instruction which traps where the stack has been spilled."""
    features = [text for name in CORES[core].split() for text in ("-Xclang", "-target-feature", "-Xclang", f"+{name}")]
    out = Path(words.pop(words.index("-o") + 1))
    words.remove("-o")
    assembly = out.with_suffix(".s")
    status = _run(
        COMPILER,
        "--target=xtensa",
        *features,
        "-fomit-frame-pointer",
        *words,
        *(("-MT", str(out)) if "-MD" in words else ()),
        "-S",
        "-o",
        str(assembly),
    )
    if status == 0:
        _depend_on_this(words)
        _merge_no_constants(assembly)
        status = _run(ASSEMBLER, "-triple=xtensa", "-mcpu=esp32", "-filetype=obj", str(assembly), "-o", str(out))
    assembly.unlink(missing_ok=True)
    return status


def _depend_on_this(words: Sequence[str]) -> None:
    """Objects depend on this file too."""
    if "-MF" in words:
        path = Path(words[words.index("-MF") + 1])
        path.write_text(f"{path.read_text().rstrip()} \\\n  {Path(__file__).resolve()}\n")


def _merge_no_constants(assembly: Path) -> None:
    """-fno-merge-constants, which clang does not know: constants go to sections that the linker does not merge."""
    text = assembly.read_text()
    assembly.write_text(re.sub(r'\.rodata\.\S+,"aMS?",@progbits,\d+', '.rodata.constants,"a",@progbits', text))


def _link(words: Sequence[str]) -> int:
    """What gcc passes on to the linker, and what the linker knows itself."""
    options = []
    for word in words:
        if word.startswith("-Wl,"):
            options += word.split(",")[1:]
        elif word != "-lgcc" and not word.startswith("-D"):  # firmware/ports/common has what the code needs of libgcc
            options.append(word)
    return _run(LINKER, *options)


def _run(*command: str) -> int:
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
