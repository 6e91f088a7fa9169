"""The host on lines that lose, damage and delay what they carry."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from delay import SIZE, Raw, delay_program, initial, values

from sdk.boards import load_board
from sdk.build import Image, build
from sdk.emit import emit_empty
from sdk.errors import DeviceError, LinkError
from sdk.flash.native import NativeTransport
from sdk.graph import DType
from sdk.link import exchange, frames
from sdk.link.device import Device, StepResult
from sdk.link.messages import encode_request
from sdk.link.transport import Transport
from sdk.ops.control import COPY
from sdk.program import Region


class BadLine:
    """A line that loses, doubles, flips and inserts bytes, and loses or doubles whole pieces, both ways."""

    def __init__(self, inner: Transport, seed: int, rate: float) -> None:
        self.name = "bad line"
        self.faults = 0
        self._inner = inner
        self._rng = random.Random(seed)
        self._rate = rate

    def read(self, timeout_s: float) -> bytes:
        return self._spoil(self._inner.read(timeout_s))

    def write(self, data: bytes) -> None:
        self._inner.write(self._spoil(data))

    def reset(self) -> None:
        self._inner.reset()

    def close(self) -> None:
        self._inner.close()

    def _spoil(self, data: bytes) -> bytes:
        if self._rng.random() < 0.02:
            self.faults += 1
            return self._rng.choice((b"", data + data, data[: self._rng.randrange(len(data) + 1)]))
        return b"".join(self._fault(byte) if self._rng.random() < self._rate else bytes((byte,)) for byte in data)

    def _fault(self, byte: int) -> bytes:
        self.faults += 1
        kind = self._rng.randrange(4)
        return (b"", bytes((byte, byte)), bytes((byte ^ 1 << self._rng.randrange(8),)), self._rng.randbytes(9))[kind]


@pytest.mark.parametrize("seed", range(12))
def test_answers_stay_right_on_a_bad_line(line: NativeTransport, seed: int) -> None:
    bad = BadLine(line, seed, rate=1e-3)
    with Device(bad, retry_s=0.01) as device:
        opened = device.load(delay_program(padding=5000))
        assert (opened.arena_bytes, opened.state_bytes, opened.step_count) == (6016, 3008, 2)
        assert [(t.name, t.shape, t.dtype, t.scale, t.zero_point) for t in device.inputs] == [
            ("given", (2, 1500), DType.INT8, 0.5, -3)
        ]
        before = initial()
        for number in range(6):
            given = values(number)
            if number % 2:
                steps: list[StepResult] = []
                output = device.run_steps([given], steps.append).outputs[0]
                assert [step.step for step in steps] == [0, 1]
            else:
                output = device.run([given])[0]
            assert np.array_equal(output, before)
            before = given
        assert device.read_region(Region.STATE, 0, SIZE) == before.tobytes()
        device.reset_state()
        assert np.array_equal(device.run([values(7)])[0], initial())
        device.reboot()
        device.load(delay_program(SIZE))
        assert np.array_equal(device.run([values(8)])[0], initial())
        assert bad.faults > 10
        assert device.retries > 5


class SlowLine(BadLine):
    """A line without loss that carries some bytes a second to the device and has a long queue before it. Its time is
    its own, and that of the host's waiting: the device computes in none, and a busy computer changes nothing."""

    def __init__(self, inner: Transport, bytes_per_s: float) -> None:
        super().__init__(inner, 0, 1e-9)
        self._byte_s = 1 / bytes_per_s
        self._queue = b""
        self._now_s = 0.0
        self._within_frame = False

    def monotonic(self) -> float:
        return self._now_s

    def write(self, data: bytes) -> None:
        self._queue += data

    def read(self, timeout_s: float) -> bytes:
        end_s = self._now_s + timeout_s
        while self._queue and self._now_s + self._byte_s <= end_s:
            self._now_s += self._byte_s
            byte, self._queue = self._queue[:1], self._queue[1:]
            self._inner.write(byte)
            if byte == b"\0" and (answer := self._answer()):
                return answer
        self._now_s = end_s
        return b""

    def _answer(self) -> bytes:
        """The whole answer to the frame that a zero byte has ended; b"" if it has begun one."""
        self._within_frame = not self._within_frame
        if self._within_frame:
            return b""
        data = b""
        while data.count(b"\0") < 2:
            data += self._inner.read(60)
        return data


MakeSlow = Callable[[Transport, float], SlowLine]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> MakeSlow:
    """Makes a line slow, and the host go by its time."""

    def make(inner: Transport, bytes_per_s: float) -> SlowLine:
        line = SlowLine(inner, bytes_per_s)
        monkeypatch.setattr(exchange, "time", line)
        return line

    return make


