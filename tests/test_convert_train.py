"""`sdk train` on real pictures, to an emulated Cortex-M4. `make test-convert` runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import write_digits
from PIL import Image

from sdk.cli import main
from sdk.convert.environment import TENSORFLOW, python_of
from sdk.convert.training import train
from sdk.errors import UsageError
from sdk.preprocess import attached

if not os.environ.get("MICROLITH_TEST_CONVERT"):
    pytest.skip("training needs TensorFlow: run `make test-convert`", allow_module_level=True)

ROOT = Path(__file__).parents[1]
GESTURE = ROOT / "examples" / "gesture"
BOARD = "mps2-an386"
EACH = 40  # digits of each class
SMALL: dict[str, Any] = {"backbone": "mobilenet_v1", "size": 32, "gray": True}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits of scikit-learn, a folder a class."""
    return write_digits(tmp_path_factory.mktemp("train") / "digits", EACH)


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of Keras, which tests/convert_trunks.py writes and tries."""
    folder = tmp_path_factory.mktemp("networks")
    unreachable = {"KERAS_HOME": str(folder), "https_proxy": "http://127.0.0.1:9"}  # nobody listens there
    done = subprocess.run(
        [python_of(TENSORFLOW), ROOT / "tests" / "convert_trunks.py", folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | unreachable,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_from_scratch_to_a_board(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "digits.tflite"
    words = ["train", "--images", digits, "-o", model, "--weights", "none", "--backbone", "mobilenet_v1", "--json"]
    assert main(list(map(str, [*words, "--size", 32, "--gray", "--epochs", 30]))) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["trained"], said["held_out"], said["classes"]) == (320, 80, list("0123456789"))
    assert said["accuracy"]["before"] > 0.7  # of ten classes, from 320 pictures
    assert said["accuracy"]["before"] - said["accuracy"]["after"] < 0.05
    assert said["guessing"] == 0.1
    assert BOARD in said["boards"]
    assert said["history"][-1]["held_out"] == pytest.approx(said["accuracy"]["before"], abs=0.02)
    declared = attached(model.read_bytes())
    assert declared is not None
    assert declared.labels == tuple("0123456789")
    assert declared.picture is not None
    assert (declared.picture.channels, declared.picture.mean, declared.picture.fit) == (1, (127.5,), "crop")
    assert main(list(map(str, ["verify", model, "--board", BOARD, "--dataset", digits, "--count", 10, "--json"]))) == 0


def test_on_pretrained_weights(digits: Path, networks: Path) -> None:
    settings = {"weights": str(networks / "bare.h5"), "epochs": 3, "fine_tune": 2, **SMALL}
    first, second = (train(digits, **settings) for _ in range(2))
    assert first.converted.model == second.converted.model
    assert first.history == second.history
    assert len(first.history) == 5
    assert first.history[-1]["loss"] < first.history[0]["loss"]
    assert first.converted.report.lowered is not None


def test_without_a_network_the_choices_are_named(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="no weights of ImageNet for mobilenet_v2") as caught:
        train(digits, tmp_path / "out.tflite")
    assert "--weights none" in caught.value.remedy
    assert "--weights FILE.h5" in caught.value.remedy
    assert not (tmp_path / "out.tflite").exists()


def test_what_was_not_learnt_is_said(tmp_path: Path) -> None:
    for name in ("grüne Birnen", "Äpfel"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("L", (9, 9), 7 * i).save(tmp_path / name / f"{i}.png")  # the same in both
    said: list[str] = []
    made = train(tmp_path, weights="none", epochs=1, note=said.append, **SMALL)
    assert made.converted.declared is not None
    assert made.converted.declared.labels == ("grüne Birnen", "Äpfel")
    assert made.converted.accuracy is not None
    assert (made.converted.accuracy.before <= made.guessing) == any("learnt nothing" in line for line in said)


COMMANDS = re.findall(r"^\$ (.*)$", GESTURE.joinpath("README.md").read_text().partition("```sh")[2], re.MULTILINE)


def test_movements_from_recordings_to_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the example, with fewer epochs."""
    folder = shutil.copytree(GESTURE, tmp_path / "gesture")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GESTURE_EPOCHS", "3")
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        tool, *words = shlex.split(command)
        if tool == "python":
            subprocess.run([sys.executable, *words], check=True)
        else:
            assert main(words) == 0
    assert attached((folder / "gesture.tflite").read_bytes()) == attached(
        (GESTURE / "gesture_int8.tflite").read_bytes()
    )


def test_ctrl_c_leaves_nothing(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "digits")
    words = ["-v", "train", "--images", "digits", "-o", "out.tflite", "--weights", "none", "--size", "32"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sdk", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        next(line for line in process.stderr if "epoch 1 of" in line)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
