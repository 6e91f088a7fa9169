"""The serial protocol between the real server, as a process or in an emulator, and the host."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from delay import SIZE, Raw, delay_program, initial, values

from sdk.boards import Board, load_board
from sdk.build import build
from sdk.emit import emit_empty
from sdk.errors import DeviceError, InputError, LinkError, MissingToolError
from sdk.flash import flash
from sdk.flash.native import NativeTransport
from sdk.link.device import Device
from sdk.link.messages import MESSAGES, encode_request
from sdk.ops.control import COPY
from sdk.program import HEADER, Region, seal


@pytest.fixture
def native(line: NativeTransport) -> Iterator[Device]:
    with Device(line, board_id="native") as device:
        yield device


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
