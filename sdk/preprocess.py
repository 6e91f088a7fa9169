"""How what a camera or a microphone (`sdk.sound`) gives becomes a model's input: declared once, kept in the model file.

    declared = Preprocessing(Picture(96, 96, 1, mean=(127.5,), std=(127.5,)), labels=("no person", "person"))
    model = attach(model, declared)              # into the bytes of a .tflite file, as JSON in one metadata entry
    declared = attached(model)                   # out of them again; None if nothing is declared
    real = declared.picture.apply(pixels)        # uint8 [h, w, 3] RGB of any size -> float32 [96, 96, 1]
    real = declared.sound.apply(samples, 44100)  # int16 [n] or [n, channels] -> float32 [windows, 16000] or features

What `apply` gives are real values: what a float model takes as it is, and `sdk.inputs.stored(real, spec)` quantizes for
an int8 or uint8 input. Whoever can only scale (the generated C, a camera that resizes by itself) finds in `mean`, `std`
and `scale` all that is to be done after resizing: real = (pixel - mean) / std, real = sample / scale.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sdk.errors import InputError, ModelError, UsageError
from sdk.sound import Features, Sound, need, wrong

ENTRY = "microlith"  # the name of the metadata entry
VERSION = 1
MAX_SIZE = 1 << 14
FITS = ("stretch", "crop", "pad")
ORDERS = ("RGB", "BGR")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A picture of `height` x `width` with 1 (gray), 3 or 4 channels in `order`.

    `fit`: what becomes of another shape: it is stretched; its middle is cut out ("crop"); or black borders are added
    ("pad"). `mean` and `std`, one for all channels or one each, of pixels from 0 to 255: real = (pixel - mean) / std.
    """

    height: int
    width: int
    channels: int
    fit: str = "stretch"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    order: str = "RGB"

    def __post_init__(self) -> None:
        need(all(1 <= size <= MAX_SIZE for size in (self.height, self.width)), "height and width", f"1 to {MAX_SIZE}")
        need(self.channels in (1, 3, 4), "channels", "1, 3 or 4")
        need(self.fit in FITS, "fit", ", ".join(FITS))
        need(self.order in ORDERS, "order", ", ".join(ORDERS))
        lengths = (1, self.channels)
        need(len(self.mean) in lengths and all(map(math.isfinite, self.mean)), "mean", "one number, or one a channel")
        positive = all(math.isfinite(value) and value > 0 for value in self.std)
        need(len(self.std) in lengths and positive, "std", "one number above 0, or one a channel")

    def apply(self, pixels: Array) -> Array:
        """float32 [height, width, channels] of uint8 [h, w], [h, w, 1], [h, w, 3] RGB or [h, w, 4] RGBA."""
        return self.normalized(self.sized(pixels))

    def sized(self, pixels: Array) -> Array:
        """uint8 [height, width, channels]: the right size and channels, in `order`, not yet normalized."""
        from PIL import Image

        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise InputError(f"a picture is uint8 [height, width, channels], not {pixels.dtype}{list(pixels.shape)}")
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        return self.of_image(picture)

    def of_image(self, picture: Any) -> Array:
        """`sized` of a PIL image, upright already."""
        from PIL import Image, ImageOps

        picture = eight_bits(picture)
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[self.channels]
        picture = picture if picture.mode == mode else picture.convert(mode)  # which copies in any case
        size, method = (self.width, self.height), Image.Resampling.BILINEAR
        if self.fit == "crop":
            picture = ImageOps.fit(picture, size, method)
        elif self.fit == "pad":
            picture = ImageOps.pad(picture, size, method, color=0 if self.channels == 1 else (0,) * self.channels)
        else:
            picture = picture.resize(size, method)
        result = np.asarray(picture, np.uint8).reshape(self.height, self.width, self.channels)
        if self.order == "BGR" and self.channels > 1:
            result = result[:, :, [2, 1, 0, *range(3, self.channels)]]
        return np.ascontiguousarray(result)

    def normalized(self, pixels: Array) -> Array:
        """float32 of uint8 pixels that have the right size and order already."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        result: Array = ((pixels.astype(np.float64) - mean) / std).astype(np.float32)
        return result


@dataclass(frozen=True)
class Preprocessing:
    """What a model's one input comes from, and what its classes are called. Nothing of it need be declared."""

    picture: Picture | None = None
    sound: Sound | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        need(self.picture is None or self.sound is None, "the input", "a picture or a sound, not both")

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        given = {key: value for key, value in asdict(self).items() if value}
        return json.dumps({"version": VERSION, **given}, indent=1, ensure_ascii=False)


