"""Fast variants of kernels in plain C, on the host: every case of the operators that they serve, at every trade."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sdk.cases import operators, run_cases
from sdk.link.device import Device
from sdk.program import Profile
from sdk.target import Optimize, Target
from sdk.variants import all_variants


def served() -> Iterator[tuple[Profile, str]]:
    """Each profile with each operator that one of its variants serves."""
    for profile in Profile:
        replaced = {kernel for variant in all_variants() if variant.profile is profile for kernel in variant.replaces}
        yield from ((profile, name) for name, op in sorted(operators().items()) if replaced & set(op.kernels))


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize(("profile", "name"), list(served()), ids=str)
def test_variants_equal_the_oracles(
    profile: Profile, name: str, optimize: Optimize, devices: dict[Profile, Device]
) -> None:
    outcomes = list(run_cases(name, devices[profile], Target(profile, optimize)))
    faults = [f"{outcome.case}: {outcome.fault}" for outcome in outcomes if outcome.fault]
    assert outcomes
    assert not faults, "\n".join(faults)
