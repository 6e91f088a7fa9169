"""Where results go: the console, JSON lines, annotated JPEG files."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from pathlib import Path
from typing import Protocol, TextIO

from sdk.camera.classifier import Result
from sdk.errors import OutputError
from sdk.files import write_whole

KEPT_JPEGS = 1000  # then the oldest goes: a camera that runs for months must not fill the disk
JPEG_NAME = re.compile(r"\d{8}-\d{6}-\d{6,}\.jpg")  # when, and the number of the frame
RATE_FRAMES = 30


class Sink(Protocol):
    """Takes each result. OutputError if it cannot."""

    def take(self, result: Result) -> None: ...


class Lines:
    """A line for each change of the label, or with `every` for each frame; `as_json`: one JSON object a line, always
    for each frame."""

    def __init__(self, stream: TextIO, *, as_json: bool = False, every: bool = False) -> None:
        self._stream, self._as_json, self._every = stream, as_json, every or as_json
        self._times: deque[float] = deque(maxlen=RATE_FRAMES)

    def take(self, result: Result) -> None:
        """See Sink."""
        self._times.append(time.monotonic())
        if not (self._every or result.changed):
            return
        fps = self._fps()
        if self._as_json:
            line = json.dumps({**result.as_dict(), "fps": round(fps, 2)})
        else:
            top = ", ".join(f"{label} {score:.0%}" for label, score in result.top)
            line = (
                f"{result.label or '-':<20} {top} ({result.latency_ms:.0f} ms, {fps:.1f} fps, {result.dropped} dropped)"
            )
        self._stream.write(line + "\n")
        self._stream.flush()

    def _fps(self) -> float:
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0


class Jpegs:
    """A picture with its label written on it, for each frame or for each change; the last KEPT_JPEGS stay, those of
    earlier runs counted. What else lies in the folder is the user's."""

    def __init__(self, folder: Path, *, every: bool = False, kept: int = KEPT_JPEGS) -> None:
        self._folder, self._every, self._kept = folder, every, kept
        try:
            folder.mkdir(parents=True, exist_ok=True)
            earlier = sorted(path for path in folder.iterdir() if JPEG_NAME.fullmatch(path.name))
        except OSError as error:
            raise OutputError(f"cannot make {folder}: {error.strerror}", "Choose another folder.") from error
        self._paths = deque(earlier)

    def take(self, result: Result) -> None:
        """See Sink."""
        if not (self._every or result.changed):
            return
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{result.number:06}.jpg"
        path = self._folder / name
        try:
            write_whole(path, jpeg(result))
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}", "Free some space.") from error
        self._paths.append(path)
        while len(self._paths) > self._kept:
            self._paths.popleft().unlink(missing_ok=True)


def jpeg(result: Result) -> bytes:
    """The frame as a JPEG, its best classes written on it."""
    import io

    from PIL import Image, ImageDraw

    image = Image.fromarray(result.frame.pixels)
    draw = ImageDraw.Draw(image)
    text = "\n".join(f"{label} {score:.0%}" for label, score in result.top).encode("ascii", "replace").decode()
    box = draw.multiline_textbbox((6, 4), text)
    draw.rectangle((0, 0, box[2] + 6, box[3] + 5), fill=(0, 0, 0))
    draw.multiline_text((6, 4), text, fill=(255, 255, 255))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return data.getvalue()
