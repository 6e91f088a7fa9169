"""The scripts of examples/raspberry_pi, as a user calls them: on pictures, sound files and boards of this computer."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tty
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_camera_detector import BLUE, RED, detector_graph, scene

from sdk.boards import BOARDS, load_board
from sdk.cli import main
from sdk.deploy import make_image, prepare
from sdk.graph import DType, Node
from sdk.load import load
from sdk.ops.base import CaseGraph
from sdk.preprocess import Picture, Preprocessing, attach
from sdk.sound import Sound
from sdk.write import write

EXAMPLES = Path("examples/raspberry_pi")
DIGITS = Path("examples/digits/digits_int8.tflite")
MODELS, SOUNDS = (os.environ.get(f"MICROLITH_{what}") for what in ("MODELS", "SOUNDS"))


def command(script: str, *words: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{script}.py"), *map(str, words)]


def run(script: str, *words: object) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command(script, *words), capture_output=True, text=True, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seven three times, then a one five times."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    path = tmp_path_factory.mktemp("digits")
    for number, digit in enumerate((7, 7, 7, 1, 1, 1, 1, 1)):
        index = int(np.nonzero(data.target[-90:] == digit)[0][0]) - 90
        Image.fromarray(np.round(data.images[index] * 255 / 16).astype(np.uint8)).save(path / f"{number}.png")
    return path


def test_classify(digits: Path) -> None:
    assert len((EXAMPLES / "classify.py").read_text().splitlines()) < 30
    assert [line.split()[0] for line in run("classify", DIGITS, digits).splitlines()] == ["7", "1"]


def test_watch(tmp_path: Path) -> None:
    """One of two things is wanted: a picture when it comes, none of the other, none when it goes."""
    model = attach(write(detector_graph()), Preprocessing(labels=("person", "dog")))
    (tmp_path / "model.tflite").write_bytes(model)
    (tmp_path / "seen").mkdir()
    person, dog = (1, 1, RED), (2, 3, BLUE)
    for number, cells in enumerate([(), (person,), (person,), (person, dog), (person, dog), (dog,), (dog,)]):
        Image.fromarray(scene(*cells)).save(tmp_path / "seen" / f"{number}.png")
    told = run("watch", tmp_path / "model.tflite", "person", tmp_path / "out", tmp_path / "seen").splitlines()
    assert [set(line.partition(": ")[2].split(", ")) for line in told] == [{"person"}, {"person", "dog"}, {"dog"}]
    assert [path.name[-10:] for path in (tmp_path / "out").iterdir()] == ["000002.jpg"]


def loudness() -> bytes:
    """A model that takes a quarter of a second of sound, and tells silence from noise by the mean of its squares."""
    g, samples = CaseGraph(), 4000
    x = g.input((1, samples), DType.FLOAT32)
    squares, power = g.tensor((1, samples), DType.FLOAT32), g.tensor((1, 1), DType.FLOAT32)
    axis = g.constant(np.array([1]), DType.INT32)
    weights, bias = (g.constant(np.array(v), DType.FLOAT32) for v in ([[-5000.0], [5000.0]], [5.0, -5.0]))
    logits = g.tensor((1, 2), DType.FLOAT32)
    y = g.output((1, 2), DType.FLOAT32)
    nodes = [
        Node("MUL", (x, x), (squares,), {"fused_activation_function": 0}, 0),
        Node("MEAN", (squares, axis), (power,), {"keep_dims": True}, 1),
        Node("FULLY_CONNECTED", (power, weights, bias), (logits,), {"fused_activation_function": 0}, 2),
        Node("SOFTMAX", (logits,), (y,), {"beta": 1.0}, 3),
    ]
    return write(g.case_of(nodes, "loudness").graph)


def test_keywords(tmp_path: Path) -> None:
    """Half a second of silence, of a tone, and of silence."""
    declared = Preprocessing(sound=Sound(4000), labels=("silence", "tone"))
    (tmp_path / "model.tflite").write_bytes(attach(loudness(), declared))
    tone = 8000 * np.sin(np.arange(8000) / 8)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.concatenate([np.zeros(8000), tone, np.zeros(8000)]).astype("<i2").tobytes())
    told = run("keywords", tmp_path / "model.tflite", tmp_path / "sound.wav").splitlines()
    assert [line.split()[2] for line in told] == ["silence", "tone", "silence"]
    assert [float(line.split()[0]) for line in told] == pytest.approx([0.25, 0.65, 1.3], abs=0.15)


def test_keywords_of_a_public_model(tmp_path: Path) -> None:
    """tflite-micro's micro_speech and its test's sound files."""
    if not MODELS or not SOUNDS:
        pytest.skip("$MICROLITH_MODELS and $MICROLITH_SOUNDS do not say where models and sounds are")
    model = next(Path(MODELS).rglob("tflm-micro_speech_quantized.tflite"), None)
    if model is None:
        pytest.skip("tflm-micro_speech_quantized.tflite is not there")
    (tmp_path / "labels.txt").write_text("silence\nunknown\nyes\nno\n")
    words = ["convert", str(model), "-o", str(tmp_path / "kws.tflite"), "--features", "log-mel,noise=pcan"]
    assert main([*words, "--labels", str(tmp_path / "labels.txt")]) == 0
    for word in ("yes", "no"):
        assert word in run("keywords", tmp_path / "kws.tflite", Path(SOUNDS) / f"{word}_1000ms.wav").split()


def test_bridge_to_an_emulated_board(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames become what the model declares: what is far too dark is all the same to it."""
    assert main(["flash", str(DIGITS), "--board", "mps2-an386", "--json"]) == 0
    capsys.readouterr()
    model = tmp_path / "model.tflite"
    model.write_bytes(attach(DIGITS.read_bytes(), Preprocessing(Picture(8, 8, 1), labels=tuple("abcdefghij"))))
    lines = [json.loads(line) for line in run("bridge", "mps2-an386", "-", digits, model).splitlines()]
    assert [line["label"] for line in lines] == [*"hhhbbbbb"]
    assert all(line["score"] > 0.5 and line["ms"] >= 0 for line in lines)
    model.write_bytes(attach(DIGITS.read_bytes(), Preprocessing(Picture(8, 8, 1, std=(1e6,)))))
    lines = [json.loads(line) for line in run("bridge", "mps2-an386", "-", digits, model).splitlines()]
    assert len({line["label"] for line in lines}) == 1


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A board's file, and its serial line, open, to be closed by the test: nobody else may have a port open."""
    manifest = json.loads((BOARDS / "native.json").read_text())
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "wired.json").write_text(json.dumps(manifest))
    board = load_board(str(tmp_path / "built" / "wired.json"))
    image = make_image(prepare(load(DIGITS), board), board)
    pico = json.loads((BOARDS / "pico.json").read_text())
    manifest["microlith"] |= {"flasher": "uf2", "uf2": pico["microlith"]["uf2"]}
    (tmp_path / "wired.json").write_text(json.dumps(manifest))
    reader, other = pty.openpty()
    tty.setraw(other)
    with subprocess.Popen([image.elf], stdin=reader, stdout=reader) as process:
        os.close(reader)
        yield str(tmp_path / "wired.json"), other
        process.kill()


def test_bridge_over_a_serial_line(wired: tuple[str, int], digits: Path, tmp_path: Path) -> None:
    """The board is not there at first; then it is plugged in."""
    board, line = wired
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    words = command("bridge", board, tmp_path / "tty", digits)
    with subprocess.Popen(words, stdout=-1, text=True, env=env, pass_fds=(line,)) as bridge:
        assert bridge.stdout is not None
        assert "tty" in json.loads(bridge.stdout.readline())["lost"]
        (tmp_path / "tty").symlink_to(os.ttyname(line))
        os.close(line)
        answers = [json.loads(line) for line, _ in zip(bridge.stdout, range(20), strict=False)]
        bridge.terminate()
    assert [line["label"] for line in answers if "label" in line] == [7, 7, 7, 1, 1, 1, 1, 1]
