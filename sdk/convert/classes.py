"""Folders of pictures, one a class: what they hold, and which of it is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sdk.cache import Progress, silent
from sdk.errors import InputError
from sdk.inputs import PICTURES


def find_classes(path: Path, note: Progress = silent) -> dict[str, list[Path]]:
    """The pictures in each subfolder of `path`, by its name. InputError if they are no two classes of two pictures."""
    if not path.is_dir():
        raise InputError(f"there is no folder {path}", "Give one with a subfolder of pictures for each class.")
    folders = [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]
    numbered = all(each.name.isdecimal() for each in folders)
    folders.sort(key=lambda each: (int(each.name) if numbered else 0, each.name))
    if len(folders) < 2:
        raise InputError(
            f"{path} has {len(folders) or 'no'} subfolder{'' if len(folders) == 1 else 's'}: a network tells at least "
            "two classes apart",
            "Put the pictures of each class into a subfolder of its name.",
        )
    classes = {each.name: _pictures(each, note) for each in folders}
    for name, files in classes.items():
        if len(files) < 2:
            raise InputError(
                f"the class '{name}' has {len(files) or 'no'} picture{'' if len(files) == 1 else 's'} "
                f"({', '.join(sorted(PICTURES))}) in {path / name}",
                "Give at least two, one to learn from and one to be held out; better some hundred."
                + _instead(path / name),
            )
    return classes


def _instead(folder: Path) -> str:
    """What is there in place of pictures."""
    others = [
        each for each in folder.iterdir() if each.suffix.lower() not in PICTURES and not each.name.startswith(".")
    ]
    if any(each.is_dir() for each in others):
        return " Those in its subfolders are not looked at: move them up."
    endings = sorted({each.suffix.lower() for each in others if each.suffix})
    return f" Save the {', '.join(endings[:3])} there as .png, if they are pictures." if endings else ""


def _pictures(folder: Path, note: Progress) -> list[Path]:
    files = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    found = [each for each in files if each.suffix.lower() in PICTURES]
    if len(found) < len(files):
        note(f"{folder}: {len(files) - len(found)} that are no {', '.join(sorted(PICTURES))} are passed over")
    return found


def drawn(classes: Mapping[str, Sequence[Path]], share: float, seed: int) -> list[list[tuple[Path, int]]]:
    """Pictures and their classes: those to train with and those held out, at least one of every class in each. The same
    for the same seed; both go through the classes in turn."""
    parts: list[list[tuple[int, Path, int]]] = [[], []]
    for label, files in enumerate(classes.values()):
        order = np.random.default_rng([seed, label]).permutation(len(files))
        held = min(max(1, round(share * len(files))), len(files) - 1)
        for place, at in enumerate(order):
            parts[place < held].append((place, files[at], label))
    return [[(file, label) for _, file, label in sorted(part, key=lambda each: (each[0], each[2]))] for part in parts]
