"""The runtime of Linux boards: one interface over LiteRT, tflite-runtime and the C interpreter, and its own wheel."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from sdk.cli import main
from sdk.errors import InputError, MissingToolError, ModelError, SdkError, UsageError
from sdk.front_end import program_of
from sdk.paths import FIRMWARE
from sdk.preprocess import Preprocessing, attach
from sdk.runtime import ENGINES, Listener, Runtime, Tensor
from sdk.runtime.origin import with_origin
from sdk.shared_library import build_library, make_wheel
from sdk.sound import Features, Sound

DIGITS = Path("examples/digits/digits_int8.tflite")
FLOAT = Path("examples/digits/digits_float32.tflite")
MODULES = {"litert": "ai_edge_litert", "tflite": "tflite_runtime"}
SCALE = float(np.float32(1 / 255))
IMAGE = np.random.default_rng(5).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)

# tflite-runtime 2.14 was made for an older numpy, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def need(engine: str) -> str:
    if engine in MODULES and importlib.util.find_spec(MODULES[engine]) is None:
        pytest.skip(f"{MODULES[engine]} is not installed")
    return engine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return need(request.param)


@pytest.fixture(scope="module")
def expected() -> Any:
    with sdk.Oracle(DIGITS.read_bytes()) as oracle:
        return oracle.run([IMAGE]).outputs[0]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "digits_int8.mlith"
    path.write_bytes(sdk.lower(sdk.load(DIGITS), sdk.Target()).block)
    return path


def test_same_interface(engine: str) -> None:
    with Runtime(DIGITS, engine=engine) as runtime:
        assert runtime.inputs["image"] == Tensor(
            "image", (1, 8, 8, 1), np.dtype(np.int8), float(np.float32(1 / 255)), -128
        )
        assert list(runtime.outputs) == ["digit"]
        raw = runtime.run(IMAGE, raw=True)["digit"]
        real = runtime.run({"image": (IMAGE[0].astype(np.float64) + 128) / 255})["digit"]
    assert raw.dtype == np.int8
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, (raw.astype(np.float32) + 128) / 256)


@pytest.mark.parametrize(("engine", "reference"), [("tflite", True), ("microlith", False)])
def test_exact(engine: str, reference: bool, expected: Any) -> None:
    with Runtime(DIGITS, engine=need(engine), reference=reference) as runtime:
        np.testing.assert_array_equal(runtime.run(IMAGE, raw=True)["digit"], expected)


def test_litert_is_close(expected: Any) -> None:
    with Runtime(DIGITS, engine=need("litert")) as runtime:
        got = runtime.run(IMAGE, raw=True)["digit"]
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1
    with Runtime(FLOAT, engine="litert") as runtime, Runtime(FLOAT, engine="microlith") as own:
        image = np.random.default_rng(1).random((1, 8, 8, 1))
        np.testing.assert_allclose(runtime.run(image)["digit"], own.run(image)["digit"], atol=1e-6)


def test_program_without_the_model(program: Path, expected: Any) -> None:
    with Runtime(program) as runtime:
        assert runtime.engine == "microlith"
        np.testing.assert_array_equal(runtime.run(IMAGE, raw=True)["digit"], expected)


def test_quantization() -> None:
    tensor = Tensor("x", (5,), np.dtype(np.int8), 0.5, 3)
    values = tensor.stored([0.25, -0.25, 1e6, -1e6, 0.24])
    assert values.tolist() == [4, 2, 127, -128, 3]  # halves go away from zero, and the ends hold
    assert tensor.real(values).tolist() == [0.5, -0.5, 62.0, -65.5, 0.0]
    with pytest.raises(InputError, match="no numbers"):
        tensor.stored([np.nan] * 5)


@pytest.mark.parametrize(
    ("given", "raw", "told"),
    [
        (np.zeros((1, 8, 8, 3)), False, r"int8\[1, 8, 8, 1\]; float64\[1, 8, 8, 3\]"),
        (np.zeros((1, 8, 8, 1)), True, "float64"),
        (np.full((1, 8, 8, 1), 200), True, "int64"),
        ({"picture": 0}, False, "no input 'picture'"),
        ({}, False, "needs the input 'image'"),
    ],
)
def test_wrong_inputs(given: Any, raw: bool, told: str) -> None:
    with Runtime(DIGITS, engine="microlith") as runtime, pytest.raises(InputError, match=told):
        runtime.run(given, raw=raw)


def test_invoke_takes_any_layout_of_the_right_shape(expected: Any) -> None:
    columns = np.asfortranarray(IMAGE.reshape(8, 8)).reshape(1, 8, 8, 1, order="A")
    spread = np.repeat(IMAGE, 2, axis=1)[:, ::2]
    with Runtime(DIGITS, engine="microlith") as runtime:
        for image in (columns, spread):
            assert not image.flags.c_contiguous
            np.testing.assert_array_equal(runtime.invoke([image])[0], expected)
        for wrong in (np.zeros((1, 80, 80, 1), np.int8), np.zeros((1, 8, 8), np.int8), IMAGE.astype(np.float32)):
            with pytest.raises(InputError, match="was given"):
                runtime.invoke([wrong])
        with pytest.raises(InputError, match="1 inputs, 2 arrays"):
            runtime.invoke([IMAGE, IMAGE])
        for odd in ([[1], [2, 3]], IMAGE + 1j, np.full(IMAGE.shape, "1")):
            with pytest.raises(InputError, match=r"no array|was given"):
                runtime.run(odd)


def test_closed_runtime(engine: str) -> None:
    with Runtime(DIGITS, engine=engine) as runtime:
        pass
    for use in (lambda: runtime.invoke([IMAGE]), lambda: runtime.run(IMAGE, raw=True), runtime.reset):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_wrong_arguments(engine: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        Runtime(tmp_path / "no.tflite", engine=engine)
    with pytest.raises(UsageError, match="no engine 'tpu'"):
        Runtime(DIGITS, engine="tpu")
    with pytest.raises(UsageError, match="0 threads"):
        Runtime(DIGITS, engine=engine, threads=0)
    with pytest.raises(UsageError, match="many threads"):
        Runtime(DIGITS, engine=engine, threads="many")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="signature 'train'"):
        Runtime(DIGITS, engine=engine, signature="train")
    with pytest.raises(SdkError, match="delegate"):
        Runtime(DIGITS, engine=engine, delegates=["libnone.so"])
    with pytest.raises(SdkError, match="delegate"):
        Runtime(DIGITS, engine=engine, delegates=["libc.so.6"])  # a library, and no delegate


def test_damaged_model(engine: str, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"no model at all, but long enough")
    with pytest.raises(ModelError):
        Runtime(model, engine=engine)


def test_damaged_program(program: Path, tmp_path: Path) -> None:
    damaged = bytearray(program.read_bytes())
    damaged[-1] ^= 1
    path = tmp_path / "model.mlith"
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match="CRC-32"):
        Runtime(path)


def test_a_program_of_another_model_beside_it(tmp_path: Path, expected: Any) -> None:
    """It was left by an older model: what can be lowered is lowered."""
    (tmp_path / "model.tflite").write_bytes(DIGITS.read_bytes())
    other = sdk.load(DIGITS.with_name("digits_float32.tflite"))
    (tmp_path / "model.mlith").write_bytes(sdk.lower(other, sdk.Target()).block)
    with Runtime(tmp_path / "model.tflite", engine="microlith") as runtime:
        np.testing.assert_array_equal(runtime.run(IMAGE, raw=True)["digit"], expected)


def test_signature(engine: str) -> None:
    with Runtime(DIGITS, engine=engine, signature="serving_default") as runtime:
        assert runtime.run({"image": IMAGE}, raw=True)["digit"].shape == (1, 10)


def test_threads_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdk.runtime.runtime._cores", lambda: 2)
    times = {1: 10.0, 2: 4.0}
    monkeypatch.setattr("sdk.runtime.runtime._measure_ms", lambda _engine, _seconds: times.pop(min(times)))
    with Runtime(DIGITS, engine=need("litert"), threads="measure") as runtime:
        assert runtime.threads == 2
        assert runtime.run(IMAGE, raw=True)["digit"].shape == (1, 10)
    times |= {1: 10.0, 2: 9.5}  # not worth a core
    with Runtime(DIGITS, engine="litert", threads="measure") as runtime:
        assert runtime.threads == 1


def test_measured_time() -> None:
    with Runtime(DIGITS, engine="microlith") as runtime:
        assert 0 < runtime.measure_ms(0.01) < 1000


def run(code: str, folder: Path, *words: str, **environment: str) -> str:
    """What `code` prints in a Python whose `sdk` is that of `folder`, started elsewhere than in the checkout."""
    env = {**os.environ, "PYTHONPATH": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel: what pip does with one."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = make_wheel(folder, [os.uname().machine])
    assert wheel.name.startswith("microlith_runtime-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_needs_numpy_alone(installed: Path, program: Path) -> None:
    code = (
        "import sys, sdk.runtime, numpy as np\n"
        "with sdk.runtime.Runtime(sys.argv[1]) as runtime: print(runtime.run(np.zeros((8, 8, 1)))['digit'].shape)\n"
        "print(sdk.runtime.__file__)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & set(sys.argv[2].split())))\n"
    )
    heavy = "tflite tflite_micro flatbuffers serial elftools ninja rich argcomplete PIL tensorflow"
    shape, file, others = run(code, installed, str(program), heavy).splitlines()
    assert (shape, others) == ("(1, 10)", "[]")
    assert Path(file).is_relative_to(installed)


def test_wheel_has_the_camera(installed: Path, program: Path, tmp_path: Path) -> None:
    """`sdk flash --service` starts it there: with the model and what it declares, without the host half."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tflite', 'flatbuffers')))\n"
        "from sdk.camera.__main__ import main; sys.exit(main())\n"
    )
    assert "--source" in run(code, installed, "--help")
    shown = run(code, installed, str(program), "--source", str(tmp_path / "a.png"), "--json", "--every")
    assert len(json.loads(shown)["top"]) == 3


