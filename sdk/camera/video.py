"""An annotated video: Motion JPEG in an AVI file, which every player and OpenCV read.

The file is whole after each frame, but for its index, which comes at the end: what was recorded until the power went is
there. OpenCV's own writer leaves no readable file then, says nothing of a full disk and wants the rate beforehand;
other libraries are larger than the rest of the runtime.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

from sdk.camera.sinks import Sink, jpeg
from sdk.camera.watcher import Result
from sdk.errors import OutputError, UsageError

LIMIT_BYTES = 1 << 30  # of one file: players know AVI up to here, and a disk must not fill
INDEXED, KEY_FRAME = 0x10, 0x10
HEADER_BYTES = 224  # up to the first frame
MOVI = HEADER_BYTES - 4  # what the index counts from


class Video(Sink):
    """All frames in `path`, an .avi file, at the rate at which they come on the average. At `limit_bytes` a new file is
    begun; the one before stays as NAME.before.avi. Frames get the size of the first. OutputError, UsageError."""

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        if path.suffix.lower() != ".avi":
            raise UsageError(f"{path} is no .avi file", "Videos are Motion JPEG: name it NAME.avi.")
        self._path, self._limit = path, limit_bytes
        self._size: tuple[int, int] = (0, 0)
        self._file = self._begin()

    def _begin(self) -> BinaryIO:
        self._frames: list[tuple[int, int]] = []  # where each is, and its size
        self._end = HEADER_BYTES
        try:
            return self._path.open("wb", buffering=0)
        except OSError as error:
            raise self._refused(error) from error

    def take(self, result: Result) -> None:
        """See Sink."""
        data = self._sized(jpeg(result))
        try:
            if self._end + len(data) + 24 * len(self._frames) > self._limit and self._frames:
                self.close()
                self._path.replace(self._path.with_suffix(f".before{self._path.suffix}"))
                self._file = self._begin()
            if not self._frames:
                self._since_s = result.frame.taken_s
            self._append(data)
            self._put(0, self._header(result.frame.taken_s - self._since_s))
        except OSError as error:
            raise self._refused(error) from error

    def _append(self, data: bytes) -> None:
        chunk = struct.pack("<4sI", b"00dc", len(data)) + data + bytes(len(data) % 2)
        self._put(self._end, chunk)
        self._frames.append((self._end - MOVI, len(data)))
        self._end += len(chunk)

    def _put(self, place: int, data: bytes) -> None:
        """The whole of it: a disk that is almost full takes a part."""
        self._file.seek(place)
        while data:
            data = data[self._file.write(data) :]

    def _sized(self, data: bytes) -> bytes:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            if not self._size[0]:
                self._size = image.size
            if image.size == self._size:
                return data
            other = io.BytesIO()
            image.resize(self._size).save(other, "JPEG", quality=85)
            return other.getvalue()

    def _header(self, seconds: float) -> bytes:
        """All before the first frame."""
        count, (width, height) = len(self._frames), self._size
        frame_us = int(1e6 * seconds / (count - 1)) if seconds > 0 and count > 1 else 100_000
        largest = max(size for _, size in self._frames)
        main = struct.pack("<14I", frame_us, 0, 0, INDEXED, count, 0, 1, largest, width, height, 0, 0, 0, 0)
        stream = struct.pack(
            "<4s4s3I5I2I4h",
            b"vids",
            b"MJPG",
            0,
            0,
            0,
            frame_us,
            1_000_000,
            0,
            count,
            largest,
            10000,
            0,
            0,
            0,
            width,
            height,
        )
        format_ = struct.pack("<I2i2H4s5I", 40, width, height, 1, 24, b"MJPG", 3 * width * height, 0, 0, 0, 0)
        streams = _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", format_))
        head = _list(b"hdrl", _chunk(b"avih", main) + streams)
        movi = struct.pack("<4sI4s", b"LIST", self._end - MOVI, b"movi")
        return struct.pack("<4sI4s", b"RIFF", self._end - 8, b"AVI ") + head + movi

    def close(self) -> None:
        """Writes the index."""
        if self._file.closed:
            return
        try:
            if self._frames:
                entries = (struct.pack("<4s3I", b"00dc", KEY_FRAME, *frame) for frame in self._frames)
                index = _chunk(b"idx1", b"".join(entries))
                self._put(self._end, index)
                self._put(4, struct.pack("<I", self._end + len(index) - 8))
        except OSError as error:
            raise self._refused(error) from error
        finally:
            self._file.close()

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._path}: {error.strerror}", "Free some space, or choose another file.")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)
