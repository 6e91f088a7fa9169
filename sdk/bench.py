"""What an inference costs on a device, in the unit of the board's counter: instructions, cycles, or nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sdk.cache import Progress, silent
from sdk.deploy import Deployed
from sdk.errors import DeviceError
from sdk.graph import Array
from sdk.lower import Lowered


@dataclass(frozen=True)
class StepCost:
    """One step of the program; `cost` in the bench's unit, `moved_bytes` of all that it reads and writes, each once."""

    name: str
    kernel: str
    macs: int
    moved_bytes: int
    cost: int


@dataclass(frozen=True)
class Bench:
    """Costs in `unit`. `start` is the way from reset to the first inference: checking the program without its CRC, and
    lending it memory. Sizes in bytes; `flash` by part of the image."""

    unit: str
    macs: int
    cost: int
    start: int
    check_crc: int  # what the CRC adds to `start`
    arena_bytes: int
    fast_bytes: int
    state_bytes: int
    stack_bytes: int
    flash: Mapping[str, int]
    steps: tuple[StepCost, ...]

    @property
    def moved_bytes(self) -> int:
        return sum(step.moved_bytes for step in self.steps)


def bench(target: Deployed, lowered: Lowered, inputs: Sequence[Array], progress: Progress = silent) -> Bench:
    """Measures one steady inference of `inputs`, that is not the first, and each of its steps. DeviceError where the
    board's counter does not count."""
    device, counter = target.device, target.image.board.counter
    if not device.info.counter_runs:
        raise DeviceError(
            f"the counter of {device.info.board_id} does not count",
            "On hardware, power the board anew; in an emulator, check the port's ml_port_ticks().",
        )
    measured = device.measure(inputs, progress=progress)
    moved = [sum(operand.bytes for operand in step.operands) for step in lowered.program.steps]
    steps = zip(lowered.steps, moved, measured.step_ticks, strict=True)
    return Bench(
        unit=counter.unit,
        macs=lowered.macs,
        cost=counter.units(measured.invoke_ticks),
        start=counter.units(measured.open_ticks + measured.start_ticks),
        check_crc=counter.units(max(measured.open_crc_ticks - measured.open_ticks, 0)),
        arena_bytes=measured.arena_bytes,
        fast_bytes=lowered.program.fast_bytes,
        state_bytes=measured.state_bytes,
        stack_bytes=measured.stack_bytes,
        flash=target.image.flash,
        steps=tuple(
            StepCost(info.name, info.kernel, info.macs, count, counter.units(ticks)) for info, count, ticks in steps
        ),
    )
