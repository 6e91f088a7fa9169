"""Device against oracle: that equality is found where it is, and the first difference where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from sdk.graph import Array, DType, Graph, Node, Quantization, Tensor
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.oracle import Oracle
from sdk.verify import verify
from sdk.write import write


def two_layers(seed: int, dtype: DType = DType.INT8) -> bytes:
    """FULLY_CONNECTED 8 -> 6 -> 4. Of int8 or float32; `seed` makes the weights of the second layer."""
    rng = np.random.default_rng(1)
    integer = dtype is DType.INT8

    def tensor(index: int, name: str, shape: tuple[int, ...], scale: float, data: Array | None = None) -> Tensor:
        quantization = Quantization((scale,), (0,)) if integer else None
        return Tensor(index, name, shape, dtype, quantization, data, index)

    def weights(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        return rng.integers(-127, 128, shape).astype(np.int8) if integer else rng.normal(size=shape).astype(np.float32)

    tensors = [
        tensor(0, "x", (1, 8), 0.05),
        tensor(1, "w1", (6, 8), 0.01, weights(rng, (6, 8))),
        tensor(2, "hidden", (1, 6), 0.05),
        tensor(3, "w2", (4, 6), 0.01, weights(np.random.default_rng(seed), (4, 6))),
        tensor(4, "y", (1, 4), 0.05),
    ]
    options = {
        "fused_activation_function": 0,
        "weights_format": 0,
        "keep_num_dims": False,
        "asymmetric_quantize_inputs": False,
    }
    nodes = [
        Node("FULLY_CONNECTED", (0, 1, None), (2,), options),
        Node("FULLY_CONNECTED", (2, 3, None), (4,), options),
    ]
    return write(Graph("two", {t.id: t for t in tensors}, tuple(nodes), (0,), (4,)))


def inputs(dtype: DType, count: int = 3) -> list[list[Array]]:
    rng = np.random.default_rng(5)
    if dtype is DType.FLOAT32:
        return [[rng.normal(size=(1, 8)).astype(np.float32)] for _ in range(count)]
    return [[rng.integers(-100, 100, (1, 8)).astype(np.int8)] for _ in range(count)]


def lowered_model(model: bytes) -> Lowered:
    return lower(load_bytes(model))


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
def test_what_is_equal_is_said_to_be(host: Device, dtype: DType) -> None:
    model = two_layers(2, dtype)
    lowered = lowered_model(model)
    host.load(lowered.block)
    progress: list[tuple[int, int]] = []
    with Oracle(model) as oracle:
        plain = verify(host, lowered, oracle, inputs(dtype))
        layers = verify(
            host, lowered, oracle, inputs(dtype), layers=True, on_progress=lambda *now: progress.append(now)
        )
    assert (plain.ok, plain.compared, plain.mismatches, plain.first_difference) == (True, 3 * 4, 0, None)
    assert (layers.ok, layers.compared, layers.inputs) == (True, 3 * (6 + 4 + 4), 3)
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert plain.max_abs_error < 1e-4


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
def test_the_first_difference_is_named(host: Device, dtype: DType) -> None:
    """The device runs other weights in its second layer than the oracle."""
    model = two_layers(2, dtype)
    lowered = lowered_model(model)
    host.load(lowered_model(two_layers(3, dtype)).block)
    with Oracle(model) as oracle:
        plain = verify(host, lowered, oracle, inputs(dtype))
        layers = verify(host, lowered, oracle, inputs(dtype), layers=True)
    assert not plain.ok
    assert not layers.ok
    assert plain.first_difference is not None
    assert layers.first_difference is not None
    assert (plain.first_difference.step, plain.first_difference.tensor) == (None, "'y'")
    first = layers.first_difference
    assert (first.input, first.step, first.tensor) == (0, 1, "'y'")
    assert first.step_name.startswith("FULLY_CONNECTED")
    assert first.device != first.oracle
    assert "step 1" in str(first)
    assert 0 < plain.mismatches <= plain.compared
    assert (dtype is DType.FLOAT32) == (plain.max_abs_error > 1e-3)


def test_one_wrong_bit_of_one_value_is_found(host: Device) -> None:
    """Exactly one weight of the first layer is off by one: too little for the class, not for the comparison."""
    model = two_layers(2)
    lowered = lowered_model(model)
    graph = load_bytes(model)
    weights = graph.tensors[1].data
    assert weights is not None
    other = weights.copy()
    other[3, 2] += 1
    at = model.index(weights.tobytes())
    changed = model[:at] + other.tobytes() + model[at + weights.nbytes :]
    host.load(lowered_model(changed).block)
    with Oracle(model) as oracle:
        verdict = verify(host, lowered, oracle, inputs(DType.INT8, 20), layers=True)
    assert not verdict.ok
    assert verdict.first_difference is not None
    assert verdict.first_difference.step == 0
    assert verdict.first_difference.index == (0, 3)


def test_state_goes_on_from_input_to_input(host: Device) -> None:
    case = next(case for case in registry().ops["SVDF"].cases() if case.name == "f32-1x5x3x2x4-act0")
    model = write(case.graph)
    lowered = lowered_model(model)
    host.load(lowered.block)
    same = [[np.ones((1, 5), np.float32)]] * 4
    with Oracle(model) as oracle:
        for _ in range(2):  # the second time from the initial state again
            assert verify(host, lowered, oracle, same, layers=True).ok
    host.reset_state()
    assert not np.array_equal(host.run(same[0])[0], host.run(same[0])[0])


def test_float_bounds_are_kept_to() -> None:
    """A value just inside its bound is right, one just outside is not; NaN equals NaN, infinity equals infinity."""
    from sdk.verify import _Comparison

    want = np.array([1.0, -2.0, np.nan, np.inf, -np.inf], np.float32)
    inside = _Comparison()
    inside.add(want * np.float32(1 + 1e-6), want, (0.0, 1.1e-6), "t", None, "")
    assert (inside.mismatches, inside.compared) == (0, 5)
    outside = _Comparison()
    outside.add(want * np.float32(1 + 1e-6), want, (0.0, 1e-7), "t", 4, "ADD")
    assert outside.mismatches == 2
    assert outside.first is not None
    assert (outside.first.index, outside.first.step) == ((0,), 4)
    infinite = _Comparison()
    infinite.add(np.array([np.inf, 1.0]), np.array([1.0, np.nan]), (1.0, 1.0), "t", None, "")
    assert infinite.mismatches == 2
