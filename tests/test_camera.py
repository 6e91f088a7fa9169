"""The camera loop with real models and real files: images, videos, and a live source that is faster than the model."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdk.camera import Classifier, Frame, open_source
from sdk.camera.prepare import default_picture
from sdk.camera.sinks import Jpegs
from sdk.camera.sources import Images, Latest, Picamera, give_back, in_time, rgb, rgb_of_nv12
from sdk.cli import main
from sdk.errors import InputError, LinkError, OutputError, UsageError
from sdk.preprocess import Picture, Preprocessing, attach
from sdk.runtime import Tensor

DIGITS = Path("examples/digits/digits_int8.tflite")
ENGINE: dict[str, Any] = {"engine": "microlith"}


@pytest.fixture(scope="module")
def digits() -> Any:
    """Handwritten digits as pictures of 32x32, and what they are."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    pictures = [
        np.kron(np.round(image * 255 / 16).astype(np.uint8), np.ones((4, 4), np.uint8)) for image in data.images
    ]
    return pictures[-40:], data.target[-40:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """The pictures as files."""
    path = tmp_path_factory.mktemp("pictures")
    for number, (picture, digit) in enumerate(zip(*digits, strict=True)):
        Image.fromarray(picture).convert("RGB").save(path / f"{number:03}-{digit}.png")
    (path / "notes.txt").write_text("no picture")
    return path


class Live:
    """A camera that gives a frame every `pace_s`, `count` of them; or a film of it, of which no frame is dropped."""

    def __init__(self, count: int, pace_s: float, *, live: bool = True) -> None:
        self.left, self.pace_s, self.given, self.live = count, pace_s, 0, live

    def read(self) -> Frame | None:
        time.sleep(self.pace_s)
        if self.given == self.left:
            return None
        self.given += 1
        return Frame(np.full((8, 8, 3), self.given % 256, np.uint8), time.monotonic(), str(self.given))

    def close(self) -> None:
        """Nothing is open."""


def test_folder_of_digits(folder: Path) -> None:
    with open_source(folder) as source, Classifier(DIGITS, source, threshold=0, **ENGINE) as results:
        found = [(Path(result.frame.name).stem[-1], result.label) for result in results]
    assert len(found) == 40
    assert sum(want == got for want, got in found) >= 37


def test_labels_and_picture_of_the_model(folder: Path, tmp_path: Path) -> None:
    names = tuple(f"digit {i}" for i in range(10))
    model = tmp_path / "model.tflite"
    model.write_bytes(attach(DIGITS.read_bytes(), Preprocessing(picture=Picture(8, 8, 1, fit="pad"), labels=names)))
    with open_source(folder) as source, Classifier(model, source, **ENGINE) as results:
        assert results.preparation.picture.fit == "pad"
        result = next(iter(results))
    assert result.top[0][0] == f"digit {Path(result.frame.name).stem[-1]}"
    beside = model.with_suffix(".json")  # what sdk flash writes wins: a board may have no reader of metadata
    beside.write_text(Preprocessing(labels=tuple("abcdefghij")).to_json())
    with open_source(folder) as source, Classifier(model, source, **ENGINE) as results:
        assert next(iter(results)).top[0][0] in "abcdefghij"
    beside.write_text(Preprocessing(picture=Picture(96, 96, 3)).to_json())
    with pytest.raises(UsageError, match=r"96, 96, 3.* is \[1, 8, 8, 1\]"):
        Classifier(model, Images([]), **ENGINE)
    beside.write_text(Preprocessing(labels=("background", *"abcdefghij")).to_json())
    with pytest.raises(UsageError, match="11 labels, and the model has 10 classes"):
        Classifier(model, Images([]), **ENGINE)


def test_video(tmp_path: Path, digits: Any) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    path = tmp_path / "digits.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    for picture in digits[0]:
        writer.write(np.repeat(picture[:, :, None], 3, 2))
    writer.release()
    with open_source(path) as source, Classifier(DIGITS, source, threshold=0, **ENGINE) as results:
        labels = [result.label for result in results]
    assert sum(label == str(digit) for label, digit in zip(labels, digits[1], strict=True)) >= 36


def test_latest_frame_wins() -> None:
    source = Live(60, 0.005)
    names = []
    with Latest(source) as latest:
        while (frame := latest.read()) is not None:
            names.append(int(frame.name))
            time.sleep(0.03)
        assert latest.dropped == 60 - len(names)
    assert names == sorted(set(names))
    assert 5 < len(names) < 30  # the camera ran on


def test_camera_that_stalls_or_disappears() -> None:
    with Latest(Live(1, 60.0), stall_s=0.05) as latest, pytest.raises(LinkError, match=r"nothing for 0\.05 s"):
        latest.read()

    class Gone(Live):
        def read(self) -> Frame | None:
            raise LinkError("the camera is gone")

    with Latest(Gone(1, 0)) as latest, pytest.raises(LinkError, match="is gone"):
        latest.read()


def test_camera_that_does_not_open() -> None:
    hanging = threading.Event()
    with pytest.raises(LinkError, match=r"camera /dev/video0 has not opened in 0\.05 s"):
        in_time(hanging.wait, "/dev/video0", 0.05)
    hanging.set()
    assert in_time(lambda: 7, "/dev/video0") == 7
    with pytest.raises(KeyError):
        in_time(lambda: {}["none"], "/dev/video0")


def test_camera_that_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs, in a frame or in the release, holds nobody up."""
    hanging, reading, released = threading.Event(), threading.Lock(), threading.Event()
    give_back(released.set, reading, "/dev/video0")
    assert released.is_set()
    begin_s = time.monotonic()
    give_back(hanging.wait, reading, "/dev/video0", 0.05)
    with reading:
        give_back(hanging.wait, reading, "/dev/video0", 0.05)
    camera = Picamera.__new__(Picamera)  # picamera2 itself runs in `make test-camera`
    camera._camera, camera._format, camera._reading = Stuck(hanging), "RGB888", threading.Lock()
    monkeypatch.setattr(give_back, "__defaults__", (0.05,))
    with Latest(camera, stall_s=0.05) as latest, pytest.raises(LinkError, match="nothing"):
        latest.read()
    camera.close()
    assert time.monotonic() - begin_s < 5
    hanging.set()


class Stuck:
    """picamera2 with a camera that gives nothing: its `close` waits for the frame that was asked."""

    def __init__(self, hanging: threading.Event) -> None:
        self._hanging = hanging

    def capture_array(self, _name: str) -> Any:
        self._hanging.wait()
        return np.zeros((2, 2, 3), np.uint8)

    def close(self) -> None:
        self._hanging.wait()


def test_smoothing_debounce_and_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter(np.eye(10, dtype=np.float32)[[1, 1, 2, 1, 2, 2, 2]] * 0.9)
    monkeypatch.setattr(Classifier, "infer", lambda _self, _pixels: next(scores))
    with Classifier(DIGITS, Live(7, 0, live=False), debounce=2, **ENGINE) as results:
        assert [result.label for result in results] == [None, "1", "1", "1", "1", "2", "2"]
    scores = iter(np.eye(10, dtype=np.float32)[[1, 2]])
    with Classifier(DIGITS, Live(2, 0, live=False), smoothing=0.75, **ENGINE) as results:
        first, second = results
    assert first.label == "1"
    assert dict(second.top) == {"1": 0.75, "2": 0.25, "0": 0}
    scores = iter([np.full(10, 0.1, np.float32)])
    with Classifier(DIGITS, Live(1, 0), **ENGINE) as results:
        assert next(iter(results)).label is None


def test_logits_become_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "infer", lambda _self, _pixels: np.array([-5.0, 8.0, 1.0], np.float32))
    with Classifier(DIGITS, Live(1, 0), **ENGINE) as results:
        top = next(iter(results)).top
    assert sum(score for _, score in top) == pytest.approx(1)
    assert top[0][0] == "1"


def test_frames_become_what_the_declaration_says() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with Classifier(DIGITS, Live(1, 0), **ENGINE) as results:
        wanted = results.runtime.run(results.preparation.picture.apply(pixels))["digit"].reshape(-1)
        np.testing.assert_array_equal(results.infer(pixels), wanted)


def test_default_picture_spans_the_input() -> None:
    picture = default_picture(Tensor("x", (1, 2, 2, 1), np.dtype(np.int8), 0.5, 28))
    np.testing.assert_allclose(picture.normalized(np.array([0, 255])), [-78.0, 49.5], rtol=1e-6)
    floats = default_picture(Tensor("x", (1, 2, 2, 1), np.dtype(np.float32)))
    np.testing.assert_allclose(floats.normalized(np.array([0, 255])), [0, 1])


def test_formats_of_cameras() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert rgb(pixels, "BGR", "camera")[0, 0].tolist() == [2, 1, 0]
    assert rgb(pixels, "RGB", "camera")[0, 0].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"uint16\[1, 3, 4\]"):
        rgb(pixels.astype(np.uint16), "RGB", "camera")


def test_nv12() -> None:
    """Brightness, then colours at half the size; against JPEG's own formula."""
    rows = np.zeros((12, 8), np.uint8)
    rows[:8] = np.arange(8) * 30
    rows[8:] = (90, 160) * 4
    pixels = rgb_of_nv12(rows, "camera").astype(int)
    y, cb, cr = rows[:8].astype(float), 90 - 128, 160 - 128
    wanted = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    assert np.abs(pixels - np.clip(wanted, 0, 255)).max() <= 2
    for wrong in (rows[:11], rows[:, :7], rows.astype(np.uint16), rows[None]):
        with pytest.raises(InputError, match="no NV12"):
            rgb_of_nv12(wrong, "camera")


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images"):
        open_source(tmp_path)
    with pytest.raises(UsageError, match="no source"):
        open_source("webcam")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(InputError, match="is no image"):
        open_source(tmp_path).read()
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="no file"):
        open_source(tmp_path).read()
    for number in ("\N{SUPERSCRIPT TWO}", "9" * 20):
        with pytest.raises(UsageError, match="no source"):
            open_source(number)
    if not Path("/dev/video77").exists():
        pytest.importorskip("cv2", reason="OpenCV is not installed")
        with pytest.raises(LinkError, match="no camera"):
            open_source("/dev/video77")


