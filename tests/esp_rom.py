"""A serial boot loader as chips of the ESP32 family have it in ROM, on a pseudo-terminal, with a flash behind it.

Written from Espressif's description of the protocol ("Serial Protocol" in esptool's documentation): frames in SLIP; a
request is a byte 0, its number, the length of its data, a checksum, the data; an answer a byte 1, the same number, a
length, a value, the data and a status.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import struct
import threading
import tty
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

FLASH_BYTES = 4 << 20
FLASH_ID = 0x1640C8  # of 4 MB
RDID = 0x9F
OK, INVALID_MESSAGE, REFUSED, INVALID_CRC = b"\0\0", b"\1\5", b"\1\6", b"\1\7"


@dataclass(frozen=True)
class Chip:
    """What esptool asks of a chip to know it."""

    registers: dict[int, int]  # with values of their own
    spi: int  # base of the controller of the flash
    offsets: tuple[int, int, int]  # of its command, second user register and first data word
    chip_id: int | None = None  # None: the ROM does not know of security


CHIPS = {
    # The magic number, a clock divider that tells the crystal's frequency, and the date of revision 3.
    "esp32": Chip({0x40001000: 0x00F01D83, 0x3FF40014: 347}, 0x3FF42000, (0, 0x24, 0x80)),
    "esp32s3": Chip({0x60000014: 347}, 0x60002000, (0, 0x20, 0x58), 9),
    "esp32c3": Chip({0x60000014: 347}, 0x60002000, (0, 0x20, 0x58), 5),
}


@dataclass
class Rom:
    """A chip in download mode. `stub`: whether it takes code into its RAM. `damage` may change what comes,
    block by block: it gets the number of the block and its frame, and returns the frame; None unplugs the cable."""

    chip: str = "esp32"
    stub: bool = True
    security_flags: int = 0
    encryptions: int = 0  # how often its flash was encrypted; an odd number: it is
    registers: dict[int, int] = field(default_factory=dict)  # beside those of the chip
    damage: Callable[[int, bytes], bytes | None] = lambda _block, frame: frame
    flash: bytearray = field(default_factory=lambda: bytearray(b"\x55" * FLASH_BYTES))
    commands: list[int] = field(default_factory=list)  # numbers of the requests that came
    port: str = ""

    def __post_init__(self) -> None:
        self._about = CHIPS[self.chip]
        self._registers = {**self._about.registers, **self.registers}
        self._in_stub = False
        self._blocks = 0
        self._ended = threading.Event()

    @contextlib.contextmanager
    def plugged(self) -> Iterator[Rom]:
        """Runs it on a pseudo-terminal of its own."""
        self._line, self._far = os.openpty()
        tty.setraw(self._far)
        self.port = os.ttyname(self._far)
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            self._unplug()
            os.close(self._far)

    def _unplug(self) -> None:
        """The device goes away. Its far end stays open until the test ends: no other one gets the number before."""
        if self._line >= 0:
            os.close(self._line)
            self._line = -1

    def _run(self) -> None:
        received = b""
        while not self._ended.is_set():
            if not select.select([self._line], [], [], 0.05)[0]:
                continue
            received += os.read(self._line, 65536)
            *frames, received = received.split(b"\xc0")
            for frame in frames:
                packet = self._damaged(frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb"))
                if packet is None:
                    self._unplug()
                    return
                if packet:
                    self._answer(packet)

    def _damaged(self, packet: bytes) -> bytes | None:
        if len(packet) < 2 or packet[1] not in (0x03, 0x11):
            return packet
        self._blocks += 1
        return self.damage(self._blocks, packet)

    def _answer(self, packet: bytes) -> None:
        if len(packet) < 8 or packet[0] != 0:
            return
        _, number, count, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        self.commands.append(number)
        if len(data) != count:
            self._send(number, INVALID_MESSAGE)
        elif number in (0x03, 0x07, 0x11) and checksum != self._checksum(data[16:]):
            self._send(number, INVALID_CRC)
        else:
            handler = getattr(self, f"_on_{number:02x}", None)
            if handler is None or (number == 0x14 and self._about.chip_id is None):
                self._send(number, INVALID_MESSAGE)
            else:
                handler(number, data)

    @staticmethod
    def _checksum(data: bytes) -> int:
        value = 0xEF
        for byte in data:
            value ^= byte
        return value

    def _send(self, number: int, status: bytes = OK, data: bytes = b"", value: int = 0) -> None:
        reserved = b"" if self._in_stub else b"\0\0"
        body = data + status + reserved
        self._frame(struct.pack("<BBHI", 1, number, len(body), value) + body)

    def _frame(self, packet: bytes) -> None:
        os.write(self._line, b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    def _on_08(self, number: int, _data: bytes) -> None:  # SYNC
        self._in_stub = False  # esptool begins with a reset
        for _ in range(8):
            self._send(number, value=0x20120707)

    def _on_09(self, number: int, data: bytes) -> None:  # WRITE_REG
        for address, value, _mask, _delay in struct.iter_unpack("<IIII", data[: len(data) // 16 * 16]):
            self._registers[address] = value
        self._send(number)

    def _on_0a(self, number: int, data: bytes) -> None:  # READ_REG
        address = struct.unpack("<I", data)[0]
        command, user, word = (self._about.spi + offset for offset in self._about.offsets)
        value = self._registers.get(address, 0)
        if address == command:
            value = 0  # done
        elif address == word and self._registers.get(user, 0) & 0xFF == RDID:
            value = FLASH_ID
        self._send(number, value=value)

    def _on_14(self, number: int, _data: bytes) -> None:  # GET_SECURITY_INFO
        self._send(number, data=struct.pack("<IB7xII", self.security_flags, self.encryptions, self._about.chip_id, 0))

    def _on_05(self, number: int, _data: bytes) -> None:  # MEM_BEGIN
        self._send(number, OK if self.stub else REFUSED)

    def _on_06(self, number: int, _data: bytes) -> None:  # MEM_END: starts what was loaded
        self._send(number)
        self._in_stub = True
        self._frame(b"OHAI")

    def _on_07(self, number: int, _data: bytes) -> None:  # MEM_DATA
        self._send(number)

    _on_0b = _on_0d = _on_0f = _on_07  # SPI_SET_PARAMS, SPI_ATTACH, CHANGE_BAUDRATE

    def _on_02(self, number: int, data: bytes) -> None:  # FLASH_BEGIN
        count, _blocks, self._block_bytes, self._offset = struct.unpack_from("<IIII", data)
        count = (count + 4095) & ~4095
        self.flash[self._offset : self._offset + count] = b"\xff" * count
        self._inflate = None
        self._send(number)

    def _on_10(self, number: int, data: bytes) -> None:  # FLASH_DEFL_BEGIN
        self._on_02(number, data)
        self._inflate = zlib.decompressobj()
        self._sequence = -1

    def _on_03(self, number: int, data: bytes) -> None:  # FLASH_DATA
        sequence = struct.unpack_from("<I", data, 4)[0]
        self._write(self._offset + sequence * self._block_bytes, data[16:])
        self._send(number)

    def _on_11(self, number: int, data: bytes) -> None:  # FLASH_DEFL_DATA
        sequence = struct.unpack_from("<I", data, 4)[0]
        if sequence != self._sequence:  # one that comes twice is done once
            self._sequence = sequence
            plain = self._inflate.decompress(data[16:])
            self._write(self._offset, plain)
            self._offset += len(plain)
        self._send(number)

    def _write(self, offset: int, data: bytes) -> None:
        """Flash goes from 1 to 0 alone."""
        old = self.flash[offset : offset + len(data)]
        self.flash[offset : offset + len(data)] = bytes(a & b for a, b in zip(old, data, strict=True))

    def _on_04(self, number: int, _data: bytes) -> None:  # FLASH_END
        self._send(number)

    _on_12 = _on_04  # FLASH_DEFL_END

    def _on_13(self, number: int, data: bytes) -> None:  # SPI_FLASH_MD5
        offset, count = struct.unpack_from("<II", data)
        digest = hashlib.md5(self.flash[offset : offset + count])
        self._send(number, data=digest.digest() if self._in_stub else digest.hexdigest().encode())
