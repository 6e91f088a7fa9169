"""Where frames come from: a still, a folder of images, a video file, a V4L2 camera, a Raspberry Pi's own camera.

Every frame is uint8 [height, width, 3] in RGB, whatever the source has inside.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sdk.closing import Closing
from sdk.errors import InputError, LinkError, MissingToolError, UsageError
from sdk.preprocess import eight_bits
from sdk.runtime.tensors import Array

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mjpeg")
STALL_S = 5.0  # a camera that gives nothing for so long is taken to hang
OPEN_S = 15.0  # some cameras take seconds to open
CAMERA_SIZE = (640, 480)  # asked of live cameras: models see less


@dataclass(frozen=True)
class Frame:
    """A picture, when it was taken (time.monotonic), and where it comes from."""

    pixels: Array
    taken_s: float
    name: str


class Source(Protocol):
    """Gives frames, one after the other. `live`: they come at a pace of their own, and the latest is wanted."""

    live: bool

    def read(self) -> Frame | None:
        """The next frame; None at the end. LinkError if the camera is gone, InputError for what is no picture."""

    def close(self) -> None:
        """Gives the camera or file back."""


class Images(Closing):
    """Image files, in the order given."""

    live = False

    def __init__(self, paths: list[Path]) -> None:
        self._paths = iter(paths)

    def read(self) -> Frame | None:
        """See Source."""
        from PIL import Image, ImageOps

        path = next(self._paths, None)
        if path is None:
            return None
        if not path.is_file():
            raise InputError(f"{path} is no image: it is no file", "Take it out of the folder.")  # a pipe never ends
        try:
            with Image.open(path) as image:
                pixels = np.asarray(eight_bits(ImageOps.exif_transpose(image)).convert("RGB"))
        except Exception as error:  # of damaged files Pillow raises anything
            raise InputError(f"{path} is no image: {error}", "Take it out of the folder.") from error
        return Frame(pixels, time.monotonic(), str(path))


class Video(Closing):
    """A video file, or the V4L2 camera with this number, through OpenCV, whose pictures are BGR."""

    def __init__(self, what: Path | int) -> None:
        cv2 = module("cv2", "OpenCV", "python3-opencv")
        self.live = isinstance(what, int)
        self._name = f"/dev/video{what}" if self.live else str(what)
        self._reading = threading.Lock()
        self._capture = (
            in_time(lambda: _camera(cv2, what), self._name) if isinstance(what, int) else cv2.VideoCapture(str(what))
        )
        if not self._capture.isOpened():
            problem = "no camera, or another program uses it" if self.live else "no video that OpenCV can read"
            raise LinkError(f"{self._name} is {problem}", "Check it; `v4l2-ctl --list-devices` lists cameras.")

    def read(self) -> Frame | None:
        """See Source."""
        with self._reading:
            right, pixels = self._capture.read()
        if right:
            return Frame(rgb(pixels, "BGR", self._name), time.monotonic(), self._name)
        if self.live:
            raise LinkError(f"the camera {self._name} gives no more frames", "Plug it in again.")
        return None

    def close(self) -> None:
        """See Source. A camera that hangs in `read` is left to it: OpenCV does not expect it to be released there."""
        give_back(self._capture.release, self._reading, self._name)


class Picamera(Closing):
    """A Raspberry Pi's own camera."""

    live = True

    def __init__(self) -> None:
        picamera2 = module("picamera2", "picamera2", "python3-picamera2")
        self._reading = threading.Lock()
        try:
            self._camera = picamera2.Picamera2()
            # In libcamera's names RGB888 has blue first in memory; what counts is what was agreed on in the end.
            wanted = {"size": CAMERA_SIZE, "format": "RGB888"}
            self._camera.configure(self._camera.create_video_configuration(main=wanted))
            self._format = str(self._camera.camera_configuration()["main"]["format"])
            self._camera.start()
        except (RuntimeError, IndexError) as error:
            raise LinkError(
                f"the camera does not start: {error}", "Check its cable: rpicam-hello --list-cameras"
            ) from error

    def read(self) -> Frame | None:
        """See Source."""
        with self._reading:
            pixels = self._camera.capture_array("main")
        order = {"RGB888": "BGR", "XRGB8888": "BGR", "BGR888": "RGB", "XBGR8888": "RGB"}.get(self._format)
        if self._format == "NV12":
            return Frame(rgb_of_nv12(pixels, "picamera2"), time.monotonic(), "picamera2")
        if order is None:
            raise InputError(f"the camera gives {self._format}, which is no RGB", "Choose another camera.")
        return Frame(rgb(pixels, order, "picamera2"), time.monotonic(), "picamera2")

    def close(self) -> None:
        """See Source. A camera that hangs in `read` is left to it: picamera2 would wait for that frame first."""
        give_back(self._camera.close, self._reading, "picamera2")


