"""From --inputs and its companions to samples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.cli.console import Console
from sdk.errors import ModelError

if TYPE_CHECKING:
    from sdk.graph import Graph
    from sdk.inputs import Sample
    from sdk.preprocess import Preprocessing
    from sdk.program import TensorSpec


def samples_of(
    args: argparse.Namespace, graph: Graph, specs: Sequence[TensorSpec], count: int, console: Console
) -> list[Sample]:
    """What `arguments.add_inputs` was given: files, or else random values, `count` of them where --count is not
    given."""
    from sdk.inputs import no_pixels, random_samples, read_samples
    from sdk.ranges import input_ranges

    if not args.inputs:
        if args.pixel_range:
            raise no_pixels()
        return random_samples(specs, args.count or count, args.seed, input_ranges(graph))
    pixel_range = tuple(args.pixel_range) if args.pixel_range else None
    samples = read_samples(args.inputs, specs, pixel_range, console.note, declared_by(args))
    return samples[: args.count] if args.count else samples


def declared_by(args: argparse.Namespace) -> Preprocessing | None:
    """The preprocessing that the model file declares."""
    from sdk.preprocess import attached

    try:
        return attached(Path(args.model).read_bytes())
    except ModelError as error:
        raise ModelError(f"{args.model}: {error.message}", error.remedy) from error
