"""Where results go: the console, JSON lines, annotated JPEG files."""

from __future__ import annotations

import io
import json
import re
import time
import zlib
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sdk.camera.watcher import Box, Result
from sdk.closing import Closing
from sdk.errors import OutputError
from sdk.files import write_whole

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

KEPT_JPEGS = 1000  # then the oldest goes: a camera that runs for months must not fill the disk
JPEG_NAME = re.compile(r"\d{8}-\d{6}-\d{6,}\.jpg")  # when, and the number of the frame
RATE_FRAMES = 30
COLOURS = (
    "#c0392b",
    "#1f6fb2",
    "#1e8449",
    "#8e44ad",
    "#b9770e",
    "#117a65",
    "#a61e6b",
    "#5d6d1e",
)  # dark: white on them


class Sink(Closing):
    """Takes each result. OutputError if it cannot."""

    def take(self, result: Result) -> None:
        """Does with it what the sink is for."""
        raise NotImplementedError


class Lines(Sink):
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
            times = f"({result.latency_ms:.0f} ms, {fps:.1f} fps, {result.dropped} dropped)"
            line = f"{', '.join(result.labels) or '-':<20} {seen(result)} {times}"
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            raise  # whoever reads has left, which is no fault
        except OSError as error:
            raise OutputError(f"cannot write the results: {error.strerror}", "Free some space.") from error

    def _fps(self) -> float:
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0


def seen(result: Result) -> str:
    """A frame's best classes, or its boxes with their corners in pixels, for people."""
    if result.boxes is None:
        return ", ".join(f"{label} {score:.0%}" for label, score in result.top)
    return ", ".join(f"{box.label} {box.score:.0%} {list(pixels(box, result))}" for box in result.boxes)


def pixels(box: Box, result: Result) -> tuple[int, ...]:
    """Left, top, right and bottom of a box, in its frame's pixels."""
    height, width = result.frame.pixels.shape[:2]
    top, left, bottom, right = box.corners
    return tuple(
        int(each) for each in (left * (width - 1), top * (height - 1), right * (width - 1), bottom * (height - 1))
    )


class Jpegs(Sink):
    """An annotated picture when something new is seen, or with `every` of each frame; the last KEPT_JPEGS stay, those
    of earlier runs counted. What else lies in the folder is the user's."""

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
        if not (self._every or (result.changed and result.labels)):
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
    """The frame as a JPEG, its boxes drawn and its best classes written on it."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(result.frame.pixels)
    draw = ImageDraw.Draw(image)
    for box in reversed(result.boxes or ()):  # the best on top
        colour = COLOURS[zlib.crc32(box.label.encode()) % len(COLOURS)]
        x0, y0, x1, y1 = pixels(box, result)
        if x1 >= x0 and y1 >= y0:  # a model may give anything
            draw.rectangle((x0, y0, x1, y1), outline=colour, width=max(2, image.width // 200))
            _write(draw, x0, y0, f"{box.label} {box.score:.0%}", colour)
    if result.boxes is None and result.top:
        _write(draw, 0, 0, "\n".join(f"{label} {score:.0%}" for label, score in result.top), "black")
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return data.getvalue()


def _write(draw: ImageDraw, left: int, top: int, text: str, ground: str) -> None:
    from PIL import ImageFont

    text = text.encode("ascii", "replace").decode()  # all that Pillow's own font has
    try:
        font = ImageFont.load_default(max(10, draw.im.size[1] // 32))
    except TypeError:
        font = ImageFont.load_default()  # Pillow 9, of Debian 12, has it in one size
    _, _, right, bottom = draw.multiline_textbbox((left + 4, top + 2), text, font)
    draw.rectangle((left, top, right + 4, bottom + 3), fill=ground)
    draw.multiline_text((left + 4, top + 2), text, "white", font)
