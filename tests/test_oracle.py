"""The two reference implementations: that they agree, keep state, and take nobody with them when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import corpus_folder
from sdk import oracle as oracle_module
from sdk.errors import InputError, MissingToolError, SdkError, ToolError, UnsupportedError, UsageError
from sdk.graph import Array, DType, Graph, Node, Tensor
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.oracle import IMPLEMENTATIONS, Oracle
from sdk.oracle_worker import why_not_tflite_runtime
from sdk.write import write

ROOT = Path(__file__).parent.parent


def chain(shape: tuple[int, ...] = (1, 8)) -> bytes:
    """z = (x + x) + x in float32: a library that works in place would lose x + x."""
    tensors = {i: Tensor(i, name, shape, DType.FLOAT32, source=i) for i, name in enumerate(("x", "double", "triple"))}
    options = {"fused_activation_function": 0}
    nodes = (Node("ADD", (0, 0), (1,), options), Node("ADD", (1, 0), (2,), options))
    return write(Graph("chain", tensors, nodes, (0,), (2,)))


def stateful() -> bytes:
    """An SVDF, whose window over the last inputs is its state."""
    return next(write(case.graph) for case in registry().ops["SVDF"].cases() if case.name == "f32-1x5x3x2x4-act0")


def random_inputs(oracle: Oracle, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for shape, name in oracle.inputs:
        dtype = np.dtype(name)
        if dtype.kind == "f":
            arrays.append(rng.random(shape).astype(dtype))
        elif dtype.kind == "b":
            arrays.append(rng.integers(0, 2, shape).astype(dtype))
        else:
            limits = np.iinfo(dtype)
            arrays.append(rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype))
    return arrays


@pytest.fixture(params=IMPLEMENTATIONS)
def which(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_intermediate_tensors_are_what_was_computed(which: str) -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    with Oracle(chain(), which) as oracle:
        assert oracle.name == which
        result = oracle.run([x])
    assert np.array_equal(result.outputs[0], 3 * x)
    assert list(result.tensors) == [1, 2]
    assert np.array_equal(result.tensors[1], 2 * x)
    assert np.array_equal(result.tensors[2], 3 * x)


def test_state_lives_until_it_is_reset(which: str) -> None:
    with Oracle(stateful(), which) as oracle:
        inputs = random_inputs(oracle, 0)
        first, second = oracle.run(inputs), oracle.run(inputs)
        assert not np.array_equal(first.outputs[0], second.outputs[0])
        oracle.reset()
        assert np.array_equal(oracle.run(inputs).outputs[0], first.outputs[0])


def test_two_models_do_not_share_their_state(which: str) -> None:
    with Oracle(stateful(), which) as one, Oracle(stateful(), which) as other:
        inputs = random_inputs(one, 0)
        first = one.run(inputs).outputs[0]
        one.run(inputs)
        assert np.array_equal(other.run(inputs).outputs[0], first)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT16])
def test_rows_are_all_computed(dtype: DType) -> None:
    """tflite-runtime forgets rows of a FULLY_CONNECTED with a scale a channel, unless the first size counts them."""
    rng, rows = np.random.default_rng(1), {}
    x = rng.integers(-100, 100, (6, 8), dtype.numpy)
    weights, bias = rng.integers(-127, 128, (4, 8)), np.zeros(4)
    wide = DType.INT64 if dtype is DType.INT16 else DType.INT32
    for shape in ((6,), (1, 6), (2, 3)):
        g = CaseGraph()
        scales = [0.01, 0.02, 0.015, 0.01]
        constants = g.constant(weights, DType.INT8, scales), g.constant(bias, wide, [0.05 * s for s in scales])
        y = g.output((*shape, 4), dtype, 0.2)
        options = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": True}
        model = write(
            g.case("rows", "FULLY_CONNECTED", [g.input((*shape, 8), dtype, 0.05), *constants], [y], options).graph
        )
        with Oracle(model) as oracle:
            rows[shape] = oracle.run([x.reshape(*shape, 8)]).outputs[0].reshape(6, 4)
            assert (oracle.name == "tflite-runtime") == (shape == (6,))
    assert rows[6,].any(axis=1).all()
    np.testing.assert_array_equal(rows[6,], rows[1, 6])
    np.testing.assert_array_equal(rows[6,], rows[2, 3])


def test_wrong_inputs_are_refused_before_the_library_sees_them() -> None:
    with Oracle(chain()) as oracle:
        with pytest.raises(InputError, match=r"input 0 of the model is float32\[1, 8\]; float64\[1, 8\] was given"):
            oracle.run([np.zeros((1, 8))])
        with pytest.raises(InputError, match="takes 1 inputs, 0"):
            oracle.run([])


def damaged_models() -> Iterator[bytes]:
    model = stateful()
    yield b""
    yield b"not a model"
    yield model[: len(model) // 2]
    rng = np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(model)
        for at in rng.integers(0, len(model), 4):
            damaged[at] = rng.integers(0, 256)
        yield bytes(damaged)


def test_damaged_models_end_in_an_error_and_not_in_a_crash(which: str) -> None:
    refusals = []
    for model in damaged_models():
        try:
            with Oracle(model, which, timeout_s=2) as oracle:
                oracle.run(random_inputs(oracle, 0))
        except SdkError as error:
            refusals.append(error.message)
    assert len(refusals) > 3
    assert all(which in message and len(message) < 1000 for message in refusals)
    with Oracle(chain(), which) as oracle:
        assert oracle.run([np.ones((1, 8), np.float32)]).outputs[0].sum() == 24


def test_what_a_library_says_is_in_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    model = write(Graph("custom", {0: Tensor(0, "x", (1,), DType.FLOAT32), 1: Tensor(1, "y", (1,), DType.FLOAT32)},
                        (Node("CUSTOM:Nonsense", (0,), (1,)),), (0,), (1,)))  # fmt: skip
    with pytest.raises(UnsupportedError, match="Nonsense") as error:
        Oracle(model)
    assert all(name in error.value.message for name in IMPLEMENTATIONS)
    assert capfd.readouterr().err == ""


def test_an_unknown_oracle_is_refused() -> None:
    with pytest.raises(UsageError, match="no oracle 'litert'"):
        Oracle(chain(), "litert")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_refused_model_leaves_no_process() -> None:
    with Oracle(chain()) as bystander:
        worker = bystander._worker._process.pid
        before = children(worker)
        for _ in range(3):
            with pytest.raises(UnsupportedError):
                Oracle(b"not a model", bystander.name)
        assert children(worker) == before


def test_a_crash_hits_one_model_alone_and_the_other_implementation_takes_over() -> None:
    with Oracle(stateful()) as bystander, Oracle(chain()) as oracle:
        bystander.run(random_inputs(bystander, 0))
        worker = oracle._worker._process.pid
        os.kill(children(worker)[-1], signal.SIGKILL)
        assert oracle.run([np.ones((1, 8), np.float32)]).outputs[0].sum() == 24
        assert (bystander.name, oracle.name) == IMPLEMENTATIONS
        bystander.run(random_inputs(bystander, 1))


def test_a_crash_later_on_is_an_error(which: str) -> None:
    with Oracle(chain(), which) as oracle:
        oracle.run([np.ones((1, 8), np.float32)])
        os.kill(children(oracle._worker._process.pid)[-1], signal.SIGKILL)
        with pytest.raises(ToolError, match=f"the oracle {which} crashes with SIGKILL"):
            oracle.run([np.ones((1, 8), np.float32)])


def test_an_inference_that_never_ends_is_ended() -> None:
    with Oracle(chain((1, 4096)), "tflite-runtime") as oracle:
        oracle._timeout_s = 0.3
        os.kill(children(oracle._worker._process.pid)[-1], signal.SIGSTOP)
        with pytest.raises(ToolError, match=r"takes longer than 0.3 s"):
            oracle.run([np.ones((1, 4096), np.float32)])


def test_a_missing_library_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tflite_micro.py").write_text("raise ImportError('not on this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(oracle_module, "_workers", {})
    try:
        with pytest.raises(MissingToolError, match=r"tflite-micro is missing \(not on this machine\)") as error:
            Oracle(chain(), "tflite-micro")
        assert error.value.remedy == "Run: pip install tflite-micro"
        with Oracle(chain()) as other:  # which is here
            assert other.name == "tflite-runtime"
        (tmp_path / "tflite_runtime").mkdir()
        (tmp_path / "tflite_runtime" / "__init__.py").write_text("raise ImportError('not here either')")
        oracle_module._stop_all()
        with pytest.raises(MissingToolError, match=r"tflite-runtime is missing.*; .*tflite-micro is missing"):
            Oracle(chain())
    finally:
        oracle_module._stop_all()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_the_one_that_asked(end: signal.Signals) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from tests.test_oracle import Oracle, chain\n"
        "oracle = Oracle(chain()); print(oracle._worker._process.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(ROOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        pids = [worker, *children(worker)]
        assert len(pids) == 2
        process.send_signal(end)
        process.wait()
        deadline = time.monotonic() + 5
        while any(running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [pid for pid in pids if running(pid)] == []


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie, which may wait for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def same(a: Array, b: Array) -> bool:
    if a.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=1e-4, atol=1e-5))
    return bool(np.array_equal(a, b))


# Public models that one of them does not take, beside those that `why_not_tflite_runtime` keeps from it.
REFUSED = {
    "tflite-runtime": {
        "mlonmcu-catdog2",
        "tflm-audio_preprocessor_int8",
        "tflm-person_detect",
        "tflm-person_detect_vela",
    },
    "tflite-micro": {
        "coral-mobilenet_quant_v1_224_head_layers",
        "coral-mobilenet_v1_0.25_128_quant",
        "dtln-model_quant_2",
        "mlonmcu-CNN_2L_model_quantized",
        "mlonmcu-MNIST_model_quantized",
        "mlonmcu-catdog2",
        "mlperf-kws_ref_model_float32",
        "mlperf-model_ToyCar_quant",
        "tflm-person_detect_vela",
    },
}


CORPUS = corpus_folder()


@pytest.mark.skipif(CORPUS is None, reason="MICROLITH_CORPUS names no folder of public models")
@pytest.mark.parametrize("path", sorted((CORPUS or ROOT / "none").glob("mcu/*.tflite")), ids=lambda path: path.stem)
def test_the_two_agree_on_every_integer_of_public_models(path: Path) -> None:
    results = []
    model = path.read_bytes()
    for name in IMPLEMENTATIONS:
        if path.stem in REFUSED[name] or (name == "tflite-runtime" and why_not_tflite_runtime(model)):
            with pytest.raises(UnsupportedError, match=f"the oracle {name} refuses it"):
                Oracle(model, name)
            continue
        with Oracle(model, name) as oracle:
            results.append(oracle.run(random_inputs(oracle, 0)))
    if len(results) == 2:
        one, other = results
        assert one.tensors.keys() == other.tensors.keys()
        assert all(same(value, other.tensors[index]) for index, value in one.tensors.items())


def test_results_do_not_depend_on_what_the_library_held_before() -> None:
    """SignalStacker leaves its output unwritten until it has heard enough; the parent of the forked processes has by
    then freed blocks larger than an arena, full of anything."""
    case = next(case for case in registry().ops["CUSTOM:SignalStacker"].cases() if case.name == "5-0-1-step1")
    model = write(case.graph)

    def outputs() -> list[bytes]:
        with Oracle(model, "tflite-micro") as oracle:
            return [output.tobytes() for inputs in case.inputs for output in oracle.run(inputs).outputs]

    before = outputs()
    for megabytes in (1, 3, 10):
        Oracle(model + b"\xa5" * (megabytes << 20), "tflite-micro").close()
        assert outputs() == before
