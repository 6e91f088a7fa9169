"""sdk verify --camera on boards without one: frames of this computer over the line, each checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdk.camera.record import LIVE_FRAMES, Recorded, record
from sdk.camera.sources import Frame
from sdk.cli import main
from sdk.errors import InputError, UsageError, VerifyError
from sdk.link.device import Device
from sdk.preprocess import Picture, Preprocessing, attach

DIGITS = Path("examples/digits/digits_int8.tflite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "photos"
    path.mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 30 + 20 * number, 3), np.uint8)).save(path / f"{number}.png")
    return path


@pytest.mark.parametrize("where", ["native", "mps2-an386"])
def test_frames_over_the_line(where: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(attach(DIGITS.read_bytes(), Preprocessing(picture=Picture(8, 8, 1, fit="pad"))))
    words = ["verify", str(model), "--board", where, "--camera", str(folder)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["frames"], found["differing"], found["camera"]) == (True, 4, [], str(folder))
    assert main([*words, "--count", "3"]) == 0
    assert "3 of 3 frames are equal, 30 values" in capsys.readouterr().out


def test_a_device_that_is_wrong_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, calls = Device.run, list[int]()

    def wrong(self: Device, inputs: Any, **options: Any) -> Any:
        outputs = right(self, inputs, **options)
        calls.append(1)
        if len(calls) == 3:
            outputs[0][0, 4] ^= 0x7F
        return outputs

    monkeypatch.setattr(Device, "run", wrong)
    words = ["verify", str(DIGITS), "--board", "native", "--camera", str(folder), "--output", str(tmp_path / "out")]
    assert main([*words, "--json"]) == VerifyError.exit_code
    found = json.loads(capsys.readouterr().out)
    (differing,) = found["differing"]
    assert (differing["frame"], differing["inputs"], differing["outputs"]) == (2, 0, 1)
    assert differing["apart"] > 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frame-000002.png"]
    with Image.open(differing["picture"]) as kept, Image.open(folder / "2.png") as was:
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(was))
    calls.clear()
    assert main(words) == VerifyError.exit_code
    text = capsys.readouterr().out
    assert "DIFFERENT: digits_int8.tflite on native\n3 of 4 frames are equal" in text
    assert "pictures: " in text


def test_what_does_not_go_together(folder: Path, tmp_path: Path) -> None:
    words = ["verify", str(DIGITS), "--board", "native"]
    assert main([*words, "--camera"]) == UsageError.exit_code  # it has none
    assert main([*words, "--camera", str(tmp_path / "none")]) == UsageError.exit_code
    for more in (["--layers"], ["--inputs", str(folder / "0.png")], ["--engine", "litert"]):
        assert main([*words, "--camera", str(folder), *more]) == UsageError.exit_code
    assert main([*words, "--output", str(tmp_path)]) == UsageError.exit_code
    (folder / "1.png").write_bytes(b"no picture")
    assert main([*words, "--camera", str(folder)]) == InputError.exit_code


class Camera:
    """A live one that never ends."""

    live = True

    def read(self) -> Frame | None:
        return Frame(np.zeros((8, 8, 3), np.uint8), 0.0, "camera")

    def close(self) -> None:
        """Nothing is open."""


class Plain:
    """Takes frames as they are."""

    def stored(self, pixels: Any) -> Any:
        return pixels[None]


def test_a_camera_has_no_end() -> None:
    found = list(record(Camera(), Plain(), lambda inputs: [inputs[0] + 1], None))  # type: ignore[arg-type]
    assert len(found) == LIVE_FRAMES
    assert found[0].outputs[0].max() == 1


def test_messages() -> None:
    made = Recorded("a name", np.ones((2, 2, 3), np.uint8), np.zeros((1, 2), np.int8), (np.ones(3), np.zeros(2)))
    again = Recorded.of(made.arrays())
    assert (again.name, len(again.outputs)) == ("a name", 2)
    np.testing.assert_array_equal(again.outputs[0], np.ones(3))
