"""sdk bench"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import (
    add_board,
    add_inputs,
    add_json,
    add_model,
    add_optimize,
    add_port,
    board_of,
    model_of,
    not_negative,
    positive,
)
from sdk.cli.console import Console
from sdk.cli.samples import samples_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sdk.bench import Bench
    from sdk.boards import Board
    from sdk.estimate import Estimate
    from sdk.graph import Graph
    from sdk.target import Optimize

SUMMARY = "measure what an inference costs on a board, step by step"
DETAILS = """Flashes the model and measures one steady inference (not the first). Emulated boards count \
instructions, real ones cycles; a process of this computer counts nanoseconds, and its `instructions` are null.
--json prints macs, instructions, start_instructions (from reset to the first inference, without the CRC-32), \
arena_bytes, state_bytes, stack_bytes, flash by part of the image, and for each of steps \
name, kernel, macs, moved_bytes and instructions. --compare measures each choice of --optimize."""
EXAMPLES = (
    "sdk bench model.tflite --board mps2-an386",
    "sdk bench model.tflite --board mps2-an386 --json | jq .instructions",
    "sdk bench model.tflite --board mps2-an386 --compare    # what speed, balanced and size cost",
    "sdk bench model.tflite --board mps2-an386 --estimate --flash-wait 2 --clock 120    # milliseconds, estimated",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_optimize(parser)
    add_port(parser)
    add_inputs(parser)
    parser.set_defaults(count=1)
    parser.add_argument("--compare", action="store_true", help="what each choice of --optimize costs")
    parser.add_argument("--estimate", action="store_true", help="also estimate the cycles on the board's core")
    parser.add_argument("--core", help="estimate for a cortex-m0, -m0plus, -m3, -m4 or -m7 instead")
    parser.add_argument(
        "--flash-wait", type=not_negative, default=0, metavar="W", help="estimate with wait states of the flash"
    )
    parser.add_argument("--clock", type=positive, metavar="MHZ", help="estimate the milliseconds at this clock")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.estimate import check_core
    from sdk.target import Optimize

    board, port = board_of(args, console)
    args.estimate = args.estimate or bool(args.core or args.clock or args.flash_wait)
    args.core = args.core or board.cpu
    if args.estimate:
        check_core(board, args.core)
    graph = model_of(args)
    result: dict[str, Any] = {"model": args.model, "board": board.id, "emulated": board.emulated}
    if args.compare:
        measured = {choice: _measure(args, graph, board, port, choice, console) for choice in Optimize}
        _say_choices(measured, f"{Path(args.model).name} on {board.id}", console)
        result["choices"] = {str(choice): _result(*both, args) for choice, both in measured.items()}
    else:
        cost, estimated = _measure(args, graph, board, port, args.optimize, console)
        _say(cost, f"{Path(args.model).name} on {board.id}", console)
        if estimated is not None:
            _say_estimate(estimated, args, console)
        result |= {"optimize": str(args.optimize), **_result(cost, estimated, args)}
    console.result(result)
    return 0


def _measure(
    args: argparse.Namespace, graph: Graph, board: Board, port: str | None, optimize: Optimize, console: Console
) -> tuple[Bench, Estimate | None]:
    """The cost with one choice of --optimize, and the estimate where it is wanted."""
    from sdk.bench import bench
    from sdk.deploy import deployed, prepare
    from sdk.estimate import estimate

    lowered = prepare(graph, board, optimize, args.weights_in_ram)
    sample = samples_of(args, graph, lowered.inputs, 1, console)[0]
    with deployed(lowered, board, port=port, progress=console.progress) as target:
        measured = bench(target, lowered, sample.arrays, console.progress)
        if not args.estimate:
            return measured, None
        console.progress("log what the emulator executes")
        return measured, estimate(target, sample.arrays, args.core, args.flash_wait)


def _say_choices(measured: Mapping[Optimize, tuple[Bench, Estimate | None]], what: str, console: Console) -> None:
    """One line for each choice: what it costs in time, RAM and flash."""
    unit = next(cost.unit for cost, _ in measured.values())
    rows = []
    for choice, (cost, estimated) in measured.items():
        ram = f"{cost.arena_bytes + cost.state_bytes:,}"
        flash = (f"{count:,}" for count in (cost.flash["kernels"], cost.flash["program"], sum(cost.flash.values())))
        cycles = (f"{estimated.cycles:,}",) if estimated is not None else ()
        rows.append((str(choice), f"{cost.cost:,}", *cycles, ram, *flash))
    costs = (f">{unit.capitalize()}", ">Cycles, estimated")[: len(rows[0]) - 5]
    console.say(f"{what}: the outputs are the same, the costs are these")
    console.table(("--optimize", *costs, ">Arena and state", ">Kernels", ">Program", ">Flash in all"), rows)
    for former, latter in itertools.pairwise(rows):
        if former[1:] == latter[1:]:
            console.say(f"{former[0]} and {latter[0]} are the same here: there is nothing to trade between them")


def _result(measured: Bench, estimated: Estimate | None, args: argparse.Namespace) -> dict[str, Any]:
    return _json(measured) | ({"estimate": _estimate_json(estimated, args)} if estimated is not None else {})


def _say(measured: Bench, what: str, console: Console) -> None:
    unit = measured.unit
    per_mac = f", {measured.cost / measured.macs:.2f} a MAC" if measured.macs else ""
    console.say(f"{what}: {measured.cost:,} {unit} an inference, {measured.macs:,} MACs{per_mac}")
    console.say(f"start    {measured.start:>12,} {unit}, and {measured.check_crc:,} for the CRC-32 where it is checked")
    console.say(f"arena    {measured.arena_bytes:>12,} bytes of RAM")
    if measured.fast_bytes:
        console.say(f"fast     {measured.fast_bytes:>12,} bytes of fast RAM")
    console.say(f"state    {measured.state_bytes:>12,} bytes of RAM")
    console.say(f"stack    {measured.stack_bytes:>12,} bytes of RAM at most")
    parts = ", ".join(f"{part} {count:,}" for part, count in measured.flash.items())
    console.say(f"flash    {sum(measured.flash.values()):>12,} bytes: {parts}")
    console.say()
    rows = []
    for step in measured.steps:
        ratio = f"{step.cost / step.macs:.2f}" if step.macs else ""
        share = f"{100 * step.cost / measured.cost:.1f}" if measured.cost else ""
        counts = f"{step.macs:,}", f"{step.moved_bytes:,}", f"{step.cost:,}"
        rows.append((step.name, step.kernel, *counts, ratio, share))
    console.table(("Step", "Kernel", ">MACs", ">Bytes moved", f">{unit.capitalize()}", ">a MAC", ">%"), rows)


def _say_estimate(estimated: Estimate, args: argparse.Namespace, console: Console) -> None:
    latency_ms = _latency_ms(estimated, args)
    time = f", {latency_ms:.2f} ms at {args.clock} MHz" if latency_ms is not None else ""
    console.say()
    console.say(f"estimate {estimated.cycles:>12,} cycles on a {estimated.core}, flash wait {args.flash_wait}{time}")
    console.say("         from the reference manual's timings of the instructions executed: no contention, no caches")


def _latency_ms(estimated: Estimate, args: argparse.Namespace) -> float | None:
    return estimated.cycles / (args.clock * 1000) if args.clock else None


def _estimate_json(estimated: Estimate, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "core": estimated.core,
        "cycles": estimated.cycles,
        "instructions": estimated.instructions,
        "flash_wait": args.flash_wait,
        "latency_ms": _latency_ms(estimated, args),
        "step_cycles": list(estimated.steps),
    }


def _json(measured: Bench) -> dict[str, Any]:
    """Costs stand under the name of their unit; `instructions` are null where nothing counts them."""
    unit = measured.unit
    return {
        "macs": measured.macs,
        "moved_bytes": measured.moved_bytes,
        **_costs(unit, measured.cost),
        **_costs(unit, measured.start, "start_"),
        **_costs(unit, measured.check_crc, "crc_"),
        "arena_bytes": measured.arena_bytes,
        "fast_bytes": measured.fast_bytes,
        "state_bytes": measured.state_bytes,
        "stack_bytes": measured.stack_bytes,
        "flash": dict(measured.flash),
        "steps": [
            {
                "name": step.name,
                "kernel": step.kernel,
                "macs": step.macs,
                "moved_bytes": step.moved_bytes,
                **_costs(unit, step.cost),
            }
            for step in measured.steps
        ],
    }


def _costs(unit: str, cost: int, prefix: str = "") -> dict[str, int | None]:
    return {f"{prefix}instructions": None, f"{prefix}{unit}": cost}