def _camera(cv2: Any, number: int) -> Any:
    capture = cv2.VideoCapture(number, cv2.CAP_V4L2)
    if capture.isOpened():
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, CAMERA_SIZE[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, CAMERA_SIZE[1])
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def in_time(opened: Callable[[], Any], name: str, limit_s: float = OPEN_S) -> Any:
    """What `opened` returns. LinkError if it does not: a driver may hang there, in a thread that is left to it."""
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(opened())
        except Exception as error:  # noqa: BLE001 - raised by whoever waits
            done.set_exception(error)

    threading.Thread(target=work, name="open", daemon=True).start()
    wait([done], limit_s)
    if not done.done():
        raise LinkError(f"the camera {name} has not opened in {limit_s:g} s", "Plug it in again.")
    return done.result()


def give_back(release: Callable[[], Any], reading: threading.Lock, name: str, limit_s: float = STALL_S) -> None:
    """Calls `release` when nobody is `reading`. After `limit_s` the camera is left to its driver, which hangs there."""
    if reading.acquire(timeout=limit_s):
        try:
            with contextlib.suppress(LinkError):  # whoever closes has no use for it, and may have a first error
                in_time(release, name, limit_s)
        finally:
            reading.release()


def rgb(pixels: Any, order: str, name: str) -> Array:
    """What a camera gives as uint8 [h, w, 3] in RGB. InputError if it cannot be."""
    array: Array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise InputError(
            f"{name} gives {array.dtype}{list(array.shape)}, and no picture of 8-bit colours", "Choose another format."
        )
    array = array[:, :, :3]
    return np.ascontiguousarray(array[:, :, ::-1] if order == "BGR" else array)


def rgb_of_nv12(pixels: Any, name: str) -> Array:
    """The same of brightness [h, w] above colours [h / 2, w / 2, 2], full range. InputError if it is something else."""
    from PIL import Image

    array: Array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[0] % 3 or array.shape[1] % 2 or 0 in array.shape:
        raise InputError(f"{name} gives {array.dtype}{list(array.shape)}, which is no NV12", "Choose another format.")
    height = array.shape[0] * 2 // 3
    colours = array[height:].reshape(height // 2, -1, 2)
    planes = [array[:height], colours[:, :, 0], colours[:, :, 1]]
    images = [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
    full = [image.resize(images[0].size) for image in images]
    return np.asarray(Image.merge("YCbCr", full).convert("RGB"))


class Latest(Closing):
    """The frames of a live source as they are wanted: the newest each time. Capture goes on meanwhile; `dropped`
    counts what nobody took."""

    def __init__(self, source: Source, stall_s: float = STALL_S) -> None:
        self._source, self._stall_s = source, stall_s
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._capture, name="camera", daemon=True)
        self._thread.start()

    def _capture(self) -> None:
        try:
            while not self._ended:
                frame = self._source.read()
                with self._changed:
                    if frame is None:
                        self._ended = True
                    else:
                        self.dropped += self._frame is not None
                        self._frame = frame
                    self._changed.notify()
        except Exception as error:  # noqa: BLE001 - the thread that takes the frames raises it
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify()

    def read(self) -> Frame | None:
        """The newest frame that was not taken yet, waiting for one; None at the end. Errors as of the source; LinkError
        if nothing comes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame is not None or self._ended, self._stall_s):
                raise LinkError(f"the camera has given nothing for {self._stall_s:g} s", "Plug it in again.")
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        """Ends the capture; the source stays its owner's."""
        self._ended = True
        self._thread.join(self._stall_s)


def open_source(name: str | Path) -> Images | Video | Picamera:
    """The source that `name` means: picamera2; a number or /dev/videoN; a file or a folder. UsageError, LinkError,
    MissingToolError."""
    text, path = str(name), Path(name)
    if text == "picamera2":
        return Picamera()
    number = text.removeprefix("/dev/video")
    if number.isascii() and number.isdecimal() and len(number) < 10:  # OpenCV takes 32 bits
        return Video(int(number))
    if path.is_dir():
        paths = sorted(each for each in path.iterdir() if each.suffix.lower() in IMAGES)
        if not paths:
            raise UsageError(f"no images are in {path}", f"It takes {', '.join(IMAGES)}.")
        return Images(paths)
    if path.is_file() and path.suffix.lower() in IMAGES:
        return Images([path])
    if path.is_file() and path.suffix.lower() in VIDEOS:
        return Video(path)
    raise UsageError(
        f"'{name}' is no source of pictures", "Give picamera2, /dev/video0, an image, a folder or a video."
    )


def module(name: str, what: str, package: str) -> Any:
    """A Python module that not every board has. MissingToolError, which names its Debian package."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingToolError(f"{what} is missing ({error})", f"sudo apt-get install {package}") from error
