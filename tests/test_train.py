"""What `sdk train` does before TensorFlow is asked: reads folders, draws what is held out, and says what is wrong.
Training itself: tests/test_convert_train.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdk.cli import main
from sdk.convert.classes import drawn, find_classes
from sdk.convert.environment import VARIABLE
from sdk.convert.training import Settings, train
from sdk.dataset import read_dataset
from sdk.errors import InputError, MissingToolError, OutputError, UsageError
from sdk.graph import DType
from sdk.inputs import read_picture
from sdk.preprocess import Picture, Preprocessing
from sdk.program import Operand, Region, TensorSpec


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of ten pictures; whoever asks for TensorFlow gets a MissingToolError."""
    monkeypatch.setenv(VARIABLE, "/no/python")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "emu"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_folders_are_classes(photos: Path) -> None:
    (photos / "cat" / "notes.txt").write_text("no picture")
    (photos / ".thumbnails").mkdir()
    said: list[str] = []
    classes = find_classes(photos, said.append)
    assert said == [f"{photos / 'cat'}: 1 that are no .bmp, .jpeg, .jpg, .png are passed over"]
    assert {name: len(files) for name, files in classes.items()} == {"cat": 10, "dog": 10, "emu": 10}
    for old, new in (("cat", "10"), ("dog", "9"), ("emu", "0")):
        (photos / old).rename(photos / new)
    assert list(find_classes(photos)) == ["0", "9", "10"]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_held_out_is_drawn_by_the_seed(seed: int, photos: Path) -> None:
    classes = find_classes(photos)
    learnt, held = drawn(classes, 0.25, seed)
    assert (learnt, held) == tuple(drawn(classes, 0.25, seed))
    assert (learnt, held) != tuple(drawn(classes, 0.25, seed + 1))
    assert len(held) == 3 * 2
    assert {file for file, _ in learnt} | {file for file, _ in held} == set(photos.glob("*/*.png"))
    assert not {file for file, _ in learnt} & {file for file, _ in held}
    assert [label for _, label in learnt[:6]] == [0, 1, 2, 0, 1, 2]  # the first few stand for all
    assert all(list(classes)[label] == file.parent.name for file, label in [*learnt, *held])


