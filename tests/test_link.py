"""The serial protocol between the real server, as a process or in an emulator, and the host."""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import serial
import serial.rfc2217

from sdk.boards import Board, load_board
from sdk.build import Image, build
from sdk.emit import emit_empty
from sdk.errors import DeviceError, InputError, LinkError, MissingToolError
from sdk.flash import flash
from sdk.flash.native import NativeTransport
from sdk.graph import Array, DType
from sdk.link import exchange, frames
from sdk.link.device import Device, StepResult
from sdk.link.messages import MESSAGES, Reply, decode_reply, encode_request
from sdk.link.transport import SerialTransport, Transport
from sdk.ops.control import COPY
from sdk.program import HEADER, Operand, Profile, Program, Region, Step, TensorSpec, seal

SIZE = 3000  # more than a frame


def delay_program(size: int = SIZE, arena_bytes: int | None = None, padding: int = 0) -> bytes:
    """A program whose output is the input of the inference before: one that runs twice by mistake shows it."""

    def spec(name: str, operand: Operand) -> TensorSpec:
        return TensorSpec(name, (2, size // 2), DType.INT8, 0.5, -3, operand)

    aligned = -(-size // 16) * 16
    given, result = Operand(Region.ARENA, 0, size), Operand(Region.ARENA, aligned, size)
    kept = Operand(Region.STATE, 0, size)
    args = COPY.args.pack({"bytes": size})
    return Program(
        profile=Profile.portable,
        arena_bytes=2 * aligned if arena_bytes is None else arena_bytes,
        state_bytes=aligned,
        inputs=(spec("given", given),),
        outputs=(spec("before", result),),
        steps=(Step(COPY.number, args, (kept, result)), Step(COPY.number, args, (given, kept))),
        constants=bytes(padding),
        state_image=b"start",
    ).encode()


def values(seed: int, size: int = SIZE) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, (2, size // 2)).astype(np.int8)


def initial(size: int = SIZE) -> Array:
    state = np.zeros(size, np.int8)
    state[:5] = np.frombuffer(b"start", np.int8)
    return state.reshape(2, size // 2)


@pytest.fixture(scope="module")
def image() -> Image:
    return build(replace(load_board("native"), frame_bytes=512), emit_empty([COPY.name]))


@pytest.fixture
def line(image: Image) -> Iterator[NativeTransport]:
    transport = NativeTransport(image.board, image.elf)
    yield transport
    transport.close()


@pytest.fixture
def native(line: NativeTransport) -> Iterator[Device]:
    with Device(line, board_id="native") as device:
        yield device


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
    """A line without loss that carries some bytes a second to the device and has a long queue before it."""

    def __init__(self, inner: Transport, bytes_per_s: float) -> None:
        super().__init__(inner, 0, 1e-9)
        self._bytes_per_s = bytes_per_s
        self._queue = b""
        self._free_at = 0.0

    def write(self, data: bytes) -> None:
        self._queue += data

    def read(self, timeout_s: float) -> bytes:
        end = time.monotonic() + timeout_s
        while (now := time.monotonic()) < end:
            if self._queue and now >= self._free_at:
                piece, self._queue = self._queue[:16], self._queue[16:]
                self._inner.write(piece)
                self._free_at = max(now, self._free_at) + len(piece) / self._bytes_per_s
            if data := self._inner.read(0.0005):
                return data
        return b""


@pytest.mark.parametrize("assumed", [4e3, 1e6])
def test_a_slow_line_is_not_flooded(line: NativeTransport, monkeypatch: pytest.MonkeyPatch, assumed: float) -> None:
    """Also where it is taken for a fast one at first: 500 bytes take 25 ms, and silence of 5 ms is suspect."""
    monkeypatch.setattr(exchange, "ASSUMED_BYTES_PER_S", assumed)
    with Device(SlowLine(line, 20e3), retry_s=0.005) as device:
        device.load(delay_program(padding=5000))
        assert np.array_equal(device.run([values(1)])[0], initial())
        at_first = device.retries
        for number in range(2, 6):
            assert np.array_equal(device.run([values(number)])[0], values(number - 1))
        assert device.retries - at_first < 5
        assert assumed > 1e5 or at_first < 3


def test_a_line_far_slower_than_it_says_carries_a_program() -> None:
    """A frame as long as the board takes would be under way for longer than the patience with it."""
    image = build(load_board("native"), emit_empty([COPY.name]))
    slow = SlowLine(NativeTransport(image.board, image.elf), 2000)
    with Device(slow, retry_s=0.05, timeout_s=image.board.frame_bytes / 2000 * 0.8) as device:
        device.load(delay_program(padding=5000))
        assert np.array_equal(device.run([values(1)])[0], initial())
        assert device.retries < 5


class Raw:
    """Requests by hand."""

    def __init__(self, line: Transport) -> None:
        self.line = line
        self.decoder = frames.Decoder(4096)
        self.sequence = 100

    def exchange(self, body: bytes) -> bytes:
        """The body that answers a frame with this body."""
        self.line.write(frames.encode(body))
        while True:
            data = self.line.read(5.0)
            assert data, "no answer"
            for reply in self.decoder.feed(data):
                return reply

    def ask(self, name: str, tail: bytes = b"", **words: int) -> Reply:
        self.sequence = self.sequence + 1 & 0xFFFF
        reply = decode_reply(name, self.sequence, self.exchange(encode_request(name, self.sequence, words, tail)))
        assert reply is not None
        return reply

    def load(self, program: bytes, room: int = 400) -> None:
        for at in range(0, len(program), room):
            assert self.ask("load", program[at : at + room], total_bytes=len(program), offset=at).status == 0


def test_a_doubled_request_is_answered_twice_and_done_once(line: NativeTransport) -> None:
    raw = Raw(line)
    raw.ask("hello")
    raw.load(delay_program())
    assert raw.ask("open", source=1, check_crc=1).status == 0
    assert raw.ask("write", b"x" * 400, index=0, offset=0).status == 0
    raw.sequence += 1
    request = encode_request("invoke", raw.sequence, {})
    first = raw.exchange(request)
    assert raw.exchange(request) == first  # the ticks included
    state = raw.ask("read", source=1, index=Region.STATE, offset=0, count=5)
    output = raw.ask("read", source=0, index=0, offset=0, count=5)
    assert (state.tail, output.tail) == (b"xxxxx", b"start")


def test_requests_out_of_sequence_or_before_hello_are_refused(line: NativeTransport) -> None:
    raw = Raw(line)
    session = 3
    assert raw.ask("stack", repaint=0).status == session
    assert raw.ask("hello").status == 0
    assert raw.ask("stack", repaint=0).status == 0
    raw.sequence += 1
    assert raw.ask("stack", repaint=0).status == session
    assert raw.ask("stack", repaint=0).status == session
    assert raw.ask("hello").status == 0
    assert raw.ask("stack", repaint=0).status == 0


EDGES = (0, 1, 2, 3, 4, 15, 16, SIZE - 1, SIZE, SIZE + 1, 65535, 1 << 28, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


# HELLO begins anew and REBOOT rightly ends without an answer.
HARMLESS = [message for message in MESSAGES if message.name not in ("hello", "reboot")]


@pytest.mark.parametrize("seed", range(4))
def test_hostile_requests_get_a_status_and_change_nothing(line: NativeTransport, seed: int) -> None:
    rng = random.Random(seed)
    raw = Raw(line)
    raw.ask("hello")
    for _ in range(40):
        raw.load(delay_program())
        raw.ask("open", source=1, check_crc=1)
        for _ in range(50):
            message = rng.choice(HARMLESS)
            raw.sequence = raw.sequence + 1 & 0xFFFF
            count = rng.choice((len(message.request),) * 6 + (0, 1, 5, 20))
            words = struct.pack(f"<{count}I", *(rng.choice(EDGES) for _ in range(count)))
            kind = message.number if rng.random() < 0.95 else rng.randrange(len(MESSAGES) + 1, 256)
            body = struct.pack("<HBb", raw.sequence, kind, 0) + words + rng.randbytes(rng.choice((0, 0, 1, 300)))
            reply = raw.exchange(body)
            assert struct.unpack_from("<HB", reply) == (raw.sequence, kind | 0x80)
    with Device(line) as device:
        device.load(delay_program())
        assert np.array_equal(device.run([values(1)])[0], initial())


def test_ranges_are_refused_by_name(native: Device) -> None:
    native.load(delay_program())
    arena = 6016
    assert len(native.read_arena(0, arena)) == arena
    for offset, count in ((0, arena + 1), (arena, 1), ((1 << 32) - 1, 2)):
        with pytest.raises(DeviceError, match="READ: an index, offset or count lies outside"):
            native.read_arena(offset, count)
    for region in (Region.NONE, Region.PROGRAM, Region.FAST):
        with pytest.raises(DeviceError, match="READ"):
            native.read_region(region, 0, 1)
    with pytest.raises(InputError, match=r"input 0 'given' is int8\[2, 1500\]; int16\[2, 1500\] was given"):
        native.run([values(0).astype(np.int16)])
    with pytest.raises(InputError, match="takes 1 inputs, 2"):
        native.run([values(0), values(0)])


def _reseal(program: bytes, **changes: int) -> bytes:
    return seal(HEADER.pack(HEADER.unpack(program) | changes) + program[HEADER.size :])


def test_programs_that_cannot_run_are_refused_with_the_reason(native: Device) -> None:
    good = delay_program()
    pool = native.info.pool_bytes
    with pytest.raises(DeviceError, match="no program is open"):
        native.reset_state()
    with pytest.raises(DeviceError, match="there is no such program") as error:
        native.open_resident()
    assert "sdk flash" in error.value.remedy
    damaged = bytearray(good)
    damaged[-1] ^= 1
    with pytest.raises(DeviceError, match="CRC-32 does not match"):
        native.load(bytes(damaged))
    native.load(bytes(damaged), check_crc=False)
    with pytest.raises(DeviceError, match=r"OPEN, step 1: .*needs a kernel"):
        native.load(_with_kernel(good, 1, 999))
    with pytest.raises(DeviceError, match="another format version"):
        native.load(_reseal(good, version=77))
    with pytest.raises(DeviceError, match="shorter than its header says"):
        native.load(good[:100])
    with pytest.raises(DeviceError, match="shorter than its header says"):
        native.load(b"")
    with pytest.raises(DeviceError, match=r"do not fit into the device's pool \(arena"):
        native.load(_reseal(good, arena_bytes=pool - len(good)))
    assert native.opened is None
    native.load(good)
    assert np.array_equal(native.run([values(1)])[0], initial())


def _with_kernel(program: bytes, step: int, number: int) -> bytes:
    at = HEADER.unpack(program)["steps"] + 12 * step
    return seal(program[:at] + struct.pack("<H", number) + program[at + 2 :])


def test_program_and_its_memory_may_meet_but_not_overlap(native: Device) -> None:
    """The pool holds arena, state, and at its end the program: full to the last byte it works, one block more not."""
    good = delay_program()
    room = native.info.pool_bytes - -(-len(good) // 16) * 16 - 3008
    assert native.load(_reseal(good, arena_bytes=room)).arena_bytes == room
    assert np.array_equal(native.run([values(1)])[0], initial())
    with pytest.raises(DeviceError, match="do not fit"):
        native.load(_reseal(good, arena_bytes=room + 1))


def test_incomplete_or_disordered_uploads_are_not_opened(line: NativeTransport) -> None:
    raw = Raw(line)
    raw.ask("hello")
    range_, missing, memory = 4, 6, 7
    assert raw.ask("load", b"x" * 100, total_bytes=300, offset=0).status == 0
    assert raw.ask("load", b"x" * 100, total_bytes=300, offset=200).status == range_
    assert raw.ask("load", b"x" * 100, total_bytes=400, offset=100).status == range_
    assert raw.ask("load", b"x" * 300, total_bytes=300, offset=100).status == range_
    assert raw.ask("open", source=1, check_crc=1).status == missing
    assert raw.ask("load", b"", total_bytes=(1 << 32) - 1, offset=0).status == memory
    assert raw.ask("open", source=1, check_crc=1).status == missing


def test_a_restart_behind_the_hosts_back_is_told(line: NativeTransport) -> None:
    device = Device(line)
    device.load(delay_program())
    line.reset()
    with pytest.raises(LinkError, match="has restarted by itself before WRITE"):
        device.run([values(0)])


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


def test_measure_gives_every_cost(native: Device) -> None:
    native.load(delay_program())
    cost = native.measure([values(0)])
    assert native.info.counter_runs
    assert len(cost.step_ticks) == 2
    assert cost.open_crc_ticks > cost.open_ticks > 0
    assert sum(cost.step_ticks) > 0
    assert 0 < cost.stack_bytes < native.info.stack_bytes
    assert (cost.arena_bytes, cost.state_bytes, cost.fast_bytes) == (6016, 3008, 0)
    assert np.array_equal(native.run([values(1)])[0], initial())


# Ports


@contextmanager
def process_on(image: Image, descriptor: int) -> Iterator[None]:
    with subprocess.Popen([image.elf], stdin=descriptor, stdout=descriptor) as process:
        try:
            yield
        finally:
            process.kill()


def check_delay(transport: Transport) -> None:
    with Device(transport) as device:
        device.load(delay_program())
        assert np.array_equal(device.run([values(1)])[0], initial())
        assert np.array_equal(device.run([values(2)])[0], values(1))


def test_a_serial_port(image: Image) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with process_on(image, master):
            check_delay(SerialTransport(os.ttyname(slave)))
            taken = SerialTransport(os.ttyname(slave))
            with pytest.raises(LinkError, match="another program uses"):
                SerialTransport(os.ttyname(slave))
            with pytest.raises(LinkError, match="has no reset line"):
                taken.reset()
            taken.close()
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP port on which `serve` gets the first connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def serve_process(image: Image) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        subprocess.run([image.elf], stdin=connection, stdout=connection, check=False)

    return serve


def test_a_socket(image: Image) -> None:
    with listening(serve_process(image)) as port:
        check_delay(SerialTransport(f"socket://127.0.0.1:{port}"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyserial uses setDaemon
def test_rfc2217(image: Image) -> None:
    """Telnet doubles every byte 255 on the way: a network serial server must not disturb binary frames."""

    def serve(connection: socket.socket) -> None:
        here, there = socket.socketpair()
        settings = serial.serial_for_url("loop://")
        with (
            here,
            there,
            settings,
            connection.makefile("wb", buffering=0) as replies,
            process_on(image, there.fileno()),
        ):
            manager = serial.rfc2217.PortManager(settings, replies)

            def back() -> None:
                with suppress(OSError):
                    while data := here.recv(4096):
                        connection.sendall(b"".join(manager.escape(data)))

            thread = threading.Thread(target=back)
            thread.start()
            while data := connection.recv(4096):
                here.sendall(b"".join(manager.filter(data)))
            here.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    with listening(serve) as port:
        check_delay(SerialTransport(f"rfc2217://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/dev/there-is-no-such-port", "there is no port"),
        ("gopher://x", "is not a serial port"),
        ("socket://127.0.0.1:1", "cannot connect"),
    ],
)
def test_ports_that_do_not_open_are_told_with_a_remedy(url: str, message: str) -> None:
    with pytest.raises(LinkError, match=message) as error:
        SerialTransport(url)
    assert error.value.remedy


# Every board


def test_a_board_keeps_the_protocol(board: Board, device: Device) -> None:
    """Uploads, exact results, state, ranges, reboot: what holds for the process holds on the board."""
    size = 600
    program = delay_program(size)
    assert (device.info.board_id, device.info.profile) == (board.id, board.profile)
    assert device.info.stack_bytes == board.stack_bytes
    device.load(program)
    assert np.array_equal(device.run([values(1, size)])[0], initial(size))
    assert np.array_equal(device.run([values(2, size)])[0], values(1, size))
    with pytest.raises(DeviceError, match="outside"):
        device.read_arena(device.opened.arena_bytes if device.opened else 0, 1)
    device.reboot()
    with pytest.raises(DeviceError, match="no program is open"):
        device.reset_state()
    device.load(program)
    cost = device.measure()
    assert device.info.counter_runs
    assert max(cost.step_ticks) > 0
    if board.counter.unit == "instructions":  # times are different each time
        assert max(cost.step_ticks) < cost.invoke_ticks
    assert 0 < cost.stack_bytes < board.stack_bytes


@pytest.fixture(scope="module", params=["mps2-an386", "riscv32-virt"])
def emulated(request: pytest.FixtureRequest) -> Board:
    return load_board(request.param)


def run_with_stack(board: Board, stack_bytes: int) -> int:
    """Stack used by an inference on `board` with a stack of this size."""
    other = replace(board, stack_bytes=stack_bytes)
    try:
        transport = flash(other, build(other, emit_empty([COPY.name])))
    except MissingToolError as error:
        pytest.skip(error.message)
    with Device(transport) as device:
        device.load(delay_program(600))
        device.run([values(1, 600)])
        return device.stack_used()


def test_a_stack_overflow_is_an_error(emulated: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stack is too small by a little or by a lot, the device says so instead of giving numbers."""
    monkeypatch.setattr(sys.modules["sdk.build"], "_check_stack", lambda _: None)  # the host foresees it
    used = run_with_stack(emulated, emulated.stack_bytes)
    just_gone = -(-used // 16) * 16
    with pytest.raises(DeviceError, match="INVOKE: the stack has overflowed") as error:
        run_with_stack(emulated, just_gone)
    assert "stack_bytes" in error.value.remedy
    with pytest.raises(DeviceError, match="the device crashed in OPEN: its stack has overflowed"):
        run_with_stack(emulated, just_gone - 32)
