"""Frames with what a model made of them, for whoever checks it: python -m sdk.camera.record MODEL --source picamera2

`sdk verify --camera` starts this on a Linux board. Each frame is one message on stdout, as of `sdk.runtime.__main__`;
nothing else is written there.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdk.camera.prepare import Preparation
from sdk.camera.sources import Frame, Latest, Source, open_source
from sdk.preprocess import declaration
from sdk.runtime import ENGINES, Runtime
from sdk.runtime.__main__ import send
from sdk.runtime.program import call, own_output
from sdk.runtime.tensors import Array

LIVE_FRAMES = 20  # of a camera, which has no end


@dataclass(frozen=True)
class Recorded:
    """A frame, the input that it became, and the outputs; as the model stores them."""

    name: str
    pixels: Array
    input: Array
    outputs: tuple[Array, ...]

    def arrays(self) -> dict[str, Array]:
        """For a message."""
        outputs = {f"output_{i}": array for i, array in enumerate(self.outputs)}
        return {"name": np.array(self.name), "pixels": self.pixels, "input": self.input, **outputs}

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Recorded:
        """What a message holds."""
        outputs = tuple(arrays[f"output_{i}"] for i in range(len(arrays) - 3))
        return Recorded(str(arrays["name"]), arrays["pixels"], arrays["input"], outputs)


def record(
    source: Source, preparation: Preparation, invoke: Callable[[Sequence[Array]], Sequence[Array]], count: int | None
) -> Iterator[Recorded]:
    """`count` frames of a source, or all it has, or LIVE_FRAMES; each is put into the model by `invoke`."""
    with Latest(source) if source.live else contextlib.nullcontext(source) as frames:
        limit = count or (LIVE_FRAMES if source.live else None)
        for frame in itertools.islice(iter(frames.read, None), limit):
            yield _recorded(frame, preparation, invoke)


def _recorded(frame: Frame, preparation: Preparation, invoke: Callable[[Sequence[Array]], Sequence[Array]]) -> Recorded:
    stored = preparation.stored(frame.pixels)
    return Recorded(frame.name, frame.pixels, stored, tuple(invoke([stored])))


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sdk.camera.record", description="Records frames and outputs.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--source", default="picamera2")
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--reference", action="store_true", help="the reference kernels")
    parser.add_argument("--count", type=int)
    args = parser.parse_args()
    return call(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    with (
        own_output() as out,
        Runtime(args.model, engine=args.engine, reference=args.reference) as runtime,
        contextlib.closing(open_source(args.source)) as source,
    ):
        picture = declaration(args.model).picture
        preparation = Preparation(picture, runtime.inputs.values(), runtime.outputs.values())
        for recorded in record(source, preparation, runtime.invoke, args.count):
            send(out, recorded.arrays())


if __name__ == "__main__":
    sys.exit(main())
