"""`train`: a network for the user's own classes, from a folder of pictures for each.

    trained = sdk.train("photos/", "model.tflite", weights="mobilenet.h5")
    trained.converted.accuracy, trained.guessing

A share of the pictures of every class is held out, drawn by the seed: neither training nor calibration sees them, and
accuracy is theirs alone, before and after quantization.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sdk.cache import Progress, silent
from sdk.convert.classes import drawn, find_classes
from sdk.convert.environment import TENSORFLOW
from sdk.convert.options import Converted, Options
from sdk.convert.process import Worker
from sdk.convert.work import Work
from sdk.errors import InputError, UsageError
from sdk.files import check_place, deliver
from sdk.foreign import Kind
from sdk.graph import Array
from sdk.inputs import read_picture
from sdk.preprocess import Picture

BACKBONES = {"mobilenet_v1": 0.25, "mobilenet_v2": 0.35}  # and the alpha that fits microcontrollers
EPOCHS = {"head": 40, "whole": 60}
NAMED = 5  # damaged pictures
SAID = 100  # pictures between two words about them
CALIBRATION = 200  # training pictures that ranges are measured with
FEW = 50  # pictures of a class: a network of fewer is a guess
MANY = 500  # from scratch
MOST_ALPHA = 2.0
SIZES = range(8, 513)


@dataclass(frozen=True)
class Settings:
    """How to train. `weights`: 'imagenet', 'none' or a file of Keras. `epochs` over all pictures: of the head alone, or
    without pretrained weights of the whole network. `fine_tune`: epochs of the whole pretrained network after that.
    `held_out`: which share of each class. `fit`, `mean`, `std`: as of `sdk.preprocess.Picture`."""

    size: int = 96
    gray: bool = False
    backbone: str = "mobilenet_v2"
    alpha: float | None = None
    weights: str = "imagenet"
    epochs: int | None = None
    fine_tune: int = 0
    seed: int = 1
    held_out: float = 0.2
    fit: str = "crop"
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise UsageError(f"there is no backbone '{self.backbone}'", f"Choose one: {', '.join(BACKBONES)}.")
        if self.size not in SIZES:
            raise UsageError(f"--size {self.size} is out of range", f"Give {SIZES[0]} to {SIZES[-1]}.")
        if not 0 < self.width <= MOST_ALPHA:
            raise UsageError(f"--alpha {self.width:g} is out of range", "Give 0.25, 0.35, 0.5, 0.75 or 1.")
        if not 0 < self.held_out < 1:
            raise UsageError(f"--held-out {self.held_out:g} leaves nothing to train or to measure with", "Give 20%.")
        if self.fine_tune and self.weights == "none":
            raise UsageError("--fine-tune is for pretrained weights", "From scratch, --epochs is all.")
        if self.gray and self.weights == "imagenet":
            raise UsageError("the weights of ImageNet are for colour", "Leave out --gray, or give other --weights.")
        if self.weights not in ("none", "imagenet") and not Path(self.weights).is_file():
            raise UsageError(f"there are no weights {self.weights}", "Give a .h5 or .keras file, imagenet, or none.")

    @property
    def width(self) -> float:
        """The alpha that is meant."""
        return BACKBONES[self.backbone] if self.alpha is None else self.alpha

    @property
    def picture(self) -> Picture:
        """What the network takes."""
        return Picture(self.size, self.size, 1 if self.gray else 3, self.fit, self.mean, self.std)


@dataclass(frozen=True)
class Trained:
    """A network and how it came about. `guessing`: the share of the most frequent class of what was held out: what
    knowing nothing gives. `history`: loss and accuracy of every epoch."""

    converted: Converted
    classes: Sequence[str]
    trained: int
    held_out: int
    guessing: float
    parameters: int
    history: Sequence[Mapping[str, float]] = field(default_factory=list)


def train(
    images: str | Path,
    output: str | Path | None = None,
    *,
    progress: Progress = silent,
    note: Progress = silent,
    **settings: Any,
) -> Trained:
    """An int8 .tflite model of the classes in the folder `images`, with their names and the preprocessing in its
    metadata; also written to `output` if that is given. `settings` are those of `Settings`.

    Nothing is written unless all of it works. UsageError, InputError, OutputError; ToolError for an environment that
    cannot be made or a TensorFlow that crashes.
    """
    unknown = settings.keys() - {each.name for each in fields(Settings)}
    if unknown:
        raise UsageError(f"training has no {', '.join(sorted(unknown))}", f"It takes what {Settings.__name__} has.")
    asked = Settings(**settings)
    classes = find_classes(Path(images), note)
    if output is not None:
        check_place(Path(output))
    parts = drawn(classes, asked.held_out, asked.seed)
    _warn(classes, asked, note)
    with tempfile.TemporaryDirectory(prefix="microlith-") as folder:
        made = _Training(Path(folder), asked, list(classes), parts, progress, note).run()
    scored = made.converted.accuracy
    if scored is not None and scored.before <= made.guessing:
        note(
            "it has learnt nothing: always saying the most frequent class is as good. More pictures, --epochs "
            "or pretrained --weights help"
        )
    if output is not None:
        deliver({Path(output): made.converted.model})
    return made


def _warn(classes: Mapping[str, Sequence[Path]], asked: Settings, note: Progress) -> None:
    name, files = min(classes.items(), key=lambda each: len(each[1]))
    if asked.weights == "none" and len(files) < MANY:
        note(
            f"from scratch a network learns from these pictures alone, and '{name}' has {len(files)}: expect much less "
            f"of it than of pretrained weights, unless the task is simple"
        )
    elif len(files) < FEW:
        note(f"'{name}' has {len(files)} pictures: the accuracy on the few that are held out says little")


class _Training:
    """One training, in a temporary folder."""

    def __init__(
        self,
        folder: Path,
        asked: Settings,
        classes: Sequence[str],
        parts: Sequence[Sequence[tuple[Path, int]]],
        progress: Progress,
        note: Progress,
    ) -> None:
        self.folder, self.asked, self.classes, self.progress, self.note = folder, asked, classes, progress, note
        self.files = [*parts[0], *parts[1]]
        self.labels = [label for _, label in self.files]
        self.trained = len(parts[0])

    def run(self) -> Trained:
        pixels = self._pixels()
        learnt = {each.tobytes() for each in pixels[: self.trained]}
        twins = sum(each.tobytes() in learnt for each in pixels[self.trained :])
        if twins:
            self.note(f"{twins} of the pictures held out are learnt from too, as copies: accuracy will look too good")
        with Worker(TENSORFLOW, self.progress, self.note, session="training") as session:
            about = session.call(
                "open_network",
                weights=self.asked.weights,
                seed=self.asked.seed,
                shape=list(pixels.shape[1:]),
                classes=len(self.classes),
                backbone=self.asked.backbone,
                alpha=self.asked.width,
            )
            history = self._taught(session, pixels)
            work = Work(self.folder, self._options(pixels), self.progress, self.note)
            converted = work.of_session(Kind.keras, session, session.call("finish"), is_tensorflow=True)
        held = self.labels[self.trained :]
        guessing = max(np.bincount(held)) / len(held)
        return Trained(converted, self.classes, self.trained, len(held), float(guessing), about["parameters"], history)

    def _pixels(self) -> Array:
        """uint8 [n, height, width, channels]: those to train with first."""
        picture = self.asked.picture
        result = np.empty((len(self.files), picture.height, picture.width, picture.channels), np.uint8)
        damaged: list[InputError] = []
        for i, (file, _) in enumerate(self.files):
            if i % SAID == 0:
                self.progress(f"read {len(self.files):,} pictures: {i:,}")
            try:
                result[i] = read_picture(file, picture)
            except InputError as error:
                damaged.append(error)
        if damaged:
            rest = len(damaged) - 1
            more = f"; so {'is' if rest == 1 else 'are'} {rest:,} more:" if rest else ""
            listed = "".join(f"\n  {error.message}" for error in damaged[1:NAMED])
            raise InputError(f"{damaged[0].message}{more}{listed}", "Save them anew as .png, or remove them.")
        return result

    def _taught(self, session: Worker, pixels: Array) -> list[Mapping[str, float]]:
        path, asked = self.folder / "pixels.npy", self.asked
        np.save(path, pixels)
        session.call(
            "load",
            pixels=str(path),
            labels=self.labels,
            trained=self.trained,
            mean=list(asked.mean),
            std=list(asked.std),
        )
        first = "whole" if asked.weights == "none" else "head"
        phases = {first: EPOCHS[first] if asked.epochs is None else asked.epochs, "fine": asked.fine_tune}
        return [each for phase, epochs in phases.items() if epochs for each in self._phase(session, phase, epochs)]

    def _phase(self, session: Worker, phase: str, epochs: int) -> list[Mapping[str, float]]:
        names = {"head": "train the head", "whole": "train", "fine": "fine-tune"}
        self.progress(f"{names[phase]}: {self.trained:,} pictures")
        session.call("begin", phase=phase, epochs=epochs)
        history: list[Mapping[str, float]] = []
        for i in range(epochs):
            history.append(session.call("epoch"))
            self.progress(
                f"{names[phase]}: epoch {i + 1} of {epochs}, accuracy {history[-1]['accuracy']:.1%}, "
                f"held out {history[-1]['held_out']:.1%}"
            )
        return history

    def _options(self, pixels: Array) -> Options:
        """Calibration with what was trained on, accuracy on what was held out."""
        picture, path = self.asked.picture, self.folder / "held_out.npz"
        np.savez(path, images=picture.normalized(pixels[self.trained :]), labels=self.labels[self.trained :])
        some = picture.normalized(pixels[: min(self.trained, CALIBRATION)])
        return Options(
            representative=[each[None] for each in some],
            dataset=path,
            preprocess={"fit": picture.fit, "mean": picture.mean, "std": picture.std},
            labels=self.classes,
        ).checked()