@pytest.mark.parametrize("assumed", [4e3, 1e6])
def test_a_slow_line_is_not_flooded(
    line: NativeTransport, slow: MakeSlow, monkeypatch: pytest.MonkeyPatch, assumed: float
) -> None:
    """Also where it is taken for a fast one at first: 500 bytes take 25 ms, and silence of 5 ms is suspect."""
    monkeypatch.setattr(exchange, "ASSUMED_BYTES_PER_S", assumed)
    with Device(slow(line, 20e3), retry_s=0.005) as device:
        device.load(delay_program(padding=5000))
        assert np.array_equal(device.run([values(1)])[0], initial())
        at_first = device.retries
        for number in range(2, 6):
            assert np.array_equal(device.run([values(number)])[0], values(number - 1))
        assert device.retries == at_first
        assert at_first < (20 if assumed > 20e3 else 1)


def test_a_line_far_slower_than_it_says_carries_a_program(slow: MakeSlow) -> None:
    """A frame as long as the board takes would be under way for longer than the patience with it."""
    image = build(load_board("native"), emit_empty([COPY.name]))
    line = slow(NativeTransport(image.board, image.elf), 2000)
    with Device(line, retry_s=0.05, timeout_s=image.board.frame_bytes / 2000 * 0.8) as device:
        device.load(delay_program(padding=5000))
        assert np.array_equal(device.run([values(1)])[0], initial())
        assert device.retries == 0


class Noise(SlowLine):
    """A line on which a damaged frame comes each millisecond, and nothing else."""

    def read(self, timeout_s: float) -> bytes:
        self._now_s += min(1e-3, timeout_s)
        return b"\0damaged\0"


def test_damaged_frames_for_ever_end(line: NativeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands in a row: the patience with each repetition grows, and not beyond all numbers."""
    noise = Noise(line, 1e6)
    monkeypatch.setattr(exchange, "time", noise)
    talk = exchange.Exchange(noise, retry_s=0.3)
    with pytest.raises(LinkError, match="has not finished INVOKE after 3 s"):
        talk.request("invoke", 3.0)
    assert talk.retries > 2000


def test_frames_that_hold_no_page_of_flash() -> None:
    """Nothing would ever be written."""
    image = build(replace(load_board("native"), frame_bytes=128), emit_empty([COPY.name]))
    with (
        Device(NativeTransport(image.board, image.elf)) as device,
        pytest.raises(LinkError, match="takes frames of 128 bytes: no page fits"),
    ):
        device.write_flash(0, bytes(256))


def test_the_wrong_board_and_a_dead_line_are_told(image: Image) -> None:
    with pytest.raises(LinkError, match="is the board 'native', not 'microbit'"):
        Device(NativeTransport(image.board, image.elf), board_id="microbit")

    class DeadLine(BadLine):
        def read(self, timeout_s: float) -> bytes:
            threading.Event().wait(timeout_s)
            return b""

    transport = NativeTransport(image.board, image.elf)
    with pytest.raises(LinkError, match="no device answers on bad line"):
        Device(DeadLine(transport, 0, 1e-9), timeout_s=0.2, retry_s=0.05)


def test_boot_messages_and_old_replies_are_skipped(line: NativeTransport) -> None:
    raw = Raw(line)
    raw.ask("hello")
    line.write(frames.encode(encode_request("stack", 102, {"repaint": 0})) * 3)  # nobody reads the answers

    class Chatty(BadLine):
        def __init__(self) -> None:
            super().__init__(line, 0, 1e-9)
            self.text = b"ets Jun  8 2016\r\nrst:0x1\r\n\0microlith: fault 00000003 at 00000000\n\0half a frame"

        def read(self, timeout_s: float) -> bytes:
            text, self.text = self.text, b""
            return text or line.read(timeout_s)

    with Device(Chatty()) as device:
        assert device.info.board_id == "native"


def test_a_crash_is_reported_with_its_address(line: NativeTransport) -> None:
    device = Device(line)
    device.load(delay_program())

    class Crashing(BadLine):
        def read(self, timeout_s: float) -> bytes:
            assert line.read(timeout_s)
            return b"\0microlith: fault 00000003 at 0000beef\n\0"

    device._exchange.transport = Crashing(line, 0, 1e-9)
    with pytest.raises(DeviceError, match="crashed in INVOKE: exception 3 at address 0x0000beef"):
        device._request("invoke")
