"""What the camera loop does with what is seen: videos, pins, serial lines, commands; each with the real thing."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdk.camera import Frame, Result
from sdk.camera.actions import Command, Only, Pin, SerialLine
from sdk.camera.sinks import Jpegs, Sink
from sdk.camera.video import Video
from sdk.cli import main
from sdk.errors import OutputError, UsageError

DIGITS = Path("examples/digits/digits_int8.tflite")
# Whoever runs the tests may ignore Ctrl-C.
PROGRAM = """import signal, sdk.camera.__main__
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(sdk.camera.__main__.main())"""


def result(number: int, *labels: str, changed: bool = True, height: int = 48) -> Result:
    pixels = np.full((height, 64, 3), (40 * number) % 256, np.uint8)
    top = tuple((label, 0.75) for label in labels)
    return Result(Frame(pixels, number / 10, "camera"), number, labels, changed, top, 1.0, 0)


def frames(path: Path) -> tuple[list[int], float]:
    """The gray of each frame's middle, and the rate, as OpenCV reads them."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    capture, found = cv2.VideoCapture(str(path)), list[int]()
    while True:
        right, pixels = capture.read()
        if not right:
            return found, float(capture.get(cv2.CAP_PROP_FPS))
        assert pixels.shape == (48, 64, 3)
        found.append(int(pixels[40, 50, 0]))


@pytest.mark.parametrize("ended", [True, False])
def test_video_is_whole_after_each_frame(tmp_path: Path, ended: bool) -> None:
    video = Video(tmp_path / "seen.avi")
    for number in range(7):
        video.take(result(number, height=48 if number != 5 else 96))
    if ended:
        video.close()
    gray, rate = frames(tmp_path / "seen.avi")
    np.testing.assert_allclose(gray, [40 * number % 256 for number in range(7)], atol=3)
    assert rate == pytest.approx(10)
    data = (tmp_path / "seen.avi").read_bytes()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert (b"idx1" in data) == ended
    video.close()


def test_video_does_not_fill_the_disk(tmp_path: Path) -> None:
    with Video(tmp_path / "seen.avi", limit_bytes=5000) as video:
        for number in range(40):
            video.take(result(number))
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * 5000 + 1000
    last, before = frames(tmp_path / "seen.avi")[0], frames(tmp_path / "seen.before.avi")[0]
    assert len(last) + len(before) > 5
    np.testing.assert_allclose(before + last, [40 * n % 256 for n in range(40)][-len(before + last) :], atol=3)


@contextmanager
def room(count: int) -> Iterator[None]:
    """No file of this process may grow beyond `count` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_video_on_a_full_disk(tmp_path: Path) -> None:
    video = Video(tmp_path / "seen.avi")
    with room(3000):
        video.take(result(0))
        with pytest.raises(OutputError, match=r"seen\.avi: File too large"):
            [video.take(result(number)) for number in range(1, 50)]
        with pytest.raises(OutputError, match="File too large"):
            video.close()
    assert len(frames(tmp_path / "seen.avi")[0]) >= 1
    video.close()  # twice is once


def test_files_that_no_video_can_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.avi"):
        Video(tmp_path / "seen.mp4")
    with pytest.raises(OutputError, match="No such file"):
        Video(tmp_path / "none" / "seen.avi")


def test_pictures_of_what_comes(tmp_path: Path) -> None:
    """Not of what goes, nor of what stays."""
    jpegs = Jpegs(tmp_path)
    for each in (result(0, changed=False), result(1, "cat"), result(2, "cat", changed=False), result(3)):
        jpegs.take(each)
    assert [path.name[-10:] for path in tmp_path.iterdir()] == ["000001.jpg"]


def test_only_some_labels() -> None:
    class Kept(Sink):
        def __init__(self) -> None:
            self.seen: list[tuple[tuple[str, ...], bool]] = []

        def take(self, result: Result) -> None:
            self.seen.append((result.labels, result.changed))

    kept = Kept()
    only = Only(kept, ["person", "dog"])
    for each in (result(0, "cat"), result(1, "cat", "person"), result(2, "person"), result(3, "dog"), result(4)):
        only.take(each)
    steps = [((), False), (("person",), True), (("person",), False), (("dog",), True), ((), True)]
    assert kept.seen == steps


def test_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """On gpiozero's own pins that are none: no GPIO is on this machine."""
    gpiozero = pytest.importorskip("gpiozero")
    mock = pytest.importorskip("gpiozero.pins.mock")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", mock.MockFactory())
    line = gpiozero.Device.pin_factory.pin("GPIO17")
    with Pin("17") as pin:
        states = []
        for each in (result(0), result(1, "cat"), result(2, "cat", changed=False), result(3)):
            pin.take(each)
            states.append(line.state)
        assert states == [False, True, True, False]
        assert line.function == "output"
        with pytest.raises(UsageError, match="GPIO17"):
            Pin("GPIO17")  # taken
    assert line.function == "input"
    with pytest.raises(UsageError, match="pin GPIO99"):
        Pin("GPIO99")


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudoterminal: the side that reads, and the name of the other."""
    reader, other = pty.openpty()
    tty.setraw(other)
    try:
        yield reader, os.ttyname(other)
    finally:
        os.close(other)
        os.close(reader)


def lines(reader: int, count: int) -> list[bytes]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(reader, 1000)
    return data.splitlines()


def test_serial_line(line: tuple[int, str]) -> None:
    with SerialLine(line[1]) as sink:
        for each in (result(0, "cat"), result(1, "cat", changed=False), result(2, "a\nb\x1b"), result(3)):
            sink.take(each)
        assert lines(line[0], 3) == [b"cat 0.750", b"a?b? 0.750", b"-"]
        assert sink.lost == 0


def test_serial_line_that_nobody_reads(line: tuple[int, str]) -> None:
    with SerialLine(line[1]) as sink:
        for number in range(1000):
            sink.take(result(number, "x" * 30))
            if sink.lost == 3:
                break
        assert sink.lost == 3
        longest = time.monotonic()
        sink.take(result(0, "x" * 30))
        assert time.monotonic() - longest < 2
        while b"cat" not in os.read(line[0], 100000):  # it goes on when somebody does
            sink.take(result(1, "cat"))


def test_serial_line_that_goes() -> None:
    reader, other = pty.openpty()
    name = os.ttyname(other)
    with SerialLine(name) as sink:
        os.close(other)
        os.close(reader)
        with pytest.raises(OutputError, match="takes no more"):
            sink.take(result(0, "cat"))
    with pytest.raises(OutputError, match="cannot open"):
        SerialLine("/dev/none")


def test_labels_are_no_commands(tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/bad); `touch {tmp_path}/bad`\n\0'\""
    with Command(f'printf %s "$MICROLITH_LABEL $MICROLITH_SCORE" > "{tmp_path}/out"') as command:
        command.take(result(0, changed=False))
        command.take(result(1, hostile))
    assert (tmp_path / "out").read_text() == hostile.replace("\0", "") + " 0.7500"
    assert not (tmp_path / "bad").exists()
    with Command(f'printf %s "$MICROLITH_RESULT" > "{tmp_path}/out"') as command:
        command.take(result(1, hostile))
    assert json.loads((tmp_path / "out").read_text())["label"] == hostile


def test_a_command_that_hangs_is_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With what it has started, and the loop does not wait for it."""
    command = Command(f"sleep 60 & echo $! > {tmp_path}/child; wait", limit_s=0.5)
    start = time.monotonic()
    command.take(result(0, "cat"))
    for _ in range(3):
        command.take(result(1, "dog"))
    assert (command.skipped, time.monotonic() - start < 0.4) == (3, True)
    time.sleep(0.6)
    command.take(result(2, "dog", changed=False))
    assert "ended after 0.5 s" in capfd.readouterr().err
    child = int((tmp_path / "child").read_text())
    assert not running(child)
    command.take(result(3, "cat"))  # the next one is free to run
    command.close()
    assert not running(int((tmp_path / "child").read_text()))
    assert time.monotonic() - start < 10


