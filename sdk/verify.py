"""Device against oracle: the same inputs to both, every value compared.

Integers must be equal bit for bit; float32 within the bound that stands beside the operator. With `layers`, every
intermediate tensor that the program keeps is read from the device after the step that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sdk.errors import VerifyError
from sdk.graph import Array
from sdk.link.device import Device, StepResult
from sdk.lower import Lowered, Watch
from sdk.oracle import OracleResult
from sdk.program import Region


class Reference(Protocol):
    """What gives the results to compare with: an `Oracle`, or a record of one."""

    def reset(self) -> None: ...

    def run(self, inputs: Sequence[Array]) -> OracleResult: ...


READABLE = (Region.ARENA, Region.STATE, Region.FAST)


@dataclass(frozen=True)
class Difference:
    """Where device and oracle differ: the element `index` of a tensor, for the input set number `input`."""

    input: int
    step: int | None  # None for an output, compared after the whole inference
    step_name: str
    tensor: str
    index: tuple[int, ...]
    device: float | int
    oracle: float | int

    def __str__(self) -> str:
        where = f"step {self.step}, {self.step_name}: " if self.step is not None else "output "
        return (
            f"{where}{self.tensor}{list(self.index)} is {self.device} on the device and {self.oracle} in the oracle "
            f"(input {self.input})"
        )


@dataclass(frozen=True)
class Verdict:
    """Whether a device computes what the oracle computes. `compared` and `mismatches` count values."""

    ok: bool
    inputs: int
    compared: int
    mismatches: int
    first_difference: Difference | None
    max_abs_error: float  # over float values; 0 if there are none


@dataclass
class _Comparison:
    """What has been compared so far."""

    compared: int = 0
    mismatches: int = 0
    max_abs_error: float = 0.0
    first: Difference | None = None
    input: int = 0

    def add(
        self, got: Array, want: Array, bound: tuple[float, float], tensor: str, step: int | None, name: str
    ) -> None:
        """Compares the values of one tensor. VerifyError if their numbers differ."""
        if got.size != want.size:
            raise VerifyError(
                f"{tensor} has {got.size} values on the device and {want.size} in the oracle",
                "Report it with the model: the lowered shapes are wrong.",
            )
        got = got.reshape(want.shape)
        wrong = self._wrong(got, want, bound)
        self.compared += got.size
        count = int(np.count_nonzero(wrong))
        self.mismatches += count
        if count and self.first is None:
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), want.shape))
            self.first = Difference(self.input, step, name, tensor, index, got[index].item(), want[index].item())

    def verdict(self, inputs: int) -> Verdict:
        """On `inputs` sets of inputs."""
        return Verdict(
            ok=self.mismatches == 0 and self.compared > 0,
            inputs=inputs,
            compared=self.compared,
            mismatches=self.mismatches,
            first_difference=self.first,
            max_abs_error=self.max_abs_error,
        )

    def _wrong(self, got: Array, want: Array, bound: tuple[float, float]) -> Any:
        if want.dtype.kind != "f":
            return got.astype(np.int64) != want.astype(np.int64)
        with np.errstate(invalid="ignore"):  # inf - inf
            error = np.abs(got.astype(np.float64) - want.astype(np.float64))
            absolute, relative = bound
            close = error <= absolute + relative * np.abs(want)
        finite = error[np.isfinite(error)]
        self.max_abs_error = max(self.max_abs_error, float(finite.max(initial=0.0)))
        return ~(close | (got == want) | (np.isnan(got) & np.isnan(want)))


def verify(
    device: Device,
    lowered: Lowered,
    oracle: Reference,
    inputs_list: Sequence[Sequence[Array]],
    layers: bool = False,
    *,
    timeout_s: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_outputs: Callable[[Sequence[Array], Sequence[Array]], None] | None = None,
) -> Verdict:
    """Runs each set of inputs on `device`, which has `lowered` opened, and in `oracle`, and compares.

    Both start from their initial state and keep it from one set to the next. `timeout_s`: patience with an inference,
    or with a step under `layers`. Before each set `on_progress(its number from 1, their count)` is called; after it
    `on_outputs` is given the device's outputs and the oracle's.
    """
    device.reset_state()
    oracle.reset()
    comparison = _Comparison()
    for number, inputs in enumerate(inputs_list):
        comparison.input = number
        if on_progress is not None:
            on_progress(number + 1, len(inputs_list))
        results = _compare_one(device, lowered, oracle, inputs, layers, timeout_s, comparison)
        if on_outputs is not None:
            on_outputs(*results)
    return comparison.verdict(len(inputs_list))


def compare(lowered: Lowered, outputs: Sequence[Array], expected: Sequence[Array], number: int = 0) -> Verdict:
    """The verdict on the outputs of one inference, the input `number`, that was made elsewhere."""
    comparison = _Comparison(input=number)
    _compare_outputs(lowered, outputs, expected, comparison)
    return comparison.verdict(1)


def _compare_one(
    device: Device,
    lowered: Lowered,
    oracle: Reference,
    inputs: Sequence[Array],
    layers: bool,
    timeout_s: float | None,
    comparison: _Comparison,
) -> tuple[Sequence[Array], Sequence[Array]]:
    """One set of inputs: intermediate tensors as they are made, then the outputs, which are returned: the device's and
    the oracle's."""
    expected = oracle.run(inputs)

    def look(result: StepResult) -> None:
        info = lowered.steps[result.step]
        for watch in info.outputs:
            want = expected.tensors.get(watch.tensor)
            if want is not None and watch.operand.region in READABLE:
                got = _read(device, watch)
                if watch.start is not None:
                    want = want.reshape(-1)[watch.start : watch.start + got.size]
                bound = (watch.absolute, watch.relative)
                comparison.add(got, want, bound, f"'{watch.name}'", result.step, info.name)

    if layers:
        outputs = device.run_steps(inputs, look, timeout_s=timeout_s).outputs
    else:
        outputs = device.run(inputs, timeout_s=timeout_s)
    _compare_outputs(lowered, outputs, expected.outputs, comparison)
    return outputs, expected.outputs


def _compare_outputs(
    lowered: Lowered, outputs: Sequence[Array], expected: Sequence[Array], comparison: _Comparison
) -> None:
    for got, want, bound, spec in zip(outputs, expected, lowered.bounds, lowered.outputs, strict=True):
        comparison.add(got, want, bound, f"'{spec.name}'", None, "")


def _read(device: Device, watch: Watch) -> Array:
    """The value of a tensor on the device, as the model's file has it."""
    operand = watch.operand
    data = device.read_region(operand.region, operand.offset, operand.bytes)
    values: Array = np.frombuffer(data, watch.dtype.numpy.newbyteorder("<"))
    return values.astype(np.int64) + watch.offset if watch.offset else values
