"""How samples go to a converter's process and back: an .npz with the arrays s0_0, s0_1, s1_0, ...: of each sample those
of each input or output; and what is said of their shapes. Needs nothing but numpy, for it runs on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COMMON = 96  # a size that most models take which leave it open


def say_shape(name: str, sizes: Sequence[int | None]) -> str:
    """The remedy for an input that leaves sizes open: an argument that can be given as it is."""
    filled = [(1 if i == 0 else COMMON) if size is None else size for i, size in enumerate(sizes)]
    return f"Say its sizes, for example: --shape {name}={','.join(map(str, filled))}"


def check_names(shapes: Mapping[str, Any], names: Sequence[str | None]) -> None:
    """ValueError for the shape of an input that there is not."""
    unknown = next((name for name in shapes if name not in names), None)
    if unknown is not None:
        inputs = ", ".join(dict.fromkeys(name for name in names if name))
        raise ValueError(f"the model has no input '{unknown}' (--shape)", f"Its inputs: {inputs}.")


def write_arrays(path: str | Path, samples: Iterable[Sequence[Any]]) -> None:
    """Writes the arrays of each sample; all have as many."""
    named = {f"s{i}_{k}": np.asarray(array) for i, sample in enumerate(samples) for k, array in enumerate(sample)}
    with Path(path).open("wb") as file:  # np.savez adds an ending to other names
        np.savez(file, **named)


def read_arrays(path: str | Path) -> list[list[Any]]:
    """What `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as found:
        each = sum(name.startswith("s0_") for name in found.files)
        count = len(found.files) // each if each else 0
        return [[found[f"s{i}_{k}"] for k in range(each)] for i in range(count)]
