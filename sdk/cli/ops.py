"""sdk ops"""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING

from sdk.cli.arguments import add_board, add_json, add_port, board_of
from sdk.cli.console import Console

if TYPE_CHECKING:
    from sdk.cases import Outcome

SUMMARY = "list the operators, or test them on a board"
DETAILS = """With --board it runs the operators' own cases there and compares them with TensorFlow Lite's reference \
kernels, or with the operator's own reference. Exit code 11 if one differs."""
EXAMPLES = (
    "sdk ops",
    "sdk ops CONV_2D ADD --board mps2-an386",
    "sdk ops CUSTOM:Median3 --ops examples/custom_operator --board native",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="OPERATOR", help="only these (default: all)")
    add_board(parser, required=False)
    add_port(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.errors import UsageError
    from sdk.ops import registry

    known = registry().ops
    unknown = [name for name in args.names if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0].upper(), known, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(f"there is no operator {', '.join(unknown)}", f"{hint}`sdk ops` lists them.")
    if args.board:
        return _test(args, console)
    names = args.names or sorted(known)
    rows = [(name, ", ".join(known[name].types), known[name].limits) for name in names]
    console.table(("Operator", "Types", "Limits"), rows)
    console.result(
        {"operators": [{"name": n, "types": list(known[n].types), "limits": known[n].limits} for n in names]}
    )
    return 0


def _test(args: argparse.Namespace, console: Console) -> int:
    from sdk.cases import operators, run_cases
    from sdk.deploy import connected
    from sdk.emit import emit_every_kernel
    from sdk.errors import VerifyError
    from sdk.ops import registry
    from sdk.target import Target

    board, port = board_of(args, console)
    names = list(dict.fromkeys(registry().ops[name].names[0] for name in args.names)) or sorted(operators())
    every_kernel = emit_every_kernel(board.profile)
    results: dict[str, list[Outcome]] = {}
    with connected(board, every_kernel, port=port, progress=console.progress).device as device:
        for number, name in enumerate(names, 1):
            console.progress(f"operator {number} of {len(names)}: {name}")
            results[name] = list(run_cases(name, device, Target(board.profile)))
    rows = [(name, f"{sum(o.ran for o in all_):,}", f"{len(all_):,}", _faults(all_)) for name, all_ in results.items()]
    console.table(("Operator", ">Ran", ">Cases", "Wrong"), rows)
    console.result({name: [vars(outcome) for outcome in all_] for name, all_ in results.items()})
    wrong = any(outcome.fault for all_ in results.values() for outcome in all_)
    return VerifyError.exit_code if wrong else 0


def _faults(outcomes: list[Outcome]) -> str:
    faults = [f"{outcome.case}: {outcome.fault}" for outcome in outcomes if outcome.fault]
    return f"{len(faults)}, first {faults[0]}" if faults else "none"
