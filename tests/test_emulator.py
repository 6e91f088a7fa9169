"""Every shipped board that runs on this computer: start-up, counter, serial line, faults, reset, an end without traces.

A firmware of the test's own (tests/c/board.c) takes the server's place, over the same ports and linker script.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from board_line import ask, receive, wake

from sdk.boards import Board, all_boards, load_board
from sdk.build import Image, Source, build_image, firmware_sources
from sdk.cases import RAM_SLACK_BYTES
from sdk.deploy import connected
from sdk.emit import emit_every_kernel
from sdk.errors import LinkError, MissingToolError, ToolError, UsageError
from sdk.flash import choose, connect, flash
from sdk.link.transport import Transport
from sdk.lower import lower
from sdk.ops import registry
from sdk.target import Target

FIRMWARE = Path(__file__).parent / "c" / "board.c"
LOCAL = ("emulator", "native")
BOARDS = [choose(board, way)[0] for board in all_boards() for way in LOCAL if way in board.flashers]
EMULATED = [board for board in BOARDS if board.emulator]

on_each_board = pytest.mark.parametrize("local", BOARDS, ids=lambda board: board.id)
on_each_emulator = pytest.mark.parametrize("local", EMULATED, ids=lambda board: board.id)


def built(board: Board) -> Image:
    """The test's firmware for `board`; the test is skipped without the board's tools."""
    ports = [source for source in firmware_sources(board) if source.folder.startswith("port/")]
    try:
        return build_image(board, [*ports, Source(FIRMWARE, "port/test", shared=False)], {})
    except MissingToolError as error:
        pytest.skip(error.message)


def flashed(board: Board) -> Transport:
    try:
        return flash(board, built(board))
    except MissingToolError as error:
        pytest.skip(error.message)


@pytest.fixture
def line(local: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transport]:
    """The serial line of a board that runs the test's firmware, with a flash of its own."""
    image = built(local)
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    try:
        transport = flash(local, image)
    except MissingToolError as error:
        pytest.skip(error.message)
    wake(transport)
    yield transport
    transport.close()


@on_each_emulator
def test_counter_counts_instructions(local: Board, line: Transport) -> None:
    """At the ratio in the board's file: a loop of two instructions, over more than 24 bits of ticks."""
    short = ask(line, "t", 1000)
    for loops in (1001, 11_000, 1_001_000, 10_001_000):
        instructions = 2 * (loops - 1000)
        ticks = ask(line, "t", loops) - short
        interrupts = 20 * (ticks >> 24) if local.port.name == "stm32f1" else 0  # SysTick has 24 bits
        assert abs(ticks - instructions * local.counter.ticks_per_unit) <= 2 + interrupts
        assert abs(local.counter.units(ticks) - instructions) <= 1 + (2 + interrupts) / local.counter.ticks_per_unit


def test_clock_that_does_not_start(tmp_path: Path) -> None:
    """QEMU has no PLL, as a board may have no crystal: the firmware waits a while and goes on with what there is."""
    manifest = json.loads(load_board("netduinoplus2").path.read_bytes())
    manifest["build"]["f_cpu"] = "168000000L"
    manifest["build"]["extra_flags"] += " -DML_HSE_HZ=25000000u -DML_HSE_BYPASS=0"
    (tmp_path / "fast.json").write_text(json.dumps(manifest))
    line = flashed(load_board(str(tmp_path / "fast.json")))
    wake(line)
    assert ask(line, "v") == 0x12345678
    line.close()


def test_native_counter_runs() -> None:
    line = flashed(load_board("native"))
    assert 0 < ask(line, "t", 1000) < ask(line, "t", 10_000_000)
    line.close()


@on_each_board
def test_memory_functions(local: Board, line: Transport) -> None:
    assert ask(line, "m") == 0
    if local.emulator:
        instructions = [local.counter.units(ask(line, "c", count)) for count in (1024, 2 * 1024)]
        per_burst = 4 if local.compiler.startswith("arm-") else 12  # elsewhere nothing moves more than a word
        assert instructions[1] - instructions[0] <= 1024 * per_burst / 16 + 1


@on_each_board
def test_memory_is_prepared(local: Board, line: Transport) -> None:
    """Variables have their initial values after every reset, the stack its paint, and the pool lies over neither."""
    for _ in range(2):
        assert ask(line, "v") == 0x12345678
        line.reset()
        wake(line)
        unused = ask(line, "s")
        assert local.stack_bytes - (512 if local.emulator else 4096) < unused < local.stack_bytes
        assert ask(line, "p") == 0
        assert ask(line, "s") <= unused  # the pool has not touched it


@on_each_board
def test_coprocessors_are_on(line: Transport) -> None:
    assert ask(line, "2", 21) == 42


@on_each_board
def test_bytes_pass_unchanged(line: Transport) -> None:
    data = bytes(range(256))
    plain = bytes(byte for byte in data if byte not in b"tmcps2vofr")
    line.write(plain)
    assert receive(line, 4 * len(plain)) == b"".join(struct.pack("<I", byte) for byte in plain)
    assert line.read(0.05) == b""


@on_each_board
def test_firmware_resets_itself(line: Transport) -> None:
    ask(line, "v")
    line.write(b"r")
    wake(line)
    assert ask(line, "v") == 0x12345678


@on_each_board
def test_host_resets(line: Transport) -> None:
    """A busy firmware too, and nothing of what it has sent before comes after."""
    ask(line, "v")
    line.write(b"z" * 20 + b"t" + struct.pack("<I", 0xFFFFFFFF))
    time.sleep(0.5)
    line.reset()
    assert line.read(0.05) == b""
    wake(line)
    assert ask(line, "v") == 0x12345678


