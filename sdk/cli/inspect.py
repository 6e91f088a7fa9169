"""sdk inspect"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_board, add_json, add_model, add_optimize, model_of
from sdk.cli.console import Console

if TYPE_CHECKING:
    from sdk.fit import Fit
    from sdk.graph import Graph, Tensor
    from sdk.report import Memory, NodeReport, Report

SUMMARY = "say what a model is, what it costs, and which boards it fits"
DETAILS = """Works on every .tflite file that can be read, also one with operators that Microlith does not have, or \
with tensors that break the format's rules: what keeps it from being lowered comes last, with what can be done. \
Nothing is built."""
EXAMPLES = (
    "sdk inspect model.tflite",
    "sdk inspect model.tflite --board microbit    # kernels and memory as that board has them",
    "sdk inspect model.tflite -v          # all tensors and all steps too",
    "sdk inspect model.tflite --json | jq .macs",
)
BAR_CHARS = 40
STEPS_SHOWN = 60  # without -v


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser, required=False)
    add_optimize(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.boards import all_boards, load_board
    from sdk.report import fits, inspect
    from sdk.target import Target

    target = load_board(args.board).target() if args.board else Target()
    target = replace(target, optimize=args.optimize, weights_ram_bytes=args.weights_in_ram)
    report = inspect(model_of(args, sound=False), target)
    boards = all_boards(lambda fault: console.note(f"passed over: {fault.message}"))
    fitted = fits(report, boards)
    size = Path(args.model).stat().st_size
    if console.as_json:
        console.result({"model": args.model, "file_bytes": size, **_json(report, fitted)})
        return 0
    console.say(f"{args.model}: {size:,} bytes, {_macs(report)}, {report.weight_bytes:,} bytes of weights")
    _say_model(report, console)
    _say_memory(report, console)
    _say_fits(report, fitted, console)
    _say_problems(report, console)
    return 0


def _macs(report: Report) -> str:
    """Passes leave out what is constant or what nobody reads."""
    before = sum(node.macs or 0 for node in report.nodes)
    return f"{report.macs:,} MACs" + (f" ({before:,} before passes)" if before != report.macs else "")


def _say_model(report: Report, console: Console) -> None:
    graph = report.graph
    signatures = _signatures(graph)
    if len(signatures) > 1:
        console.say(f"\nSignatures: {', '.join(signatures)} (this is {signatures[0]}; --signature shows another)")
    console.say("\nInputs and outputs")
    ends = (("input", graph.input_names, graph.inputs), ("output", graph.output_names, graph.outputs))
    rows = [
        (kind, name, *_row(graph.tensor(i))[1:])
        for kind, names, ids in ends
        for name, i in zip(names, ids, strict=True)
    ]
    console.table(("", "Name", "Type", "Shape", ">Scale", ">Zero point"), rows)
    console.say("\nOperators")
    console.table(("Operator", ">Count"), [(name, str(count)) for name, count in report.operators.items()])
    console.say("\nNodes")
    nodes = [(node.name, "?" if node.macs is None else f"{node.macs:,}", _makes(report, node)) for node in report.nodes]
    console.table(("Node", ">MACs", "Makes"), nodes)
    if console.verbose:
        console.say("\nTensors")
        tensors = [
            (str(t.id), *_row(t), "constant" if t.data is not None else "") for t in report.graph.tensors.values()
        ]
        console.table((">Id", "Name", "Type", "Shape", ">Scale", ">Zero point", ""), tensors)
    if report.lowered is not None:
        kernels = ", ".join(kernel.name for kernel in report.lowered.kernels) or "none"
        console.say(f"\nKernels ({report.target.profile.name}, {report.target.optimize}): {kernels}")


def _signatures(graph: Graph) -> list[str]:
    """Those of the model, the one that is shown first."""
    return [each.signature.name for each in (graph, *graph.subgraphs.values()) if each.signature]


def _makes(report: Report, node: NodeReport) -> str:
    from sdk.report import form_text

    return ", ".join(form_text(report.graph.tensor(i)) for i in node.outputs)


def _row(tensor: Tensor) -> tuple[str, str, str, str, str]:
    scale, zero_point = "", ""
    if tensor.quantization is not None:
        many = tensor.quantization.per_channel
        scale = f"{len(tensor.quantization.scale)} of them" if many else f"{tensor.quantization.scale[0]:.9g}"
        zero_point = "" if many else str(tensor.quantization.zero_point[0])
    return tensor.name, tensor.dtype.numpy_name, str(list(tensor.shape)), scale, zero_point


def _say_memory(report: Report, console: Console) -> None:
    memory = report.memory
    state = f", state {memory.state_bytes:,}" if memory.state_bytes else ""
    if memory.exact:
        kernels = f" with {report.target.profile.name} kernels"
        bound = f"(no plan can be below {memory.lower_bound_bytes:,})"
        console.say(f"\nMemory{kernels}: arena {memory.arena_bytes:,} bytes {bound}{state}")
    else:
        console.say(f"\nMemory, estimated from the tensors: arena {memory.arena_bytes:,} bytes{state}")
    for line in timeline(memory, None if console.verbose else STEPS_SHOWN):
        console.say(line)


def timeline(memory: Memory, most: int | None) -> list[str]:
    """The live bytes of each step as bars; the `most` largest steps if there are more."""
    indices = list(range(len(memory.steps)))
    lines = []
    if most is not None and len(indices) > most:
        indices = sorted(sorted(indices, key=lambda i: -memory.steps[i][1])[:most])
        lines.append(f"the {most} largest of {len(memory.steps)} steps (-v shows all)")
    width = max((len(memory.steps[i][0]) for i in indices), default=0)
    for i in indices:
        name, live = memory.steps[i]
        bar = "#" * round(BAR_CHARS * live / max(memory.arena_bytes, 1))
        peak = " <- peak" if i == memory.peak else ""
        lines.append(f"{i:4d} {name:<{width}} {live:>12,} |{bar:<{BAR_CHARS}}|{peak}")
    return lines


def _say_fits(report: Report, fitted: Sequence[Fit], console: Console) -> None:
    estimated = "" if report.lowered is not None else ", estimated"
    console.say(
        f"\nBoards: what the program needs{estimated}, of what every firmware leaves; its kernels add to the flash"
    )
    rows = []
    for fit in fitted:
        board = fit.board
        flash = f"{fit.flash_bytes:,}", f"{board.program_flash_bytes:,}"
        ram = f"{fit.ram_bytes:,}", f"{board.program_ram_bytes:,}"
        rows.append((board.id, *flash, *ram, _verdict(fit, report)))
    console.table(("Board", ">Flash", ">of", ">RAM", ">of", "Fits"), rows)


def _verdict(fit: Fit, report: Report) -> str:
    return "would, if it could be lowered" if fit.fits and report.lowered is None else fit.verdict


def _say_problems(report: Report, console: Console) -> None:
    if not report.problems:
        return
    console.say("\nWhat keeps it from being lowered")
    for problem in report.problems:
        more = f" (and {problem.count - 1} more nodes like it)" if problem.count > 1 else ""
        console.say(f"- {problem.message}{more}")
        if problem.remedy:
            console.say(f"  {problem.remedy}")


def _json(report: Report, fitted: Sequence[Fit]) -> dict[str, Any]:
    graph, memory, lowered = report.graph, report.memory, report.lowered
    return {
        "supported": lowered is not None,
        "problems": [
            {"message": p.message, "remedy": p.remedy, "node": p.node, "count": p.count} for p in report.problems
        ],
        "macs": report.macs,
        "weight_bytes": report.weight_bytes,
        "program_bytes": len(lowered.block) if lowered is not None else None,
        "operators": dict(report.operators),
        "profile": report.target.profile.name,
        "kernels": [kernel.name for kernel in lowered.kernels] if lowered is not None else None,
        "signatures": _signatures(graph),
        "inputs": [_tensor_json(graph.tensor(i)) for i in graph.inputs],
        "outputs": [_tensor_json(graph.tensor(i)) for i in graph.outputs],
        "tensors": [_tensor_json(tensor) for tensor in graph.tensors.values()],
        "nodes": [{"name": n.name, "macs": n.macs, "inputs": n.inputs, "outputs": n.outputs} for n in report.nodes],
        "memory": {
            "exact": memory.exact,
            "arena_bytes": memory.arena_bytes,
            "lower_bound_bytes": memory.lower_bound_bytes,
            "state_bytes": memory.state_bytes,
            "peak_step": memory.peak,
            "steps": [{"name": name, "live_bytes": live} for name, live in memory.steps],
        },
        "boards": [_fit_json(fit, supported=lowered is not None) for fit in fitted],
    }


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    quantization = tensor.quantization
    return {
        "id": tensor.id,
        "name": tensor.name,
        "type": tensor.dtype.numpy_name,
        "shape": tensor.shape,
        "scale": [_number(scale) for scale in quantization.scale] if quantization is not None else None,
        "zero_point": quantization.zero_point if quantization is not None else None,
        "constant": tensor.data is not None,
    }


def _number(value: float) -> float | str:
    """JSON has no infinities."""
    return value if math.isfinite(value) else str(value)


def _fit_json(fit: Fit, *, supported: bool) -> dict[str, Any]:
    return {
        "id": fit.board.id,
        "fits": fit.fits and supported,
        "flash_bytes": fit.flash_bytes,
        "flash_room_bytes": fit.board.program_flash_bytes,
        "flash_missing_bytes": fit.flash_missing,
        "flash_left_for_kernels_bytes": fit.kernels_room,
        "ram_bytes": fit.ram_bytes,
        "ram_room_bytes": fit.board.program_ram_bytes,
        "ram_missing_bytes": fit.ram_missing,
    }
