"""sdk run"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import (
    add_board,
    add_count,
    add_inputs,
    add_json,
    add_model,
    add_optimize,
    add_port,
    board_of,
    model_of,
)
from sdk.cli.console import Console
from sdk.cli.samples import declared_by, samples_of

if TYPE_CHECKING:
    from sdk.boards import Counter
    from sdk.graph import Array
    from sdk.inputs import Sample
    from sdk.program import TensorSpec

SUMMARY = "run a model on a board and print what it answers"
DETAILS = (
    "Flashes the model first. Each sample is one inference; state, where a model has some, lives from one to the next."
)
EXAMPLES = (
    "sdk run model.tflite --board mps2-an386 --inputs cat.png",
    "sdk run model.tflite --board native --inputs samples.npy --output answers.npz",
    "sdk run model.tflite --board mps2-an386 --inputs photo.jpg --pixel-range -1 1",
)
COUNT = 1
TOP = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_optimize(parser)
    add_port(parser)
    add_inputs(parser)
    add_count(parser, COUNT)
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="save all outputs as .npz, by their names")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.deploy import deployed, prepare

    board, port = board_of(args, console)
    graph = model_of(args)
    lowered = prepare(graph, board, args.optimize, args.weights_in_ram)
    samples = samples_of(args, graph, lowered.inputs, COUNT, console)
    answers, ticks = [], []
    with deployed(lowered, board, port=port, progress=console.progress) as target:
        for number, sample in enumerate(samples, 1):
            console.progress(f"inference {number} of {len(samples)}: {sample.name}")
            result = target.device.invoke(sample.arrays)
            answers.append(result.outputs)
            ticks.append(result.ticks if target.device.info.counter_runs else 0)
    declared = declared_by(args)
    labels = declared.labels if declared is not None else ()
    for sample, outputs, cost in zip(samples, answers, ticks, strict=True):
        _say(sample, outputs, lowered.outputs, _cost(cost, board.counter), labels, console)
    if args.output is not None:
        _save(args.output, lowered.outputs, answers)
        console.say(f"wrote {args.output}")
    console.result({"board": board.id, "emulated": board.emulated, "samples": _json(samples, answers, lowered.outputs)})
    return 0


def _cost(ticks: int, counter: Counter) -> str:
    return f" ({counter.units(ticks):,} {counter.unit})" if ticks else ""


def _say(
    sample: Sample,
    outputs: Sequence[Array],
    specs: Sequence[TensorSpec],
    cost: str,
    labels: Sequence[str],
    console: Console,
) -> None:
    console.say(f"{sample.name}{cost}")
    for array, spec in zip(outputs, specs, strict=True):
        console.say(f"  {spec.name} {spec.dtype.numpy_name}{list(spec.shape)}")
        for index, stored, real in top(array, spec):
            name = f"  {labels[index]}" if len(labels) == array.size else ""
            console.say(f"    {index:>6}  {real:>12.6g}" + ("" if spec.scale == 0 else f"  (stored {stored})") + name)


def top(array: Array, spec: TensorSpec) -> list[tuple[int, Any, float]]:
    """(index, stored value, real value) of the largest values, the largest first."""
    import numpy as np

    flat = array.reshape(-1)
    order = np.argsort(-flat.astype(np.float64), kind="stable")[:TOP]
    scale = spec.scale or 1.0
    return [(int(i), flat[i].item(), scale * (float(flat[i]) - spec.zero_point)) for i in order]


def names(specs: Sequence[TensorSpec]) -> list[str]:
    """The names of outputs, made different where two are the same."""
    given = [spec.name for spec in specs]
    return [name if given.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(given)]


def _save(path: Path, specs: Sequence[TensorSpec], answers: Sequence[Sequence[Array]]) -> None:
    """Each output as one array of [samples, *shape]."""
    import io

    import numpy as np

    from sdk.files import deliver

    data = io.BytesIO()
    columns = zip(names(specs), zip(*answers, strict=True), strict=True)
    np.savez(data, **{name: np.stack(values) for name, values in columns})
    deliver({path: data.getvalue()})


def _json(samples: Sequence[Sample], answers: Sequence[Sequence[Array]], specs: Sequence[TensorSpec]) -> list[Any]:
    keys = names(specs)
    return [
        {
            "name": sample.name,
            "outputs": {key: _values(array) for key, array in zip(keys, outputs, strict=True)},
            "top": {key: top(array, spec)[0][0] for key, array, spec in zip(keys, outputs, specs, strict=True)},
        }
        for sample, outputs in zip(samples, answers, strict=True)
    ]


def _values(array: Array) -> Any:
    """Nested lists; what JSON has no number for becomes text."""
    import numpy as np

    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return np.where(np.isfinite(array), array.astype(object), array.astype(str)).tolist()
    return array.tolist()
