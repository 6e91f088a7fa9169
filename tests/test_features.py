"""Features of sound: declared once, computed by one front end that gives the same on the host and on a device."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdk.cli import main
from sdk.convert.conversion import convert
from sdk.emit import emit
from sdk.errors import InputError, UsageError
from sdk.front_end import feature_windows, front_end, stored_windows
from sdk.graph import Array, DType, Node
from sdk.inputs import read_samples
from sdk.load import load, load_bytes
from sdk.lower import lower
from sdk.ops.base import CaseGraph
from sdk.preprocess import Preprocessing, attach, attached, from_json
from sdk.program import Operand, Region, TensorSpec
from sdk.runtime import Listener, Runtime
from sdk.runtime.interpreter import MicrolithEngine
from sdk.sound import Features, Sound
from sdk.write import write

RATE_HZ = 16000
MODELS, SOUNDS = (os.environ.get(f"MICROLITH_{what}") for what in ("MODELS", "SOUNDS"))
MFCC = Features("mfcc", coefficients=10, low_hz=20.0, high_hz=4000.0, scale=1 / 64, offset=-2.5)


def sound_of(features: Features, rows: int = 49) -> Sound:
    return Sound(features.span(rows, RATE_HZ), features=features)


def spec(
    shape: tuple[int, ...] = (1, 1960), dtype: DType = DType.FLOAT32, scale: float = 0.0, zero: int = 0
) -> TensorSpec:
    return TensorSpec("x", shape, dtype, scale, zero, Operand(Region.ARENA, 0, dtype.bytes * math.prod(shape)))


def sweep(start_hz: float, end_hz: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> Array:
    """A tone that rises or falls, over noise."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    tone = 6000 * np.sin(2 * np.pi * (start_hz * t + (end_hz - start_hz) / 2 / seconds * t * t))
    return (tone + np.random.default_rng(0).normal(0, 100, len(t))).astype(np.int16)


