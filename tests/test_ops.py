"""Every operator's cases, on every board, against both oracles: integers bit for bit, float32 within its bound."""

from __future__ import annotations

import os

import pytest

from sdk.boards import Board
from sdk.cases import cases_of, operators, run_cases
from sdk.link.device import Device
from sdk.target import Target

# The host runs every case, the emulated Cortex-M4 every second, the others, slower to reach and with the same portable
# kernels, every sixth. MICROLITH_ALL_CASES=1 runs all everywhere.
EVERY = {"native": 1, "mps2-an386": 2}
ALL = os.environ.get("MICROLITH_ALL_CASES") == "1"
# An operator's boards share one process, which asks the oracles once for all of them.
GROUPED = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in sorted(operators())]


@pytest.mark.parametrize("name", GROUPED)
def test_operator_equals_the_oracles(name: str, board: Board, device: Device) -> None:
    if not cases_of(name):
        pytest.skip("its cases are those of the operators that use it")
    outcomes = list(run_cases(name, device, Target(board.profile), every=1 if ALL else EVERY.get(board.id, 6)))
    faults = [f"{outcome.case}: {outcome.fault}" for outcome in outcomes if outcome.fault]
    assert not faults, "\n".join(faults)
    if not any(outcome.ran for outcome in outcomes):
        pytest.skip(f"{board.id} has {device.info.pool_bytes} bytes, too few for any case")


def test_each_operator_says_its_types() -> None:
    assert [name for name, op in operators().items() if not op.types] == []