def running(number: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_fails_does_not_stop_the_loop(capfd: pytest.CaptureFixture[str]) -> None:
    with Command("echo something; exit 3") as command:
        command.take(result(0, "cat"))
    told = capfd.readouterr()
    assert (told.out, "something" in told.err, "has ended with 3" in told.err) == ("", True, True)
    with Command("true") as command:
        command.take(result(0, "x" * 3_000_000))  # longer than an environment may be
    assert "does not start" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:Falling back")  # gpiozero's, from one way to the next
def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: tuple[int, str]) -> None:
    """All at once, on pictures of digits."""
    data: Any = pytest.importorskip("sklearn.datasets").load_digits()
    (tmp_path / "digits").mkdir()
    for number, digit in enumerate((1, 7, 7, 2)):
        index = int(np.nonzero(data.target[-90:] == digit)[0][0]) - 90
        Image.fromarray(np.round(data.images[index] * 255 / 16).astype(np.uint8)).save(
            tmp_path / "digits" / f"{number}.png"
        )
    words = ["camera", str(DIGITS), "--engine", "microlith", "--source", str(tmp_path / "digits"), "--threshold", "0"]
    ways = ["--save", str(tmp_path / "out"), "--video", str(tmp_path / "seen.avi"), "--serial", line[1]]
    ways += ["--run", f'echo "$MICROLITH_LABEL" >> {tmp_path}/ran']
    assert main([*words, *ways, "--on", "7", "--json"]) == 0
    assert [json.loads(text)["label"] for text in capsys.readouterr().out.splitlines()] == ["1", "7", "7", "2"]
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert [each.split()[0] for each in lines(line[0], 2)] == [b"7", b"-"]
    assert (tmp_path / "ran").read_text() == "7\n"
    assert (tmp_path / "seen.avi").stat().st_size > 2000
    assert main([*words, "--on", "7"]) == UsageError.exit_code
    (tmp_path / "labels").write_text("\n".join("abcdefghij"))
    assert main([*words, *ways, "--labels", str(tmp_path / "labels"), "--on", "z"]) == UsageError.exit_code
    assert "no label 'z'" in capsys.readouterr().err
    if not list(Path("/dev").glob("gpiochip*")):
        assert main([*words, "--gpio", "17"]) in (OutputError.exit_code, 8)  # no pins, or no gpiozero


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_program_that_is_told_to_go(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """The service's stop and Ctrl-C: the video has its index, and nobody waits for a command."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "pictures" / "0.png")
    for number in range(1, 30_000):  # more than it comes to
        (tmp_path / "pictures" / f"{number}.png").symlink_to("0.png")
    words = [DIGITS, "--engine", "microlith", "--source", tmp_path / "pictures", "--threshold", "0", "--every"]
    words += ["--video", tmp_path / "seen.avi", "--run", f"sleep 60 & echo $! > {tmp_path}/child; wait"]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, words)], stdout=subprocess.DEVNULL) as program:
        while not all(path.exists() and path.stat().st_size for path in (tmp_path / "child", tmp_path / "seen.avi")):
            time.sleep(0.02)
        start = time.monotonic()
        program.send_signal(sent)
        assert program.wait(30) == code
        assert time.monotonic() - start < 20
    assert b"idx1" in (tmp_path / "seen.avi").read_bytes()
    assert not running(int((tmp_path / "child").read_text()))
