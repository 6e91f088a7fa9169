"""Damaged and hostile programs: refused, or run without a byte out of bounds. Every operator's cases are the seeds."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sanitized import build_driver

from sdk.load import load_bytes
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.ops.base import Case, Kernel
from sdk.program import HEADER, Profile
from sdk.target import Optimize, Target
from sdk.variants import all_variants
from sdk.variants.base import Variant
from sdk.write import write

# MICROLITH_FUZZ=100 multiplies the work for a night's run.
FUZZ = int(os.environ.get("MICROLITH_FUZZ", "1"))
MUTATIONS = 300 * FUZZ


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both drivers, built with the kernels of all profiles, in plain C, and the sanitizers: of programs; of kernels."""
    folder = tmp_path_factory.mktemp("hostile")
    programs, operands = build_driver(folder), build_driver(folder, "operands")
    if programs is None or operands is None:
        pytest.skip("no gcc on this machine")
    return programs, operands


def first_cases() -> Iterator[Case]:
    """A few cases of each operator: the first of each name's stem, which is its type."""
    for name, op in registry().ops.items():
        if name != op.names[0]:
            continue
        stems: dict[str, int] = {}
        for case in op.cases():
            stem = case.name.split("-")[0]
            stems[stem] = stems.get(stem, 0) + 1
            if stems[stem] == 1 or (FUZZ > 1 and stems[stem] <= 3):
                yield Case(f"{name}-{case.name}", case.graph, case.inputs)


@pytest.mark.parametrize("case", list(first_cases()), ids=lambda case: case.name)
def test_mutated_programs_stay_in_bounds(case: Case, drivers: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_bytes(write(case.graph))
    targets = [Target(profile, optimize) for profile in Profile for optimize in Optimize]
    programs = {lowered.block: lowered for lowered in (lower(model, target) for target in targets)}
    if not next(iter(programs.values())).steps:
        pytest.skip("a view: no step to attack")
    for lowered in programs.values():
        attack(lowered, case, drivers, tmp_path)


def attack(lowered: Lowered, case: Case, drivers: tuple[Path, Path], tmp_path: Path) -> None:
    """Mutates the tables of a program, and runs what the interpreter then accepts; and each of its kernels alone."""
    path = tmp_path / "program.mlith"
    path.write_bytes(lowered.block)
    tables = len(lowered.block) - len(lowered.program.constants) - len(lowered.program.state_image)
    seed = str(sum(case.name.encode()))
    programs, operands = drivers
    run_driver(programs, str(path), seed, str(MUTATIONS), str(max(tables // 4 * 4, HEADER.size)))
    run_driver(operands, str(path), seed, str(MUTATIONS))


def run_driver(driver: Path, *arguments: str) -> None:
    """Fails with the sanitizers' report, and where nothing was accepted."""
    command = [str(driver), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    accepted = re.fullmatch(r"accepted (\d+) of \d+\n", result.stdout)
    assert accepted
    assert int(accepted[1]) > 0, "everything damaged was refused: nothing has been tried"


def example(kernel: Kernel, variant: Variant) -> tuple[Case, Lowered]:
    """A case that `variant` serves with `kernel`, lowered."""
    for op in registry().ops.values():
        for case in op.cases() if set(op.kernels) & set(variant.replaces) else ():
            for optimize in Optimize:
                lowered = lower(load_bytes(write(case.graph)), Target(variant.profile, optimize))
                if kernel in lowered.kernels:
                    return case, lowered
    pytest.fail(f"no case is served by {kernel.name}: nothing tests it")


@pytest.mark.parametrize(
    ("kernel", "variant"),
    [
        pytest.param(kernel, variant, id=kernel.name)
        for kernel, variant in {kernel: variant for variant in all_variants() for kernel in variant.kernels}.items()
    ],
)
def test_each_fast_kernel_stays_in_bounds(
    kernel: Kernel, variant: Variant, drivers: tuple[Path, Path], tmp_path: Path
) -> None:
    case, lowered = example(kernel, variant)
    attack(lowered, case, drivers, tmp_path)
