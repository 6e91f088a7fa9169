"""Every operator's cases, on every board, against both oracles: integers bit for bit, float32 within its bound."""

from __future__ import annotations

import pytest

from sdk.boards import Board
from sdk.cases import case_count, operators, run_cases
from sdk.link.device import Device


@pytest.mark.parametrize("name", sorted(operators()))
def test_operator_equals_the_oracles(name: str, board: Board, device: Device) -> None:
    if case_count(name) == 0:
        pytest.skip("its cases are those of the operators that use it")
    outcomes = list(run_cases(name, device, board.profile))
    faults = [f"{outcome.case}: {outcome.fault}" for outcome in outcomes if outcome.fault]
    assert not faults, "\n".join(faults)
    if not any(outcome.ran for outcome in outcomes):
        pytest.skip(f"{board.id} has {device.info.pool_bytes} bytes, too few for any case")


def test_each_operator_says_its_types() -> None:
    assert [name for name, op in operators().items() if not op.types] == []