def test_pictures_of_16_bits_are_not_clipped(tmp_path: Path) -> None:
    """They are what the other commands read."""
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp * 257).save(tmp_path / "ramp.png")
    frame = open_source(tmp_path).read()
    assert frame is not None
    np.testing.assert_array_equal(frame.pixels, np.repeat(ramp[:, :, None], 3, 2))


def test_memory_stays_flat() -> None:
    """As many frames as an hour has seconds."""
    with Classifier(DIGITS, Live(3600, 0, live=False), **ENGINE) as results:
        used = [resident_bytes() for result in results if result.number in (500, 3599)]
    assert used[1] - used[0] < 2_000_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_jpegs_are_bounded_and_a_full_disk_is_told(folder: Path, tmp_path: Path) -> None:
    jpegs = Jpegs(tmp_path / "out", every=True, kept=5)
    with open_source(folder) as source, Classifier(DIGITS, source, **ENGINE) as results:
        last = [jpegs.take(result) or result for result in results][-1]
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 5
    with Image.open(files[-1]) as image:
        assert image.size == (32, 32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "NamedTemporaryFile", full)
        with pytest.raises(OutputError, match="No space left"):
            jpegs.take(last)
    (tmp_path / "out" / "holiday.jpg").touch()
    again = Jpegs(tmp_path / "out", every=True, kept=5)  # counts what the first has left, and nothing else
    again.take(replace(last, number=999_999_999))
    left = sorted((tmp_path / "out").iterdir())
    assert left[:4] == files[1:]
    assert [path.name for path in left[5:]] == ["holiday.jpg"]


