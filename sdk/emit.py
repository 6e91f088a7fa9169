"""Program -> C arrays: the files that a firmware build, or a user's own project, takes in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdk.files import deliver
from sdk.gen import kernels_header
from sdk.lower import Lowered
from sdk.ops import registry
from sdk.ops.base import CUSTOM_KERNELS, Kernel


@dataclass(frozen=True)
class Emitted:
    """Texts by file name (`model.c`, `model.h`, `kernels.def`, and `ml_custom.h` if the user's own kernels are used),
    the program they hold, and the C files of the user's own kernels."""

    files: Mapping[str, str]
    program: bytes
    custom_sources: tuple[Path, ...] = ()


def emit(lowered: Lowered, symbol: str = "ml_model") -> Emitted:
    """The C form of a lowered model. `symbol` names the array, `<symbol>_bytes` its size."""
    emitted = _emitted(lowered.name, lowered.block, [kernel.name for kernel in lowered.kernels], symbol, lowered)
    return _with_custom(emitted, lowered.kernels)


def emit_empty(kernels: list[str]) -> Emitted:
    """An image without a program, for programs uploaded later: it links `kernels`, in the order of their numbers."""
    known = registry().kernels
    return _with_custom(_emitted("none", b"", kernels, "ml_model", None), [known[k] for k in kernels if k in known])


def _with_custom(emitted: Emitted, kernels: Iterable[Kernel]) -> Emitted:
    """`emitted` with what the build needs of the user's own among `kernels`."""
    custom = [kernel for kernel in kernels if kernel.number >= CUSTOM_KERNELS]
    if not custom:
        return emitted
    files = {**emitted.files, "ml_custom.h": kernels_header(custom, "ML_CUSTOM_H")}
    return Emitted(files, emitted.program, tuple(sorted({Path(kernel.source) for kernel in custom})))


def _emitted(name: str, block: bytes, kernels: list[str], symbol: str, lowered: Lowered | None) -> Emitted:
    name = re.sub(r"[^\w .-]", "_", name)  # it comes from the model file and must not end the comment
    rows = (block[i : i + 16].hex(",").replace(",", ", 0x") for i in range(0, len(block), 16))
    array = ",\n".join("    0x" + row for row in rows)
    body = array or "    0"
    files = {
        "model.c": f'/* Generated from {name} by Microlith. */\n#include "model.h"\n\n'
        f"const uint8_t {symbol}[] __attribute__((aligned(16))) = {{\n{body},\n}};\n"
        f"const uint32_t {symbol}_bytes = {len(block)}u;\n",
        "model.h": _header(name, symbol, lowered),
        "kernels.def": "".join(f"ML_USE({kernel})\n" for kernel in kernels),
    }
    return Emitted(files, block)


def _header(name: str, symbol: str, lowered: Lowered | None) -> str:
    upper = symbol.upper()
    lines = [
        f"/* Generated from {name} by Microlith. */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <stdint.h>",
        "",
    ]
    if lowered is not None:
        program = lowered.program
        lines += [
            f"#define {upper}_ARENA_BYTES {program.arena_bytes}u",
            f"#define {upper}_STATE_BYTES {program.state_bytes}u",
            f"#define {upper}_FAST_BYTES {program.fast_bytes}u",
            "",
        ]
    lines += [f"extern const uint8_t {symbol}[];", f"extern const uint32_t {symbol}_bytes;", "", "#endif", ""]
    return "\n".join(lines)


def write_files(emitted: Emitted, folder: Path, name: str = "model") -> list[Path]:
    """Writes the C files and `<name>.mlith` into `folder`; all of them or none. OutputError if one cannot be
    written."""
    contents = {folder / key: text.encode() for key, text in emitted.files.items()}
    contents[folder / f"{name}.mlith"] = emitted.program
    deliver(contents)
    return list(contents)
