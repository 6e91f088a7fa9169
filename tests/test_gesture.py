"""The example of arm movements: the committed model on people that it has never seen, on the host and on a board."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sdk.cli import main
from sdk.convert.evaluate import specs_of
from sdk.dataset import read_dataset
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import attached

FOLDER = Path(__file__).parents[1] / "examples" / "gesture"
MODEL = FOLDER / "gesture_int8.tflite"


@pytest.fixture(scope="session")
def data() -> ModuleType:
    """The example's data.py."""
    spec = importlib.util.spec_from_file_location("gesture_data", FOLDER / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def strangers(data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The windows that are held out, in a file."""
    path = tmp_path_factory.mktemp("gesture") / "test.npz"
    x, y = data.split()[1]
    np.savez(path, x=x, y=y)
    return path


def test_nobody_is_on_both_sides(data: ModuleType) -> None:
    (train_x, train_y), (test_x, test_y) = data.split()
    assert (train_x.shape[1:], train_x.dtype, test_x.dtype) == ((100, 6), np.float32, np.float32)
    assert set(train_y) == set(test_y) == set(range(7))
    assert not {x.tobytes() for x in train_x} & {x.tobytes() for x in test_x}


def test_the_readme_says_how_many_are_right(strangers: Path) -> None:
    model = MODEL.read_bytes()
    graph = load_bytes(model)
    inputs = specs_of(graph, graph.inputs, graph.input_names)
    labelled = read_dataset(strangers, inputs, specs_of(graph, graph.outputs, graph.output_names)[0])
    with Oracle(model) as oracle:
        right = sum(int(np.argmax(oracle.run(each.sample.arrays).outputs[0])) == each.label for each in labelled)
    said = re.search(r"(\d+) of (\d+) windows", (FOLDER / "README.md").read_text())
    assert said is not None
    assert (right, len(labelled)) == (int(said[1]), int(said[2]))


def test_the_board_agrees(strangers: Path) -> None:
    words = ["verify", MODEL, "--board", "mps2-an386", "--dataset", strangers, "--count", 10]
    assert main(list(map(str, words))) == 0
    declared = attached(MODEL.read_bytes())
    assert declared is not None
    assert list(declared.labels) == (FOLDER / "labels.txt").read_text().splitlines()
