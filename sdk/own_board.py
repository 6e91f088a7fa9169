"""A board of the user's own: the file of one that is much like it, under another id, to be edited."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from sdk.board_file import read_board
from sdk.boards import Board, all_boards, load_board
from sdk.errors import BoardError, OutputError
from sdk.files import write_whole


def new_board(id_: str, like: Board, folder: Path, name: str = "") -> Board:
    """Writes `folder`/`id_`.json after the file of `like`, and returns its board. BoardError if the id is not one or is
    taken, OutputError if the file cannot be written."""
    if "/" in id_:
        raise BoardError(f"'{id_}' is not a board's id", "Name the folder with --output.")
    path = folder / f"{id_}.json"
    manifest = json.loads(like.path.read_bytes())
    manifest["name"] = name or f"{id_}, like {manifest['name'].rpartition(', like ')[2]}"
    own = manifest["microlith"]
    if "/" in own["port"]:  # a path from the board file
        own["port"] = f"./{os.path.relpath(like.port, folder)}"
    board = read_board(path, manifest)
    if path.exists() or id_ in {each.id for each in all_boards(lambda _fault: None)}:
        raise BoardError(f"there is a board '{id_}' already", "Choose another id; nothing was written.")
    try:
        write_whole(path, json.dumps(manifest, indent=2).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "Choose another folder with --output.") from error
    return board


def board_with_chip(chip: str) -> Board:
    """A board with this chip or, if there is none, with one whose name begins alike; of several that whose image has
    most of its flash. BoardError with a board whose chip is of the same family, and the chips that there are."""
    chips: dict[str, Board] = {}
    for board in sorted(all_boards(lambda _fault: None), key=lambda board: -board.flash_bytes):
        if _family(board.chip.lower()):
            chips.setdefault(board.chip.lower(), board)
    wanted = re.sub("[^a-z0-9]", "", chip.lower())
    found = [known for known in chips if wanted.startswith(known) and not _is_sister(wanted, known)]
    alike = sorted(known for known in chips if wanted and known.startswith(wanted))
    if not found and not alike:
        remedy = f"{_akin(wanted, chips)}Chips: {', '.join(sorted(chips))}. Else docs/porting.md."
        raise BoardError(f"no board has the chip '{chip}'", remedy)
    return chips[max(found, key=len) if found else alike[0]]


def _is_sister(wanted: str, known: str) -> bool:
    """Whether it is another chip, whose name goes on where that of the first of its family ends: ESP32-S2, -C6, -P4."""
    return known == "esp32" and re.match("esp32[chps][1-9]", wanted) is not None


def _family(chip: str) -> str:
    """What the names of chips with the same registers begin with: stm32f4, nrf52. "" of what is no chip's name."""
    found = re.match(r"[a-z]+\d+[a-z]+\d|[a-z]+\d\d", chip)
    return found[0] if found else ""


def _akin(wanted: str, chips: Mapping[str, Board]) -> str:
    """Names a board whose chip is of the same family: one to be held in hands, if there is, and then the nearest."""

    def nearness(chip: str) -> tuple[bool, int]:
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(wanted, chip, strict=False))
        return not chips[chip].emulated, len(list(alike))

    family = [chip for chip in chips if _family(wanted) and _family(chip) == _family(wanted)]
    if not family:
        return ""
    nearest = max(family, key=nearness)
    return f"One of its family, to begin with: --from {chips[nearest].id}, which has the {nearest}. "


def board_like(id_or_path: str | None, chip: str | None) -> Board:
    """The board that is named by its id, its file, or its chip."""
    return load_board(id_or_path) if id_or_path is not None else board_with_chip(chip or "")