def test_each_class_is_in_both_parts(photos: Path) -> None:
    for i in range(2, 10):
        (photos / "emu" / f"{i}.png").unlink()
    for share in (0.001, 0.999):
        for part in drawn(find_classes(photos), share, 1):
            assert {label for _, label in part} == {0, 1, 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet"}, "there is no backbone 'resnet'"),
        ({"size": 7}, "--size 7 is out of range"),
        ({"alpha": 0.0}, "--alpha 0 is out of range"),
        ({"held_out": 1.0}, "leaves nothing to train"),
        ({"weights": "none", "fine_tune": 3}, "--fine-tune is for pretrained weights"),
        ({"gray": True}, "are for colour"),
        ({"weights": "gone.h5"}, "there are no weights gone.h5"),
        ({"std": (0.0,)}, "std must be"),
        ({"mean": (1.0, 2.0)}, "mean must be"),
        ({"patience": 3}, "training has no patience"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str, photos: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train(photos, photos.parent / "out.tflite", **settings)


def test_bad_folders(photos: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        train(photos / "none")
    with pytest.raises(InputError, match=r"cat has no subfolders: .* two classes"):
        train(photos / "cat")
    (photos / "emu" / "0.png").write_bytes((photos / "emu" / "0.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"emu/0\.png is not a picture that can be read"):
        train(photos)
    for i in range(1, 10):
        (photos / "emu" / f"{i}.png").unlink()
    with pytest.raises(InputError, match="the class 'emu' has 1 picture "):
        train(photos)
    (photos / "emu" / "0.png").unlink()
    with pytest.raises(InputError, match="the class 'emu' has no pictures"):
        train(photos)
    (photos / "emu").rmdir()
    for path in (photos / "dog").iterdir():
        path.unlink()
    (photos / "dog").rmdir()
    with pytest.raises(InputError, match=r"has 1 subfolder: a network tells at least two"):
        train(photos)


def test_every_damaged_picture_is_named_at_once(photos: Path) -> None:
    (photos / "cat" / "3.png").write_bytes(b"")
    (photos / "emu" / "5.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"is not a picture .*; so is 1 more") as caught:
        train(photos)
    assert "cat/3.png" in caught.value.message
    assert "emu/5.png" in caught.value.message
    assert "remove" in caught.value.remedy


def test_what_is_there_in_place_of_pictures_is_said(photos: Path) -> None:
    (photos / "fox" / "sunny").mkdir(parents=True)
    with pytest.raises(InputError, match="'fox' has no pictures") as caught:
        train(photos)
    assert "subfolders are not looked at" in caught.value.remedy
    (photos / "fox" / "sunny").rmdir()
    frames = [Image.new("P", (9, 9), i) for i in range(3)]
    frames[0].save(photos / "fox" / "0.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="'fox' has no pictures") as caught:
        train(photos)
    assert "Save the .gif there as .png" in caught.value.remedy


def test_pictures_of_all_kinds_and_names(photos: Path) -> None:
    """Gray, 16 bits, transparent, with a palette; folders with spaces and umlauts: all go through to TensorFlow."""
    for name in ("grüne Birnen", "Äpfel rot"):
        (photos / name).mkdir()
        for i, mode in enumerate(("L", "RGBA", "LA", "P", "1", "CMYK")):
            picture = Image.new("RGB", (8 + i, 9), (10 * i, 90, 200)).convert(mode)
            picture.save(photos / name / f"a {mode}.{'jpg' if mode == 'CMYK' else 'png'}")
        Image.fromarray(np.full((9, 9), 0x8000, np.uint16)).save(photos / name / "16.png")
    with pytest.raises(MissingToolError):
        train(photos)
    assert read_picture(photos / "Äpfel rot" / "16.png", Picture(4, 4, 1)).tolist() == [[[128]] * 4] * 4


def test_copies_on_both_sides_are_told(photos: Path) -> None:
    said: list[str] = []
    with pytest.raises(MissingToolError):
        train(photos, note=said.append)
    assert not any("as copies" in line for line in said)
    for i in range(1, 10):
        (photos / "emu" / f"{i}.png").write_bytes((photos / "emu" / "0.png").read_bytes())
    with pytest.raises(MissingToolError):
        train(photos, note=said.append)
    assert "2 of the pictures held out are learnt from too" in said[-1]


def test_where_nothing_can_be_written_nothing_is_trained(photos: Path) -> None:
    with pytest.raises(OutputError, match="Is a directory"):
        train(photos, photos)
    with pytest.raises(OutputError, match="Not a directory"):
        train(photos, photos / "cat" / "0.png" / "out.tflite")
    with pytest.raises(MissingToolError):  # all is well but TensorFlow
        train(photos, photos.parent / "new" / "out.tflite")
    assert not (photos.parent / "new").exists()


def test_the_command_says_what_is_wrong(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    words = ["train", "--images", "photos", "-o", "out.tflite", "--json"]
    assert main([*words, "--weights", "gone.h5"]) == UsageError.exit_code
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "there are no weights gone.h5"
    assert main([*words, "--held-out", "120%"]) == UsageError.exit_code
    assert main([*words, "--weights", "none"]) == MissingToolError.exit_code
    assert "'cat' has 10" in capsys.readouterr().err


def test_settings_fit_microcontrollers() -> None:
    assert (Settings().width, Settings(backbone="mobilenet_v1").width) == (0.35, 0.25)
    assert Settings(weights="none", gray=True, size=32).picture.channels == 1


def test_folders_are_found_by_the_labels_of_the_model(photos: Path) -> None:
    spec = TensorSpec("x", (1, 4, 4, 3), DType.FLOAT32, 0.0, 0, Operand(Region.ARENA, 0, 192))
    scores = TensorSpec("y", (1, 3), DType.FLOAT32, 0.0, 0, Operand(Region.ARENA, 0, 12))
    for labels, first in ((("emu", "dog", "cat"), 2), ((), 0), (("a", "b", "c"), 0)):
        declared = Preprocessing(labels=labels)
        found = read_dataset(photos, [spec], scores, declared=declared)
        assert found[0].sample.name.startswith("cat")
        assert found[0].label == first
