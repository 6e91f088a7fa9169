"""sdk bench"""

from __future__ import annotations

import argparse
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
    from sdk.bench import Bench
    from sdk.estimate import Estimate

SUMMARY = "measure what an inference costs on a board, step by step"
DETAILS = """Flashes the model and measures one steady inference (not the first). Emulated boards count \
instructions, real ones cycles; a process of this computer counts nanoseconds, and its `instructions` are null.
--json prints macs, instructions, start_instructions (from reset to the first inference, without the CRC-32), \
arena_bytes, state_bytes, stack_bytes, flash by part of the image, and for each of steps \
name, kernel, macs and instructions."""
EXAMPLES = (
    "sdk bench model.tflite --board mps2-an386",
    "sdk bench model.tflite --board mps2-an386 --json | jq .instructions",
    "sdk bench model.tflite --board mps2-an386 --estimate --flash-wait 2 --clock 120    # milliseconds, estimated",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_optimize(parser)
    add_port(parser)
    add_inputs(parser)
    parser.set_defaults(count=1)
    parser.add_argument("--estimate", action="store_true", help="also estimate the cycles on the board's core")
    parser.add_argument("--core", help="estimate for a cortex-m0, -m0plus, -m3, -m4 or -m7 instead")
    parser.add_argument(
        "--flash-wait", type=not_negative, default=0, metavar="W", help="estimate with wait states of the flash"
    )
    parser.add_argument("--clock", type=positive, metavar="MHZ", help="estimate the milliseconds at this clock")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.bench import bench
    from sdk.deploy import deployed, prepare
    from sdk.estimate import check_core, estimate

    board, port = board_of(args, console)
    estimated: Estimate | None = None
    wanted = args.estimate or args.core or args.clock or args.flash_wait
    core = args.core or board.cpu
    if wanted:
        check_core(board, core)
    graph = model_of(args)
    lowered = prepare(graph, board, args.optimize)
    sample = samples_of(args, graph, lowered.inputs, 1, console)[0]
    with deployed(lowered, board, port=port, progress=console.progress) as target:
        measured = bench(target, lowered, sample.arrays, console.progress)
        if wanted:
            console.progress("log what the emulator executes")
            estimated = estimate(target, sample.arrays, core, args.flash_wait)
    _say(measured, f"{Path(args.model).name} on {board.id}", console)
    result = {"model": args.model, "board": board.id, "emulated": board.emulated}
    result |= {"optimize": str(args.optimize), **_json(measured)}
    if estimated is not None:
        result["estimate"] = _estimated(estimated, args, console)
    console.result(result)
    return 0


def _say(measured: Bench, what: str, console: Console) -> None:
    unit = measured.unit
    per_mac = f", {measured.cost / measured.macs:.2f} a MAC" if measured.macs else ""
    console.say(f"{what}: {measured.cost:,} {unit} an inference, {measured.macs:,} MACs{per_mac}")
    console.say(f"start    {measured.start:>12,} {unit}, and {measured.check_crc:,} for the CRC-32 where it is checked")
    console.say(f"arena    {measured.arena_bytes:>12,} bytes of RAM")
    console.say(f"state    {measured.state_bytes:>12,} bytes of RAM")
    console.say(f"stack    {measured.stack_bytes:>12,} bytes of RAM at most")
    parts = ", ".join(f"{part} {count:,}" for part, count in measured.flash.items())
    console.say(f"flash    {sum(measured.flash.values()):>12,} bytes: {parts}")
    console.say()
    rows = []
    for step in measured.steps:
        ratio = f"{step.cost / step.macs:.2f}" if step.macs else ""
        share = f"{100 * step.cost / measured.cost:.1f}" if measured.cost else ""
        rows.append((step.name, step.kernel, f"{step.macs:,}", f"{step.cost:,}", ratio, share))
    console.table(("Step", "Kernel", ">MACs", f">{unit.capitalize()}", ">a MAC", ">%"), rows)


def _estimated(estimated: Estimate, args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Says the estimate; the same for machines."""
    latency_ms = estimated.cycles / (args.clock * 1000) if args.clock else None
    time = f", {latency_ms:.2f} ms at {args.clock} MHz" if latency_ms is not None else ""
    console.say()
    console.say(f"estimate {estimated.cycles:>12,} cycles on a {estimated.core}, flash wait {args.flash_wait}{time}")
    console.say("         from the reference manual's timings of the instructions executed: no contention, no caches")
    return {
        "core": estimated.core,
        "cycles": estimated.cycles,
        "instructions": estimated.instructions,
        "flash_wait": args.flash_wait,
        "latency_ms": latency_ms,
        "step_cycles": list(estimated.steps),
    }


def _json(measured: Bench) -> dict[str, Any]:
    """Costs stand under the name of their unit; `instructions` are null where nothing counts them."""
    unit = measured.unit
    return {
        "macs": measured.macs,
        **_costs(unit, measured.cost),
        **_costs(unit, measured.start, "start_"),
        **_costs(unit, measured.check_crc, "crc_"),
        "arena_bytes": measured.arena_bytes,
        "state_bytes": measured.state_bytes,
        "stack_bytes": measured.stack_bytes,
        "flash": dict(measured.flash),
        "steps": [
            {"name": step.name, "kernel": step.kernel, "macs": step.macs, **_costs(unit, step.cost)}
            for step in measured.steps
        ],
    }


def _costs(unit: str, cost: int, prefix: str = "") -> dict[str, int | None]:
    return {f"{prefix}instructions": None, f"{prefix}{unit}": cost}
