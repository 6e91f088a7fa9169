"""Arm movements: what the example learns from and is measured with, and how they are split.

seglearn ships recordings of a smartwatch (BSD licence): ten people did seven exercises of the shoulder, with either
arm, some twenty times each. Each is a sequence of 6 values at 50 Hz, three of acceleration and three of rotation. Two
of the ten are held out: neither training nor calibration sees anything of them, as with those who will wear the board.

    pip install seglearn
    python data.py            writes train.npz and test.npz beside this file

A sample is a window of two seconds, float32 [100, 6]; labels.txt names the classes, from 0 to 6.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
STRANGERS = 4, 9  # people who are held out
WINDOW = 100  # values, at 50 Hz
TRAIN_STEP, TEST_STEP = 25, 100  # from window to window: what is measured with does not overlap
# What a value of 1 means to the model: both kinds of sensor fill the same range of 8 bits.
UNITS = np.array([1, 1, 1, 4, 4, 4], np.float32)  # g, g, g, rad/s, rad/s, rad/s

Windows = tuple[NDArray[np.float32], NDArray[np.int64]]


def split() -> tuple[Windows, Windows]:
    """Windows and labels to train with, then those of the people who are held out."""
    recorded = recordings()
    parts: list[tuple[list[NDArray[np.float32]], list[int]]] = [([], []), ([], [])]
    for values, label, person in zip(recorded["X"], recorded["y"], recorded["subject"], strict=True):
        held_out = person in STRANGERS
        scaled = (values / UNITS).astype(np.float32)
        for start in range(0, len(values) - WINDOW + 1, TEST_STEP if held_out else TRAIN_STEP):
            parts[held_out][0].append(scaled[start : start + WINDOW])
            parts[held_out][1].append(int(label))
    train, test = ((np.stack(windows), np.array(labels)) for windows, labels in parts)
    return train, test


def recordings() -> dict[str, list[NDArray[np.float64]]]:
    """What seglearn.datasets.load_watch() gives, without importing all of seglearn."""
    found = importlib.util.find_spec("seglearn")
    if found is None or found.origin is None:
        sys.exit("The recordings are in the package seglearn: pip install seglearn")
    path = Path(found.origin).parent / "data" / "watch_dataset.npy"
    return dict(np.load(path, allow_pickle=True).item())


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="where to write (default: here)")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for name, (windows, labels) in zip(("train", "test"), split(), strict=True):
        np.savez_compressed(folder / f"{name}.npz", x=windows, y=labels)
        print(f"{folder / name}.npz: {len(labels):,} windows")


if __name__ == "__main__":
    main()