def save(path: Path, samples: Array, rate_hz: int = RATE_HZ) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def pitch(dtype: DType = DType.FLOAT32) -> bytes:
    """A model that takes 49 rows of 40 bands and says whether the lower or the upper ones are stronger."""
    g = CaseGraph()
    scale, zero = (0.1, -128) if dtype is DType.INT8 else (0.0, 0)
    x = g.input((1, 49, 40, 1), dtype, scale or None, zero)
    low = np.tile(np.repeat([0.02, -0.02], 20), 49)
    weights, bias = g.constant(np.stack([low, -low]), DType.FLOAT32), g.constant(np.zeros(2), DType.FLOAT32)
    real = x
    nodes = []
    if dtype is DType.INT8:
        real = g.tensor((1, 49, 40, 1), DType.FLOAT32)
        nodes = [Node("DEQUANTIZE", (x,), (real,), {}, 0)]
    y = g.output((1, 2), DType.FLOAT32)
    options = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": False}
    nodes.append(Node("FULLY_CONNECTED", (real, weights, bias), (y,), options, len(nodes)))
    return write(g.case_of(nodes, "pitch").graph)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pitch` with an int8 input and what it declares."""
    path = tmp_path_factory.mktemp("model") / "pitch.tflite"
    declared = Preprocessing(sound=sound_of(Features(noise="reduced")), labels=("low", "high"))
    path.write_bytes(attach(pitch(DType.INT8), declared))
    return path


# The declaration


def test_json_gives_the_declaration_again() -> None:
    for declared in (sound_of(MFCC), sound_of(Features(noise="pcan")), Sound(100)):
        assert from_json(Preprocessing(sound=declared).to_json()).sound == declared
    older = from_json('{"version": 1, "sound": {"samples": 16000, "rate_hz": 16000, "scale": 32768.0}}')
    assert older.sound == Sound(16000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "mel"}, "kind must be log-mel or mfcc"),
        ({"kind": "mfcc"}, "coefficients must be 1 to 40"),
        ({"coefficients": 3}, "coefficients must be left out"),
        ({"noise": "gone"}, "noise must be kept, reduced, pcan"),
        ({"bands": 0}, "bands must be 1 to"),
        ({"bands": "40"}, "bands must be of the type int"),
        ({"fft_length": 500}, "fft_length must be a power of two"),
        ({"fft_length": 256}, "fft_length must be at least the 480 samples"),
        ({"high_hz": 9000.0}, "high_hz must be at most half of the rate, 8000"),
        ({"low_hz": 7500.0}, "low_hz and high_hz must be"),
        ({"window_ms": 1e9}, "window_ms and stride_ms must be"),
        ({"stride_ms": 0.01}, "stride_ms must be at least one sample"),
        ({"scale": 0}, "scale must be"),
        ({"mels": 40}, "mels must be one of kind, window_ms"),
        ({"window_ms": 31.0}, "samples must be 496 and a multiple of 320"),
    ],
)
def test_wrong_declarations_say_what_they_must_be(fields: dict[str, Any], message: str) -> None:
    text = json.dumps({"sound": {"samples": 15840, "features": fields}})
    with pytest.raises(UsageError, match=message):
        from_json(text)


# The front end


def test_features_are_what_tflite_micros_own_preprocessor_computes() -> None:
    """Its int8 output is logarithm * 256 / 666 - 128."""
    if not MODELS or not SOUNDS:
        pytest.skip("$MICROLITH_MODELS and $MICROLITH_SOUNDS do not say where models and sounds are")
    theirs = next(Path(MODELS).rglob("tflm-audio_preprocessor_int8.tflite"), None)
    sounds = sorted(Path(SOUNDS).glob("*_1000ms.wav"))
    if theirs is None or not sounds:
        pytest.skip("tflite-micro's preprocessor and sounds are not there")
    input_scale = 0.10171568393707275  # of micro_speech
    declared = sound_of(Features(noise="pcan", scale=input_scale * 256 / 666))
    engine = MicrolithEngine(lower(load(theirs)).block)
    for path in sounds:
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(RATE_HZ), "<i2")
        engine.reset()
        want = [engine.invoke([samples[None, at : at + 480]])[0].reshape(-1) for at in range(0, 49 * 320, 320)]
        got = stored_windows(declared, samples, spec(dtype=DType.INT8, scale=input_scale, zero=-128))
        np.testing.assert_array_equal(got[0], want)


def test_log_mel_is_the_logarithm_of_the_strength_of_bands() -> None:
    samples = sweep(200, 3000) + np.random.default_rng(1).integers(-900, 900, RATE_HZ).astype(np.int16)
    for length, rows in ((512, 49), (1024, 49)):
        got = feature_windows(sound_of(Features(scale=1 / 64, fft_length=length), rows), samples)[0]
        window = 0.5 - 0.5 * np.cos(2 * np.pi / 480 * (np.arange(480) + 0.5))
        frames = np.stack([samples[at : at + 480] * window for at in range(0, rows * 320, 320)])
        power = np.abs(np.fft.rfft(frames, length)) ** 2
        mels, edges = (
            1127 * np.log1p(np.asarray(hz) / 700) for hz in (np.fft.rfftfreq(length, 1 / RATE_HZ), (125, 7500))
        )
        at = np.linspace(*edges, 42)
        rise, fall = (mels[:, None] - at[:-2]) / np.diff(at)[0], (at[2:] - mels[:, None]) / np.diff(at)[0]
        triangles = np.minimum(rise, fall).clip(0)
        triangles[: int(1.5 + 125 * length / RATE_HZ)] = 0
        want = np.log(np.sqrt(power @ triangles))
        assert np.abs(got - want).mean() < 0.03
        assert np.abs(got - want).max() < 0.15


def test_mfcc_is_the_cosine_transform_of_log_mel() -> None:
    samples = sweep(200, 3000)
    log_mel = Features(low_hz=20.0, high_hz=4000.0, scale=1 / 64)
    real = feature_windows(sound_of(log_mel), samples)[0] - 2.5
    angles = np.pi / 40 * (np.arange(40) + 0.5)[:, None] * np.arange(10)
    want = real @ np.cos(angles) * math.sqrt(2 / 40)
    np.testing.assert_allclose(feature_windows(sound_of(MFCC), samples)[0], want, atol=1e-4)


def test_noise_is_reduced() -> None:
    """A tone that has lasted, and noise, go; what begins late stays."""
    rng = np.random.default_rng(0)
    steady = rng.normal(0, 500, 3 * RATE_HZ).astype(np.int16)
    late = steady + np.concatenate([np.zeros(2 * RATE_HZ, np.int16), sweep(1000, 1000)])
    kept, reduced = (
        feature_windows(sound_of(Features(noise=noise, scale=1 / 64), 140), late)[0] for noise in ("kept", "reduced")
    )
    assert (kept - reduced)[80:95].mean() > 0.5
    assert (kept - reduced)[102:110].max(axis=1).mean() > 0.5
    loudest = kept[104].argmax()
    assert abs(kept - reduced)[102:110, loudest].max() < 0.5


def test_bands_that_hear_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="band 0 of 200 is so narrow"):
        front_end(sound_of(Features(bands=200)), spec())
    with pytest.raises(UsageError, match="int32 without a scale"):
        front_end(sound_of(Features()), spec(dtype=DType.INT32))


@pytest.mark.parametrize(
    ("name", "features", "stored"),
    [
        ("log_mel", Features(noise="pcan"), spec(dtype=DType.INT8, scale=0.1, zero=-128)),
        ("mfcc", MFCC, spec(dtype=DType.FLOAT32)),
    ],
)
def test_the_front_end_is_exact_on_an_emulated_device(
    name: str, features: Features, stored: TensorSpec, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.tflite").write_bytes(write(front_end(sound_of(features), stored)))
    samples = sweep(200, 3000)
    np.save(tmp_path / "x.npy", np.stack([samples[at : at + 480] for at in range(0, 8 * 320, 320)]))
    words = ["verify", str(tmp_path / f"{name}.tflite"), "--board", "mps2-an386", "--inputs", str(tmp_path / "x.npy")]
    assert main(words) == 0


# Where it is used


def test_files_become_features(model: Path, tmp_path: Path) -> None:
    declared = attached(model.read_bytes())
    assert declared is not None
    assert declared.sound is not None
    samples = sweep(300, 600, 2.5, 44100)
    path, said = save(tmp_path / "a.wav", samples, 44100), list[str]()
    for wanted in (spec((1, 49, 40, 1)), spec((1, 49, 40, 1), DType.INT8, 0.1, -128)):
        read = read_samples([path], [wanted], None, said.append, declared)
        assert [sample.name for sample in read] == ["a.wav[0]", "a.wav[1]"]
        want = stored_windows(declared.sound, declared.sound.mono(samples, 44100), wanted)
        np.testing.assert_array_equal(np.stack([sample.arrays[0][0, :, :, 0] for sample in read]), want)
    assert set(said) == {"sound becomes 49 rows of 40 log-mel features at 16,000 Hz, as the model declares"}
    short = read_samples([save(tmp_path / "b.wav", samples[:100])], [spec()], None, said.append, declared)
    assert len(short) == 1
    with pytest.raises(InputError, match="takes no raw samples") as caught:
        read_samples([path], [spec((1, 49, 40, 1), DType.INT8, 0.1, -128)])
    assert "--features" in caught.value.remedy


def test_run_and_verify_hear(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low, high = save(tmp_path / "low.wav", sweep(200, 500)), save(tmp_path / "high.wav", sweep(5000, 3000))
    assert main(["run", str(model), "--board", "native", "--inputs", str(low), str(high)]) == 0
    lines = capsys.readouterr().out.splitlines()
    tops = [lines[i + 2].split()[-1] for i, line in enumerate(lines) if ".wav" in line]
    assert tops == ["low", "high"]
    assert main(["verify", str(model), "--board", "native", "--inputs", str(low), str(high)]) == 0


def test_convert_declares_and_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pitch.tflite").write_bytes(pitch())
    for name, start in (("low", 200), ("high", 4000)):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for i in range(3):
            save(tmp_path / "sounds" / name / f"{i}.wav", sweep(start + 60 * i, start + 400))
    words = ["convert", str(tmp_path / "pitch.tflite"), "-o", str(tmp_path / "out.tflite"), "--quantize", "float16"]
    words += ["--features", "log-mel,noise=reduced,scale=0.02,low_hz=100.0"]
    words += ["--representative", str(tmp_path / "sounds"), "--dataset", str(tmp_path / "sounds"), "--labels"]
    (tmp_path / "labels.txt").write_text("low\nhigh\n")
    assert main([*words, str(tmp_path / "labels.txt")]) == 0
    assert 1 <= capsys.readouterr().err.count("sound becomes") <= 2  # of calibration and of labelled samples
    declared = attached((tmp_path / "out.tflite").read_bytes())
    features = Features(noise="reduced", scale=0.02, low_hz=100.0)
    assert declared == Preprocessing(sound=sound_of(features), labels=("low", "high"))
    made = convert(
        tmp_path / "pitch.tflite",
        quantize="float16",
        dataset=tmp_path / "sounds",
        preprocess={"features": features},
        labels=("low", "high"),
    )
    assert made.accuracy is not None
    assert made.accuracy.after == 1.0


@pytest.mark.parametrize(
    ("preprocess", "message", "remedy"),
    [
        ({"features": {"bands": 39}}, "does not take rows of 39", "bands=40 would match: 49 rows"),
        ({"features": {"kind": "mfcc", "coefficients": 10}}, "does not take rows of 10", "coefficients=40 would match"),
        ({"features": {}, "fit": "crop"}, "--fit is for pictures", "Leave one"),
        ({"features": {"bands": 40, "colour": 1}}, "colour must be one of kind", ""),
    ],
)
def test_features_that_do_not_fit_the_input(
    preprocess: dict[str, Any], message: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "pitch.tflite").write_bytes(pitch())
    with pytest.raises(UsageError, match=message) as caught:
        convert(tmp_path / "pitch.tflite", quantize="float16", preprocess=preprocess)
    assert remedy in caught.value.remedy


def test_a_quantized_model_can_be_told_what_it_hears(tmp_path: Path) -> None:
    (tmp_path / "pitch.tflite").write_bytes(pitch(DType.INT8))
    made = convert(tmp_path / "pitch.tflite", preprocess={"features": {"noise": "pcan"}}, labels=("low", "high"))
    assert attached(made.model) == Preprocessing(sound=sound_of(Features(noise="pcan")), labels=("low", "high"))
    assert write(load_bytes(made.model)) == write(load_bytes(pitch(DType.INT8)))


def test_a_listener_hears_the_same_in_pieces(model: Path) -> None:
    declared = attached(model.read_bytes())
    assert declared is not None
    assert declared.sound is not None
    samples = sweep(300, 3000, 1.2)
    with Runtime(model, engine="microlith") as runtime, Listener(runtime) as listener:
        heard = [window for part in np.array_split(samples, 97) for window in listener.hear(part)]
        assert listener.labels == ("low", "high")
    assert len(heard) == (len(samples) - 480) // 320 + 1 - 48
    want = stored_windows(declared.sound, samples, spec((1, 49, 40, 1), DType.INT8, 0.1, -128))
    np.testing.assert_array_equal(heard[0][0, :, :, 0], want[0])
    np.testing.assert_array_equal(heard[1][0, :-1], heard[0][0, 1:])


# In C

C_MAIN = """
#include <stdio.h>
#include "declared.h"
#include "microlith.h"
#include "model.h"

static ml_session session;
static _Alignas(16) uint8_t arena[ML_PITCH_ARENA_BYTES];

/* Sound from stdin in pieces of so many samples; at every inference, the input and the output. */
int main(void) {
    static int16_t piece[PIECE];
    ml_status status = ml_listener_hear(&ml_pitch_listener, piece, 1);
    if (status != ML_ERR_STATE || ml_listener_fill(&ml_pitch_listener, arena)) return 1;
    status = ml_listener_start(&ml_pitch_listener);
    if (status == ML_OK) status = ml_open(&session, ml_pitch, ml_pitch_bytes);
    if (status == ML_OK) status = ml_start(&session, &(ml_memory){.arena = arena, .arena_bytes = sizeof arena});
    for (size_t count; status == ML_OK && (count = fread(piece, sizeof *piece, PIECE, stdin)) > 0;) {
        status = ml_listener_hear(&ml_pitch_listener, piece, (uint32_t)count);
        if (status != ML_OK || !ml_listener_fill(&ml_pitch_listener, ml_input(&session, 0))) continue;
        fwrite(ml_input(&session, 0), 1, 1960, stdout);
        status = ml_invoke(&session);
        fwrite(ml_output(&session, 0), sizeof(float), ML_PITCH_LABELS, stdout);
    }
    fprintf(stderr, "%s %s", ml_pitch_labels[0], ml_pitch_labels[1]);
    return status != ML_OK;
}
"""


@pytest.fixture(scope="module")
def library(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects of all of the PlatformIO library that `sdk lower` makes of `model`, with warnings as errors."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not on this machine")
    folder = tmp_path_factory.mktemp("library")
    assert main(["lower", str(model), "--library", "-o", str(folder)]) == 0
    flags = [*json.loads((folder / "library.json").read_text())["build"]["flags"], "-std=c11", "-I."]
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    sources = [str(path.relative_to(folder / "src")) for path in sorted((folder / "src").rglob("*.c"))]
    assert {"declared.c", "listener.c", "model.c"} <= set(sources)
    subprocess.run(["gcc", *flags, *warnings, "-c", *sources], cwd=folder / "src", check=True)
    if shutil.which("g++"):
        subprocess.run(["g++", "-x", "c++", "-fsyntax-only", *warnings, "declared.h"], cwd=folder / "src", check=True)
    return folder / "src"


def test_generated_c_says_what_it_takes(library: Path) -> None:
    arrays = re.findall(r"static (uint8|int16)_t \w+\[(\d+)\]", (library / "declared.c").read_text())
    assert len(arrays) == 4  # arena, state of the noise, samples and rows
    total = sum(int(count) * (2 if kind == "int16" else 1) for kind, count in arrays)
    assert f"take {total:,} bytes" in (library / "declared.h").read_text()


@pytest.mark.parametrize("piece", [320, 107, 7777])
def test_generated_c_hears_the_same(library: Path, model: Path, piece: int, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(C_MAIN)
    flags = f"-std=c11 -Wall -Wextra -Werror -I{library} -DPIECE={piece}".split()
    program = tmp_path / "program"
    subprocess.run(["gcc", *flags, tmp_path / "main.c", *library.glob("*.o"), "-o", program], check=True)
    samples = sweep(300, 3000, 1.5)
    done = subprocess.run([program], input=samples.astype("<i2").tobytes(), capture_output=True, check=True)
    assert done.stderr == b"low high"
    with Runtime(model, engine="microlith") as runtime, Listener(runtime) as listener:
        heard = list(listener.hear(samples))
        answers = [next(iter(runtime.run(window, raw=True).values())) for window in heard]
    ends = [min(start + piece, len(samples)) for start in range(0, len(samples), piece)]
    newest = [row for row in ((end - 480) // 320 - 48 for end in ends) if row >= 0]
    assert done.stdout == b"".join(heard[row].tobytes() + answers[row].tobytes() for row in newest)
    assert max(newest) == len(heard) - 1


def test_c_of_features_that_are_not_the_input_is_refused(tmp_path: Path) -> None:
    """As the metadata of a damaged file could have it: a listener would write beyond the model's input."""
    declared = Preprocessing(sound=sound_of(Features(), 50))
    (tmp_path / "model.tflite").write_bytes(attach(pitch(), declared))
    assert main(["lower", str(tmp_path / "model.tflite"), "-o", str(tmp_path / "out")]) == UsageError.exit_code
    assert not (tmp_path / "out").exists()


def test_labels_of_any_text_are_c(tmp_path: Path) -> None:
    labels = ("žluťoučký", 'a "quote" \\ ??/', "1\n2", "")
    lowered = lower(load_bytes(pitch()))
    files = emit(lowered, "pitch", Preprocessing(labels=labels)).files
    assert "ml_listener" not in files["declared.c"]
    for name in ("declared.h", "declared.c"):
        (tmp_path / name).write_text(files[name])
    main_c = (
        '#include <stdio.h>\n#include "declared.h"\nint main(void) { for (unsigned i = 0; i < ML_PITCH_LABELS; i++) '
    )
    (tmp_path / "main.c").write_text(
        main_c + "fwrite(ml_pitch_labels[i], 1, __builtin_strlen(ml_pitch_labels[i]) + 1, stdout); }"
    )
    subprocess.run(
        ["gcc", "-std=c11", "-trigraphs", "-Wall", "-Werror", "main.c", "declared.c"], cwd=tmp_path, check=True
    )
    told = subprocess.run([tmp_path / "a.out"], capture_output=True, check=True).stdout
    assert told.decode().split("\0")[:-1] == list(labels)
