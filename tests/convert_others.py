"""Builds, by PyTorch, a source for every route from there: `python convert_others.py FOLDER`.

Run by tests/test_convert_others.py in the environment that `sdk convert` makes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import torch


class Net(torch.nn.Module):
    """A small network of what mobile networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depth = torch.nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.last = torch.nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Softmax over ten classes."""
        x = torch.relu(self.norm(self.first(x)))
        x = torch.nn.functional.relu6(self.depth(x)).mean((2, 3))
        return torch.softmax(self.last(x), 1)


class Lstm(torch.nn.Module):
    """An LSTM, the last of whose outputs are classified."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.LSTM(5, 8, batch_first=True)
        self.last = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Three scores."""
        return self.last(self.cells(x)[0][:, -1])


def net() -> Net:
    """The network, with weights that are always the same."""
    torch.manual_seed(0)
    return Net().eval()


def sample() -> torch.Tensor:
    """What it takes: channels first."""
    return torch.zeros(1, 3, 16, 16)


def main(folder: Path) -> None:
    """Writes everything."""
    torch.export.save(torch.export.export(net(), (sample(),)), folder / "net.pt2")
    torch.export.save(torch.export.export(Lstm().eval(), (torch.zeros(1, 6, 5),)), folder / "lstm.pt2")
    np.save(folder / "sequences.npy", np.random.default_rng(1).normal(size=(30, 6, 5)).astype(np.float32))
    np.save(folder / "train.npy", np.random.default_rng(0).normal(size=(30, 16, 16, 3)).astype(np.float32))
    shutil.copy(__file__, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
