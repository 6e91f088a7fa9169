"""Fast variants of kernels in plain C, on the host: every case of the operators that they serve, at every trade."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sdk.boards import load_board
from sdk.build import build
from sdk.cases import operators, run_cases
from sdk.emit import emit_empty
from sdk.flash import flash
from sdk.link.device import Device
from sdk.ops import registry
from sdk.program import Profile
from sdk.target import Optimize, Target
from sdk.variants import all_variants


def served() -> Iterator[tuple[Profile, str]]:
    """Each profile with each operator that one of its variants serves."""
    for profile in Profile:
        replaced = {kernel for variant in all_variants() if variant.profile is profile for kernel in variant.replaces}
        yield from ((profile, name) for name, op in sorted(operators().items()) if replaced & set(op.kernels))


@pytest.fixture(scope="module")
def devices() -> Iterator[dict[Profile, Device]]:
    """The host as a device of each profile, with all kernels of it."""
    open_devices: dict[Profile, Device] = {}
    for profile in dict.fromkeys(profile for profile, _ in served()):
        board = replace(load_board("native"), profile=profile)
        image = build(board, emit_empty([kernel.name for kernel in registry().kernels_for(profile)]))
        open_devices[profile] = Device(flash(board, image), board_id=board.id)
    yield open_devices
    for device in open_devices.values():
        device.close()


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize(("profile", "name"), list(served()), ids=str)
def test_variants_equal_the_oracles(
    profile: Profile, name: str, optimize: Optimize, devices: dict[Profile, Device]
) -> None:
    outcomes = list(run_cases(name, devices[profile], Target(profile, optimize)))
    faults = [f"{outcome.case}: {outcome.fault}" for outcome in outcomes if outcome.fault]
    assert outcomes
    assert not faults, "\n".join(faults)
