"""Frames on a byte stream: a body and its CRC-32, byte-stuffed (COBS) between zero bytes.

    wire = 00 | COBS(body | CRC-32 of body, little-endian) | 00

A zero byte occurs nowhere else, so a receiver that lost its place finds it again at the next frame; the leading zero
closes whatever noise came before. The same code for the device is `firmware/src/frame.c`.

COBS: S. Cheshire, M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7 (2), 1999.
CRC-32: IEEE 802.3, as in zlib.
"""

from __future__ import annotations

import struct
import zlib

from sdk.link.messages import CRC_BYTES, HEADER_BYTES

RUN_MAX = 254  # data bytes that one COBS block can carry
NOISE_BYTES = 256


def encode(body: bytes) -> bytes:
    """The bytes to send for a frame with this body."""
    return b"\0" + cobs_encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def cobs_encode(data: bytes) -> bytes:
    """`data` without zero bytes: blocks of a code (1 + length of the run) and a run that ended at a zero or at 254."""
    out = bytearray()
    position = 0
    while True:
        end = data.find(b"\0", position, position + RUN_MAX)
        if end < 0:
            end = min(position + RUN_MAX, len(data))
        out.append(end - position + 1)
        out += data[position:end]
        if end == len(data):
            return bytes(out)
        position = end if end - position == RUN_MAX else end + 1


def cobs_decode(data: bytes) -> bytes | None:
    """What `cobs_encode` was given, or None if `data` is cut or holds a zero."""
    out = bytearray()
    position = 0
    zero_due = False
    while position < len(data):
        code = data[position]
        run = data[position + 1 : position + code]
        if code == 0 or len(run) != code - 1 or 0 in run:
            return None
        if zero_due:
            out.append(0)
        out += run
        zero_due = code <= RUN_MAX
        position += code
    return bytes(out)


class Decoder:
    """Finds the sound frames in any stream of bytes. Never raises; holds at most one frame of `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Byte stuffing adds at most one byte in 254, and one.
        self._limit = max_bytes + max_bytes // RUN_MAX + 1
        self._pending = bytearray()
        self._overlong = False
        self.damaged = 0
        """Number of frames dropped because they were cut, corrupted or too long."""
        self.noise = bytearray()
        """The end of what came in them: a crashing device says so in plain text."""

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that `data` completes."""
        bodies = []
        *closed, rest = data.split(b"\0")
        for piece in closed:
            self._append(piece)
            body = self._close()
            if body is not None:
                bodies.append(body)
        self._append(rest)
        return bodies

    def _append(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) > self._limit:
            self._overlong = True
            self._pending.clear()
        elif not self._overlong:
            self._pending += piece

    def _close(self) -> bytes | None:
        """The body of the frame that a zero byte has just ended; None if nothing or nothing sound came before it."""
        data = bytes(self._pending)
        empty = not data and not self._overlong
        self._pending.clear()
        self._overlong = False
        if empty:
            return None
        frame = cobs_decode(data)
        if frame is not None and HEADER_BYTES + CRC_BYTES <= len(frame) <= self._max_bytes:
            body, crc = frame[:-CRC_BYTES], frame[-CRC_BYTES:]
            if struct.unpack("<I", crc)[0] == zlib.crc32(body):
                return body
        self.damaged += 1
        self.noise += data
        del self.noise[:-NOISE_BYTES]
        return None