def full(**_options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(DIGITS), "--source", str(folder), "--json", "--count", "3", "--engine", "microlith"]
    assert main(["camera", *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 2]
    assert lines[0]["top"][0][0] == Path(lines[0]["name"]).stem[-1]
    command = [sys.executable, "-m", "sdk.camera", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["top"] for line in again] == [line["top"] for line in lines]
    assert main(["camera", str(DIGITS), "--source", "nothing"]) == UsageError.exit_code
    assert main(["camera", *words[:-3], "0", "--engine", "microlith"]) == UsageError.exit_code
    assert "--count is 0" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["sdk", "sdk.camera"])
def test_results_that_nobody_takes(folder: Path, module: str) -> None:
    """A full disk, and a reader who leaves: no traceback, neither of the command nor of a board's program."""
    words = [str(DIGITS), "--source", str(folder), "--json", "--engine", "microlith"]
    command = [sys.executable, "-m", module, *(["camera"] if module == "sdk" else []), *words]
    with Path("/dev/full").open("wb") as disk:
        done = subprocess.run(command, stdout=disk, stderr=-1, text=True, check=False)
    assert done.returncode == OutputError.exit_code
    assert done.stderr.removeprefix("error: ").splitlines()[0].startswith("cannot write the results: No space left")
    assert len(done.stderr.splitlines()) == 2
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as left:
        done = subprocess.run(command, stdout=left, stderr=-1, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