def eight_bits(picture: Any) -> Any:
    """A PIL image of 16 bits a pixel, which Pillow would clip, with the upper 8 of them; others as they are."""
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))


def from_json(text: str | bytes) -> Preprocessing:
    """The declaration in a JSON text: {"version": 1, "picture": {"height": 96, ...}, "labels": [...]}. UsageError,
    saying what it must be, where a field is missing, unknown or out of range."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the preprocessing is no JSON: {error}", "Write an object of picture, sound and labels."
        ) from error
    need(isinstance(found, dict) and found.pop("version", VERSION) == VERSION, "the preprocessing", "of version 1")
    labels = found.pop("labels", ())
    need(isinstance(labels, list | tuple) and all(map(_is_text, labels)), "labels", "a list of texts")
    parts = {name: made(kind, found.pop(name)) for name, kind in _PARTS.items() if found.get(name) is not None}
    need(not found, ", ".join(map(str, found)), "picture, sound or labels")
    return Preprocessing(**parts, labels=tuple(labels))


def _is_text(label: Any) -> bool:
    """Not half a pair of UTF-16 either, which JSON can hold and no file."""
    return isinstance(label, str) and label.encode(errors="ignore").decode() == label


T = TypeVar("T")
_PARTS: Mapping[str, type[Any]] = {"picture": Picture, "sound": Sound}


def made(kind: type[T], given: Any) -> T:
    """A `kind` with the fields `given`, a mapping, strictly checked. UsageError."""
    names = {each.name: each.type for each in fields(kind)}  # type: ignore[arg-type]
    need(isinstance(given, Mapping), kind.__name__.lower(), f"an object of {', '.join(names)}")
    unknown = given.keys() - names.keys()
    need(not unknown, ", ".join(sorted(map(str, unknown))), f"one of {', '.join(names)}")
    try:
        return kind(**{name: _value(name, str(names[name]), value) for name, value in given.items()})
    except TypeError as error:
        raise wrong(kind.__name__.lower(), f"an object of {', '.join(names)}") from error


def _value(name: str, kind: str, value: Any) -> Any:
    """A field's value as its type says it, never converted to something else."""
    if kind.startswith("tuple"):
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(name, "float", each) for each in values)
    if kind.startswith("Features"):
        return None if value is None else made(Features, value)
    wanted = {"int": int, "float": int | float, "str": str}[kind]
    need(isinstance(value, wanted) and not isinstance(value, bool), name, f"of the type {kind}")
    try:
        return float(value) if kind == "float" else value
    except OverflowError as error:
        raise wrong(name, f"of the type {kind}") from error


def attach(model: bytes, declared: Preprocessing) -> bytes:
    """The .tflite file `model` with this declaration, in place of an older one."""
    from sdk import metadata  # needs what a board does not have

    return metadata.add(model, ENTRY, declared.to_json().encode())


def attached(model: bytes) -> Preprocessing | None:
    """What a .tflite file declares; None if nothing. ModelError if that is damaged."""
    from sdk import metadata

    note = metadata.read(model, ENTRY)
    if note is None:
        return None
    try:
        return from_json(note)
    except UsageError as error:
        raise ModelError(f"the model's metadata: {error.message}", "Convert the model again.") from error


def declaration(model: Path) -> Preprocessing:
    """What a model says of its input: in a .json file beside it (`sdk flash` writes one), or in the model itself."""
    beside = model.with_suffix(".json")
    if beside.is_file():
        return from_json(beside.read_bytes())
    try:
        return (attached(model.read_bytes()) if model.suffix == ".tflite" else None) or Preprocessing()
    except ImportError:
        return Preprocessing()  # a board, to which the file was copied by hand