def test_wheel_listens(installed: Path, program: Path, tmp_path: Path) -> None:
    """`sdk flash` sends the front end along, as a program: 8 rows of 8 bands for the input that takes digits."""
    features = Features(bands=8, noise="reduced", scale=0.001)
    declared = Preprocessing(sound=Sound(features.span(8, 16000), features=features))
    model = attach(DIGITS.read_bytes(), declared)
    (tmp_path / "model.tflite").write_bytes(model)
    (tmp_path / "model.mlith").write_bytes(with_origin(program.read_bytes(), model))
    (tmp_path / "model.json").write_text(declared.to_json())
    code = (
        "import sys; sys.modules['tflite'] = None\n"
        "import numpy as np\n"
        "from sdk.runtime import Listener, Runtime\n"
        "sound = np.random.default_rng(0).integers(-9999, 9999, 3040).astype(np.int16)\n"
        "try:\n"
        "    with Runtime(sys.argv[1], engine='microlith') as runtime, Listener(runtime) as listener:\n"
        "        print([window.tolist() for part in np.split(sound, 10) for window in listener.hear(part)])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    told = run(code, installed, str(tmp_path / "model.tflite"))
    assert told.startswith("MissingToolError")
    assert "there is no" in told
    front_end = program_of(model, declared)
    assert front_end is not None
    (tmp_path / "model.features.mlith").write_bytes(front_end)
    heard = np.array(json.loads(run(code, installed, str(tmp_path / "model.tflite"))), np.int8)
    sound = np.random.default_rng(0).integers(-9999, 9999, 3040).astype(np.int16)
    with Runtime(tmp_path / "model.tflite", engine="microlith") as runtime, Listener(runtime) as listener:
        np.testing.assert_array_equal(heard, list(listener.hear(sound)))
    assert heard.shape == (2, 1, 8, 8, 1)
    assert heard.std() > 1


def test_wheel_says_what_it_cannot(installed: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(DIGITS.read_bytes())
    code = (
        "import sys; sys.modules['tflite'] = None\n"  # as on a board without the host half
        "from sdk.runtime import Runtime\n"
        "try: Runtime(sys.argv[1], engine='microlith')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    told = run(code, installed, str(model))
    assert told.startswith("MissingToolError")
    assert "sdk lower model.tflite" in told
    # What `sdk lower` writes runs there, until the model is another; so does nothing that does not say what it is of.
    assert main(["lower", str(model), "--output", str(tmp_path)]) == 0
    assert run(code, installed, str(model)) == ""
    written = (tmp_path / "model.mlith").read_bytes()
    model.write_bytes(DIGITS.with_name("digits_float32.tflite").read_bytes())
    assert run(code, installed, str(model)).startswith(f"ModelError {tmp_path / 'model.mlith'} was not made of {model}")
    model.write_bytes(DIGITS.read_bytes())
    (tmp_path / "model.mlith").write_bytes(written[: -len(with_origin(b"", b""))])
    assert run(code, installed, str(model)).startswith("ModelError")


def test_library_for_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "libmicrolith.so"
    other.write_bytes(b"\x7fELF")
    monkeypatch.setenv("MICROLITH_LIBRARY", str(other))
    with pytest.raises(MissingToolError, match="cannot load"):
        Runtime(DIGITS, engine="microlith")


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_cpp(compiler: str, program: Path, tmp_path: Path, expected: Any) -> None:
    source, library = Path("tests/c/program.cpp"), build_library()
    binary = tmp_path / "program"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wold-style-cast", "-Werror"]
    command = [compiler, *flags, f"-I{FIRMWARE / 'include'}", str(source), str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run([*command, "-o", str(binary)], check=True)
    done = subprocess.run([str(binary), str(program)], input=IMAGE.tobytes(), capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{' '.join(map(str, expected.ravel()))} | -1 127 1"
    assert "another type" in lines[1]
    assert lines[2].startswith("-6 input 1: ")
    assert subprocess.run([str(binary), str(source)], capture_output=True, check=True, text=True).stdout.startswith("-")