@on_each_emulator
@pytest.mark.parametrize("command", ["f", "o"])
def test_fault_is_told_and_ends_in_a_restart(line: Transport, command: str) -> None:
    """An instruction that does not exist; a stack that overflows."""
    ask(line, "v")
    line.write(command.encode())
    text = b""
    while not text.endswith(b"\n\0"):
        text += receive(line, 1, 10)
    assert re.match(rb"\0microlith: fault [0-9a-f]{8} at ", text), text
    assert (b"at 00000000" in text) == (command == "o")
    wake(line)
    assert ask(line, "v") == 0x12345678


@pytest.mark.parametrize("command", ["f", "o"])
def test_native_fault_ends_the_process(command: str) -> None:
    line = flashed(load_board("native"))
    line.write(command.encode())
    with pytest.raises(LinkError, match=r"ended: (Segmentation fault|Illegal instruction|Trace/breakpoint trap)"):
        receive(line, 1)
    line.reset()
    assert ask(line, "v") == 0x12345678
    line.close()


@pytest.mark.parametrize("id_", ["microbit", "mps3-an547"])
def test_stack_stays_below_its_bound(id_: str) -> None:
    """With the real server: a case of every fifth operator, uploaded and run."""
    board = load_board(id_)
    try:
        target = connected(board, emit_every_kernel(board.profile))
    except MissingToolError as error:
        pytest.skip(error.message)
    bound = target.image.stack_bound_bytes
    assert bound is not None
    ran = 0
    cases = (itertools.islice(op.cases(), 1) for op in list(registry().ops.values())[::5])
    with target.device as device:
        for case in itertools.chain.from_iterable(cases):
            graph = case.graph
            lowered = lower(graph, Target(profile=board.profile))
            if len(lowered.block) + lowered.program.ram_bytes + RAM_SLACK_BYTES > device.info.pool_bytes:
                continue
            device.load(lowered.block)
            device.run([np.zeros(graph.tensor(i).shape, graph.tensor(i).dtype.numpy) for i in graph.inputs])
            ran += 1
        assert device.stack_used() <= bound <= board.stack_bytes
    assert ran > 3


@on_each_board
def test_flash_keeps_what_was_flashed(local: Board, line: Transport, tmp_path: Path) -> None:
    """A later connection starts the same image; nothing but the board's flash is left in the cache."""
    line.close()
    line.close()
    again = connect(local)
    wake(again)
    assert ask(again, "v") == 0x12345678
    again.close()
    flash = ["flash.elf", "programs.bin"] if "programs" in local.regions else ["flash.elf"]
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert kept == [tmp_path / "boards" / local.id / name for name in flash]


@pytest.mark.parametrize("id_", ["native", "mps2-an386"])
def test_nothing_flashed(id_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    with pytest.raises(LinkError, match=f"flash of {id_} is empty") as error:
        connect(load_board(id_))
    assert f"sdk flash MODEL --board {id_}" in error.value.remedy


@pytest.mark.parametrize("id_", ["native", "mps2-an386"])
def test_process_has_no_port(id_: str) -> None:
    with pytest.raises(UsageError, match="has no port"):
        connect(load_board(id_), port="/dev/ttyUSB0")


@pytest.mark.parametrize("id_", ["native", "mps2-an386"])
def test_killed_device_is_told(id_: str) -> None:
    others = children_of(os.getpid())
    line = flashed(load_board(id_))
    [device] = children_of(os.getpid()) - others
    os.kill(device, signal.SIGKILL)
    with pytest.raises(LinkError, match="has ended: Killed"):
        receive(line, 1, 5)
    with pytest.raises(LinkError, match="has ended: Killed"):
        line.write(b"z")
    line.close()


@on_each_emulator
def test_idle_emulator_takes_no_time(local: Board) -> None:
    """And wakes up as it was."""
    others = children_of(os.getpid())
    line = flashed(local)
    [device] = children_of(os.getpid()) - others
    wake(line)
    ask(line, "v")
    time.sleep(0.5)
    before = cpu_ticks(device)
    time.sleep(0.5)
    assert cpu_ticks(device) == before
    assert ask(line, "v") == (0xDEADBEEF * 2) & 0xFFFFFFFF
    line.close()


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has taken, in ticks of mostly 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_emulator_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    image = built(load_board("mps2-an386"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingToolError, match="qemu-system-arm is missing") as error:
        flash(image.board, image)
    assert "apt-get install" in error.value.remedy


def test_emulator_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    others = children_of(os.getpid())
    good = load_board("mps2-an386")
    text = json.loads(good.path.read_text())
    text["microlith"]["emulator"]["machine"] = "no-such-machine"
    (tmp_path / "odd.json").write_text(json.dumps(text))
    with pytest.raises(ToolError, match="qemu-system-arm does not start: "):
        flash(load_board(str(tmp_path / "odd.json")), built(good))
    assert children_of(os.getpid()) == others


SESSION = """
import sys, time
from sdk.boards import load_board
from sdk.flash import connect
with open("/proc/self/fd/1", "w") as out:
    line = connect(load_board(sys.argv[1]))
    print("up", file=out, flush=True)
    line.read(60)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("id_", ["native", "mps2-an386"])
def test_device_ends_with_its_user(id_: str, end: signal.Signals) -> None:
    """However a command ends: Ctrl-C, a polite kill, a kill."""
    flashed(load_board(id_)).close()
    user = subprocess.Popen([sys.executable, "-c", SESSION, id_], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert user.stdout is not None
    assert user.stdout.readline() == b"up\n"
    [device] = children_of(user.pid)
    user.send_signal(end)
    user.wait(10)
    user.stdout.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{device}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{device}").exists()


def test_closed_device_is_gone() -> None:
    others = children_of(os.getpid())
    for board in BOARDS:
        flashed(board).close()
    assert children_of(os.getpid()) == others


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
