"""What an image is made of, told to another build system: sources, flags, compiler, linker script.

`sdk build` and whoever follows a recipe make the same image: both take it from sdk.build.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from sdk.boards import Board
from sdk.build import SMALL, Source, compile_flags, image_sources, link_flags
from sdk.emit import Emitted
from sdk.files import deliver
from sdk.tools import compiler_command


def write_recipe(board: Board, emitted: Emitted, folder: Path) -> list[Path]:
    """Writes the files of `emitted` and recipe.json into `folder`, all or none; their paths. OutputError if one cannot
    be written, MissingToolError if the compiler is not there."""
    files = {folder / name: text.encode() for name, text in emitted.files.items()}
    files[folder / "recipe.json"] = json.dumps(recipe(board, emitted, folder), indent=2).encode() + b"\n"
    deliver(files)
    return list(files)


def recipe(board: Board, emitted: Emitted, folder: Path) -> dict[str, Any]:
    """Compile each source with `compiler`, `flags` and its own flags; link all with `compiler`, `link_flags` and
    `libraries`. `object` is a relative path that no other source has."""
    folder = folder.absolute()
    programs = [Source(folder / name, "program", SMALL) for name in emitted.files if name.endswith(".c")]
    return {
        "board": board.id,
        "compiler": shlex.split(compiler_command(board.compiler)),
        "flags": [*shlex.split(compile_flags(board, ())), f"-I{folder}"],
        "sources": [_source(source) for source in (*image_sources(board, emitted), *programs)],
        "link_flags": shlex.split(link_flags(board, folder)),
        "libraries": ["gcc"],
    }


def _source(source: Source) -> dict[str, Any]:
    return {"path": str(source.path.absolute()), "object": source.object, "flags": [source.optimize]}
