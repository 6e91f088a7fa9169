"""What kernels state of their overlaps is true: with outputs as far over inputs as that allows, results are the same as
with all buffers apart (which other tests compare with the oracles)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk import memory
from sdk.cases import input_sets, operators
from sdk.graph import Array
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.ops.base import Case
from sdk.overlap import items_ahead_bytes, window_ahead_bytes
from sdk.plan import Buffer, Plan, Share, Shares, plan
from sdk.program import ALIGNMENT, Profile
from sdk.target import Optimize, Target
from sdk.write import write
from tests.test_variants import served

GAP_BYTES = 64
NONE: Shares = {}  # as of an empty region
ALL = [(Profile.portable, Optimize.balanced, name) for name in sorted(operators())]
ALL += [(profile, optimize, name) for profile, name in served() for optimize in Optimize]

Pin = tuple[int, int, int]  # buffer `born` begins so many bytes before `dying`


def extremes(share: Share, size: int) -> Iterator[int]:
    """The places nearest to where a buffer of `size` bytes may not begin before the one that it lies over."""
    least = [] if share.least is None else [-(-share.least // ALIGNMENT) * ALIGNMENT]
    yield from (before for before in (*least, *sorted(share.exact)) if before % ALIGNMENT == 0 and before < size)


def forced(buffers: Sequence[Buffer], shares: Shares, first: Pin) -> Plan:
    """A plan with `first` in it, and as many more overlaps as agree; all other buffers lie far apart."""
    table = {buffer.id: buffer for buffer in buffers}
    places = {buffer.id: {buffer.id: 0} for buffer in buffers}  # by buffer, those of its group, relative to each other
    others = [(a, b, at) for (a, b), share in shares.items() for at in extremes(share, table[b].size)]
    for dying, born, before in (first, *others):
        if places[dying] is not places[born]:
            shift = places[dying][dying] - before - places[born][born]
            joined = places[dying] | {i: at + shift for i, at in places[born].items()}
            if sound([table[i] for i in joined], joined, shares):
                places |= dict.fromkeys(joined, joined)
    offsets: dict[int, int] = {}
    end = 0
    for group in places.values():
        if not group.keys() <= offsets.keys():
            start = end + GAP_BYTES - min(group.values())
            offsets |= {i: start + at for i, at in group.items()}
            end = max(offsets[i] + table[i].size for i in group)
    result = Plan(offsets, end + GAP_BYTES, 0, tuple(buffers), shares)
    result.check()
    return result


def sound(buffers: Sequence[Buffer], places: dict[int, int], shares: Shares) -> bool:
    low = min(places.values())
    try:
        Plan({i: at - low for i, at in places.items()}, 1 << 30, 0, tuple(buffers), shares).check()
    except AssertionError:
        return False
    return True


def programs(case: Case, target: Target, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lowered]:
    """The case's program with all buffers apart, then one for each overlap that its steps allow."""
    graph = load_bytes(write(case.graph))
    pins: dict[Pin, None] = {}

    def apart(buffers: Sequence[Buffer], shares: Shares = NONE) -> Plan:
        sizes = {buffer.id: buffer.size for buffer in buffers}
        for (a, b), share in shares.items():
            pins.update(dict.fromkeys((a, b, before) for before in extremes(share, sizes[b])))
        return plan(buffers)

    with monkeypatch.context() as patch:
        patch.setattr(memory, "plan", apart)
        yield lower(graph, target)
        for pin in pins:

            def place(buffers: Sequence[Buffer], shares: Shares = NONE, pin: Pin = pin) -> Plan:
                known = pin[:2] in shares and shares[pin[:2]].allows(pin[2])
                return forced(buffers, shares, pin) if known else plan(buffers)

            patch.setattr(memory, "plan", place)
            yield lower(graph, target)


def results(lowered: Lowered, inputs: Sequence[tuple[Array, ...]], device: Device) -> list[list[bytes]]:
    device.load(lowered.block)
    device.reset_state()
    return [[output.tobytes() for output in device.run(each)] for each in inputs]


def faults(name: str, target: Target, device: Device, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """(number of programs with overlaps, the cases that come out otherwise with them) of an operator."""
    found, count = [], 0
    for case in registry().ops[name].cases():
        inputs = list(case.inputs) or list(input_sets(case.graph))
        plain, *others = programs(case, target, monkeypatch)
        expected = results(plain, inputs, device) if others else []
        count += len(others)
        found += [case.name for lowered in others if results(lowered, inputs, device) != expected]
    return count, found


@pytest.mark.parametrize(("profile", "optimize", "name"), ALL, ids=str)
def test_outputs_over_inputs_are_right(
    profile: Profile, optimize: Optimize, name: str, devices: dict[Profile, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, found = faults(name, Target(profile, optimize), devices[profile], monkeypatch)
    assert not found, "\n".join(found)
    if count == 0:
        pytest.skip("none of its kernels states an overlap that is less than lying apart")


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"])
def test_a_false_statement_is_found(name: str, host: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"sdk.ops.{name.lower() if 'CONV' in name else 'pool_2d'}"
    monkeypatch.setattr(f"{module}.window_ahead_bytes", lambda *args: window_ahead_bytes(*args) - ALIGNMENT)
    count, found = faults(name, Target(), host, monkeypatch)
    assert len(found) > count / 10


axes = st.tuples(*(st.integers(1, 5) for _ in range(3)), st.integers(1, 3), st.integers(0, 4), st.integers(1, 4))


@settings(deadline=None)
@given(axes, axes, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_how_far_a_window_is_behind(
    height: tuple[int, ...], width: tuple[int, ...], batches: int, in_bytes: int, out_bytes: int
) -> None:
    """Against going through all pixels of all windows."""
    names = ("kernel", "output", "stride", "dilation", "pad", "input")
    shape = {"batches": batches}
    for axis, values in (("height", height), ("width", width)):
        shape |= {f"{name}_{axis}": value for name, value in zip(names, values, strict=True)}
    shape |= {"pad_top": shape["pad_height"], "pad_left": shape["pad_width"]}

    def taps(axis: str, position: int) -> list[int]:
        origin = position * shape[f"stride_{axis}"] - shape[f"pad_{axis}"]
        every = (origin + k * shape[f"dilation_{axis}"] for k in range(shape[f"kernel_{axis}"]))
        return [tap for tap in every if 0 <= tap < shape[f"input_{axis}"]]

    written, aheads = 0, [-1000]
    for b in range(batches):
        for y in range(shape["output_height"]):
            for x in range(shape["output_width"]):
                for row in taps("height", y):
                    for column in taps("width", x):
                        pixel = (b * shape["input_height"] + row) * shape["input_width"] + column
                        aheads.append(written - pixel * in_bytes)
                written += out_bytes
    assert window_ahead_bytes(shape, in_bytes, out_bytes) >= max(aheads)
    if batches == 1 and len(aheads) > 1:
        assert window_ahead_bytes(shape, in_bytes, out_bytes) == max(aheads)


@given(st.integers(1, 50), st.integers(1, 8), st.integers(1, 8))
def test_how_far_items_are_behind(count: int, in_bytes: int, out_bytes: int) -> None:
    assert items_ahead_bytes(count, in_bytes, out_bytes) == max(i * (out_bytes - in_bytes) for i in range(count))
