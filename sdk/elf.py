"""What lies where in a linked image: the linker's map, checked against the ELF file itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from sdk.boards import MemoryRegion
from sdk.errors import ToolError

PARTS = ("interpreter", "kernels", "program", "port")
RESERVED = (".pool", ".stack", ".text_in_flash")  # sections that hold no variables


@dataclass(frozen=True)
class Layout:
    """Sizes in bytes. `flash` by part: code, constants and initial values of variables."""

    flash: Mapping[str, int]
    static_ram_bytes: int
    pool_bytes: int
    functions: frozenset[str]  # names, those of static ones too
    symbols: Mapping[str, int]  # addresses by name


def read_layout(elf: Path, linker_map: Path | None = None) -> Layout:
    """The layout of an image; without a map its flash is of one part. ToolError if the map and the ELF file
    disagree."""
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        allocated = [section for section in file.iter_sections() if section["sh_flags"] & SH_FLAGS.SHF_ALLOC]
        stored = {section.name: section["sh_size"] for section in allocated if section["sh_type"] != "SHT_NOBITS"}
        variables = [section for section in allocated if section["sh_flags"] & SH_FLAGS.SHF_WRITE]
        static = sum(section["sh_size"] for section in variables if section.name not in RESERVED)
        table = file.get_section_by_name(".symtab")
        symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
    addresses = {symbol.name: symbol["st_value"] for symbol in symbols}
    functions = frozenset(symbol.name for symbol in symbols if symbol["st_info"]["type"] == "STT_FUNC")
    for name in ("ml_pool_start", "ml_pool_end"):
        if name not in addresses:
            raise ToolError(f"the image has no symbol {name}", "The port must define it: see firmware/src/port.h.")
    pool_bytes = addresses["ml_pool_end"] - addresses["ml_pool_start"]
    flash = {"image": sum(stored.values())} if linker_map is None else _by_part(stored, linker_map)
    return Layout(flash, static, pool_bytes, functions, addresses)


def _by_part(stored: Mapping[str, int], linker_map: Path) -> dict[str, int]:
    """Bytes of flash by part; `stored` has the sizes of the sections that lie in flash. What the linker puts between
    objects (alignment, tables) counts as port, less what it saves by merging the equal strings of libraries."""
    parts = dict.fromkeys(PARTS, 0)
    sums = dict.fromkeys(stored, 0)
    libraries = dict.fromkeys(stored, 0)
    for section, count, path in _pieces(linker_map.read_text(errors="replace")):
        if section in stored:
            parts[_part(path)] += count
            sums[section] += count
            libraries[section] += count if path.endswith(".o)") else 0
    for section, count in stored.items():
        if sums[section] > count + libraries[section]:
            raise ToolError(f"{linker_map} gives {sums[section]} bytes to {section}, which has {count}")
        parts["port"] += count - sums[section]
    return parts


# A GNU linker map: sections of the image at the margin, their pieces one column in, long names on lines of their own.
_SECTION_OR_PIECE = re.compile(
    r"^(?P<section>[.\w]\S*)(?=\s)|^ (?:[.\w]\S*|\*fill\*)\s+0x[0-9a-f]+\s+0x(?P<bytes>[0-9a-f]+)(?P<path> .*)?$",
    re.MULTILINE,
)


def _pieces(text: str) -> Iterator[tuple[str, int, str]]:
    """Section, size and object file of each piece in a linker map."""
    section = ""
    for match in _SECTION_OR_PIECE.finditer(text, text.index("Linker script and memory map")):
        if match["section"]:
            section = match["section"]
        else:
            yield section, int(match["bytes"], 16), (match["path"] or "").strip()


def _part(path: str) -> str:
    """Objects of the firmware have paths below the build's folder; the rest is libraries."""
    match = re.match(rf"(?:images/\w+/)?({'|'.join(PARTS)})/", path)
    return match[1] if match else "port"


def flash_image(elf: Path, flash: MemoryRegion) -> tuple[int, bytes]:
    """Address and content of what is to be written to the flash: the loaded segments, gaps as erased flash has them.
    ToolError if there is nothing, or what does not lie in `flash`."""
    with elf.open("rb") as stream:
        loaded = [segment for segment in ELFFile(stream).iter_segments("PT_LOAD") if segment["p_filesz"]]
        pieces = sorted((segment["p_paddr"], segment.data()) for segment in loaded)
    if not pieces:
        raise ToolError(f"{elf} holds nothing to be flashed")
    for address, data in pieces:
        if not flash.origin <= address <= flash.origin + flash.bytes - len(data):
            raise ToolError(f"{elf} has {len(data):,} bytes at {address:#x}, which is not in the board's flash")
    image = bytearray()
    for address, data in pieces:
        image += b"\xff" * (address - pieces[0][0] - len(image)) + data
    return pieces[0][0], bytes(image)
