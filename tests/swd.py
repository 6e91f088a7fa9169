"""A debug probe for pyOCD whose chip is emulated: QEMU's machine `microbit`, which has a flash controller.

What a probe does by SWD goes to QEMU's debugger port: memory and core registers. The core's debug registers, which QEMU
has not, are made of what that port can do. Flash algorithms run on the emulated core.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pyocd.core.memory_interface import MemoryInterface
from pyocd.probe.debug_probe import DebugProbe

BLOCK_BYTES = 1024  # in a packet of the debugger port
BREAKPOINT = b"\x00\xbe"

# Core debug registers (ARMv6-M, C1.6) and their bits.
AIRCR, DHCSR, DCRSR, DCRDR, DEMCR = 0xE000ED0C, 0xE000EDF0, 0xE000EDF4, 0xE000EDF8, 0xE000EDFC
C_DEBUGEN, C_HALT, C_STEP, S_REGRDY, S_HALT = 1, 2, 4, 1 << 16, 1 << 17
VC_CORERESET, SYSRESETREQ = 1, 4
XPSR, MAIN_SP = 16, 17
# What a debugger finds the core by: the ROM table with its one entry, and the identification of both.
TABLE = {
    **dict(zip(range(0xE00FFFE0, 0xE00FFFF0, 4), (0x71, 0xB4, 0x0B, 0x00), strict=True)),
    **dict(zip(range(0xE00FFFF0, 0xE0100000, 4), (0x0D, 0x10, 0x05, 0xB1), strict=True)),
    **dict(zip(range(0xE000EFE0, 0xE000EFF0, 4), (0x08, 0xB0, 0x0B, 0x00), strict=True)),
    **dict(zip(range(0xE000EFF0, 0xE000F000, 4), (0x0D, 0xE0, 0x05, 0xB1), strict=True)),
    0xE00FF000: 0xFFF0F003,
    0xE00FF004: 0,
    0xE00FFFD0: 4,
    0xE000EFD0: 4,
}
ACCESS_PORT = {0x00: 0x43000040, 0xF8: 0xE00FF003, 0xFC: 0x04770021}  # enabled; where the table is; a Cortex-M0's


class Machine:
    """The emulated chip, with empty flash. `serial` is the URL of its serial line."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            number = free.getsockname()[1]
        self.serial = f"socket://127.0.0.1:{number}"
        self._debugger = folder / "gdb"
        command = ["qemu-system-arm", "-M", "microbit", "-display", "none", "-nodefaults", "-S", "-monitor", "stdio"]
        command += ["-chardev", f"socket,id=s,host=127.0.0.1,port={number},server=on,wait=off", "-serial", "chardev:s"]
        command += ["-chardev", f"socket,id=g,path={self._debugger},server=on,wait=off", "-gdb", "chardev:g"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._poking = threading.Thread(target=self._poke, daemon=True)
        self._poking.start()
        deadline = time.monotonic() + 20
        while not self._debugger.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _poke(self) -> None:
        """Makes QEMU look at its serial line, which it forgets to do."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            while self._process.poll() is None:
                self._process.stdin.write(b"\n")
                self._process.stdin.flush()
                time.sleep(0.02)

    def debugger(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(self._debugger))
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._poking.join()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()


class Debugger:
    """QEMU's debugger port: the remote serial protocol of gdb."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._received, self.running = line, b"", False
        self.ask("?")
        while self._answer(0.2) is not None:  # a chip that ran says once more that it has stopped
            pass
        self.ask("qXfer:features:read:target.xml:0,fff")  # only then it understands requests for one register

    def _send(self, text: str) -> None:
        self._line.sendall(f"${text}#{sum(text.encode()) & 0xFF:02x}".encode())

    def _answer(self, timeout_s: float) -> str | None:
        deadline = time.monotonic() + timeout_s
        while (end := self._received.find(b"#")) < 0 or len(self._received) < end + 3:
            if not select.select([self._line], [], [], max(deadline - time.monotonic(), 0))[0]:
                return None
            data = self._line.recv(65536)
            if not data:
                raise ConnectionError("QEMU has ended")
            self._received += data
        packet, self._received = self._received[:end], self._received[end + 3 :]
        with contextlib.suppress(OSError):  # it hangs up behind its last word
            self._line.sendall(b"+")
        return packet.partition(b"$")[2].decode()

    def ask(self, text: str) -> str:
        self._send(text)
        while (answer := self._answer(20)) is not None:
            if not answer.startswith("O") or answer == "OK":  # "O...": output of a monitor command
                return answer
        raise TimeoutError(text)

    def go(self, how: str = "c") -> None:
        self._send(how)
        self.running = True

    def halt(self) -> None:
        if self.is_running():
            self._line.sendall(b"\x03")
            self.running = self._answer(20) is None

    def _memory(self, text: str) -> str:
        """Asks for memory, which a probe may do while the core runs: it stands still for that time here."""
        if not self.is_running():
            return self.ask(text)
        self._line.sendall(b"\x03")
        stopped = self._answer(20) or ""
        answer = self.ask(text)
        self.running = False
        if stopped.startswith("T02"):  # by that, not by a breakpoint just then
            self.go()
        return answer

    def is_running(self) -> bool:
        if self.running and self._answer(0) is not None:
            self.running = False
        return self.running

    def register(self, number: int, value: int | None = None) -> int:
        name = f"{25 if number == XPSR else 13 if number == MAIN_SP else number:x}"
        if value is not None:
            self.ask(f"P{name}={value.to_bytes(4, 'little').hex()}")
            return value
        return int.from_bytes(bytes.fromhex(self.ask(f"p{name}")), "little")

    def read(self, address: int, count: int) -> bytes:
        parts = range(address, address + count, BLOCK_BYTES)
        return b"".join(
            bytes.fromhex(self._memory(f"m{at:x},{min(BLOCK_BYTES, address + count - at):x}")) for at in parts
        )

    def write(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            part = data[at : at + BLOCK_BYTES]
            assert self._memory(f"M{address + at:x},{len(part):x}:{part.hex()}") == "OK"


class Memory(MemoryInterface):  # type: ignore[misc]
    """The chip's address space as a probe sees it."""

    def __init__(self, debugger: Debugger) -> None:
        self.debugger = debugger
        self._transfer = self._catch = 0

    def read_memory(self, addr: int, transfer_size: int = 32, now: bool = True, **_: Any) -> Any:
        value = self._read(addr, transfer_size // 8)
        return value if now else lambda: value

    def write_memory(self, addr: int, data: int, transfer_size: int = 32, **_: Any) -> None:
        special = {DHCSR: self._control, DCRSR: self._move, DCRDR: self._keep, DEMCR: self._vectors, AIRCR: self._reset}
        if addr in special:
            special[addr](data)
        else:
            self.debugger.write(addr, data.to_bytes(transfer_size // 8, "little"))

    def read_memory_block32(self, addr: int, size: int, **_: Any) -> list[int]:
        if addr >= 0xE0000000:
            return [self._read(addr + 4 * i, 4) for i in range(size)]
        data = self.debugger.read(addr, 4 * size)
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]

    def write_memory_block32(self, addr: int, data: Sequence[int], **_: Any) -> None:
        self.debugger.write(addr, b"".join(word.to_bytes(4, "little") for word in data))

    def read_memory_block8(self, addr: int, size: int, **_: Any) -> list[int]:
        return list(self.debugger.read(addr, size))

    def write_memory_block8(self, addr: int, data: Sequence[int], **_: Any) -> None:
        self.debugger.write(addr, bytes(data))

    def _read(self, address: int, count: int) -> int:
        if address == DHCSR:
            return C_DEBUGEN | S_REGRDY | (0 if self.debugger.is_running() else C_HALT | S_HALT)
        if address == DCRDR:
            return self._transfer
        if address == DEMCR:
            return self._catch
        if address in TABLE or (address >= 0xE0001000 and address < 0xE000E000) or address >= 0xE000F000:
            return TABLE.get(address, 0)
        return int.from_bytes(self.debugger.read(address, count), "little")

    def _control(self, value: int) -> None:
        if value & C_DEBUGEN and value & C_HALT:
            self.debugger.halt()
        elif not self.debugger.is_running():
            self._stop_where_it_returns()
            self.debugger.go("s" if value & C_STEP else "c")

    def _stop_where_it_returns(self) -> None:
        """A flash algorithm returns to a breakpoint instruction, which stops a chip, but not QEMU."""
        address = self.debugger.register(14) & ~1
        if address >> 28 == 2 and self.debugger.read(address, 2) == BREAKPOINT:
            self.debugger.ask(f"Z1,{address:x},2")

    def _move(self, value: int) -> None:
        number = value & 0x7F
        if number <= MAIN_SP:
            self._transfer = self.debugger.register(number, self._transfer if value >> 16 & 1 else None)
        elif not value >> 16 & 1:
            self._transfer = 0

    def _keep(self, value: int) -> None:
        self._transfer = value

    def _vectors(self, value: int) -> None:
        self._catch = value

    def _reset(self, value: int) -> None:
        if value & SYSRESETREQ:
            self.debugger.halt()
            self.debugger.ask(f"qRcmd,{b'system_reset'.hex()}")
            time.sleep(0.1)  # its main loop does it
            if not self._catch & VC_CORERESET:
                self.debugger.go()


class EmulatedProbe(DebugProbe):  # type: ignore[misc]
    """Registered in pyocd.probe.aggregator.PROBE_CLASSES, pyOCD finds `machines` as it finds probes on USB."""

    machines: ClassVar[dict[str, Machine]] = {}

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._open, self._control = name, False, 0

    @classmethod
    def get_all_connected_probes(cls, *_: object) -> list[EmulatedProbe]:
        return [cls(name) for name in cls.machines]

    @classmethod
    def get_probe_with_id(cls, unique_id: str, *_: object) -> EmulatedProbe | None:
        return cls(unique_id) if unique_id in cls.machines else None

    vendor_name = property(lambda _: "QEMU")
    product_name = property(lambda _: "emulated probe")
    description = property(lambda _: "emulated probe")
    unique_id = property(lambda self: self._name)
    supported_wire_protocols = property(lambda _: [DebugProbe.Protocol.DEFAULT, DebugProbe.Protocol.SWD])
    wire_protocol = property(lambda _: DebugProbe.Protocol.SWD)
    is_open = property(lambda self: self._open)
    capabilities = property(
        lambda _: {
            DebugProbe.Capability.MANAGED_AP_SELECTION,
            DebugProbe.Capability.MANAGED_DPBANKSEL,
            DebugProbe.Capability.BANKED_DP_REGISTERS,
        }
    )

    def open(self) -> None:
        self._line = self.machines[self._name].debugger()
        self._memory = Memory(Debugger(self._line))
        self._open = True

    def close(self) -> None:
        if self._open:
            debugger = self._memory.debugger
            with contextlib.suppress(OSError):  # QEMU ends where a chip with empty flash would lock up
                debugger.halt()
                debugger.ask("D")  # and the machine runs
            self._line.close()
            self._open = False

    def connect(self, protocol: object = None) -> None: ...

    def disconnect(self) -> None: ...

    def set_clock(self, frequency: float) -> None: ...

    def flush(self) -> None: ...

    def read_dp(self, addr: int, now: bool = True) -> Any:
        value = {0: 0x0BB11477, 4: self._control | (self._control & 0x50000000) << 1}.get(addr, 0)
        return value if now else lambda: value

    def write_dp(self, addr: int, data: int) -> None:
        if addr == 4:
            self._control = data

    def read_ap(self, addr: int, now: bool = True) -> Any:
        value = ACCESS_PORT.get(addr & 0xFF, 0) if addr >> 24 == 0 else 0
        return value if now else lambda: value

    def write_ap(self, addr: int, data: int) -> None: ...

    def get_memory_interface_for_ap(self, _ap_address: object) -> Memory:
        return self._memory


@contextlib.contextmanager
def emulated_probes(folder: Path, names: Sequence[str]) -> Iterator[list[Machine]]:
    """Machines behind probes with these serial numbers; pyOCD sees no others meanwhile."""
    from pyocd.probe import aggregator

    before = dict(aggregator.PROBE_CLASSES)
    aggregator.PROBE_CLASSES.clear()
    aggregator.PROBE_CLASSES["emulated"] = EmulatedProbe
    ended: list[Callable[[], None]] = []
    try:
        for name in names:
            (folder / name).mkdir()
            EmulatedProbe.machines[name] = machine = Machine(folder / name)
            ended.append(machine.end)
        yield list(EmulatedProbe.machines.values())
    finally:
        EmulatedProbe.machines.clear()
        aggregator.PROBE_CLASSES.clear()
        aggregator.PROBE_CLASSES.update(before)
        for end in ended:
            end()
