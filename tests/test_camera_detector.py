"""Detectors through the camera loop: a small one of this project, and a public one where there is one."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdk.camera import Classifier, Detector, Frame, Result, watch
from sdk.camera.prepare import Preparation, detection_order
from sdk.camera.sinks import jpeg
from sdk.camera.sources import Images
from sdk.cli import main
from sdk.errors import UnsupportedError, UsageError
from sdk.graph import Array, DType, Graph, Node
from sdk.ops.base import CaseGraph
from sdk.preprocess import Picture
from sdk.runtime import Tensor
from sdk.write import write

MODELS = os.environ.get("MICROLITH_MODELS")  # a folder of public models
SIZE, CELL = 32, 8  # of the model's input, and of what one anchor sees
OPTIONS = {"max_detections": 6, "max_classes_per_detection": 1, "num_classes": 2, "use_regular_nms": False}
OPTIONS |= {"nms_score_threshold": 0.3, "nms_iou_threshold": 0.5, "detections_per_class": 100}
OPTIONS |= dict.fromkeys(("y_scale", "x_scale", "h_scale", "w_scale"), 1.0)
DIGITS = Path("examples/digits/digits_int8.tflite")


def detector_graph() -> Graph:
    """Finds what is red (class 0) and what is blue (class 1) in a grid of cells: a convolution gives their scores, and
    TFLite_Detection_PostProcess makes boxes of them."""
    g, cells = CaseGraph(), (SIZE // CELL) ** 2
    x = g.input((1, SIZE, SIZE, 3), DType.FLOAT32)
    weights = np.zeros((3, CELL, CELL, 3))  # no class, red, blue
    weights[1] = np.array([1, -0.5, -0.5]) / CELL**2
    weights[2] = np.array([-0.5, -0.5, 1]) / CELL**2
    filters, bias = g.constant(weights, DType.FLOAT32), g.constant(np.zeros(3), DType.FLOAT32)
    grid = g.tensor((1, SIZE // CELL, SIZE // CELL, 3), DType.FLOAT32)
    shape = g.constant(np.array([1, cells, 3]), DType.INT32)
    scores = g.tensor((1, cells, 3), DType.FLOAT32)
    places = g.constant(np.zeros((1, cells, 4)), DType.FLOAT32)
    y, x_ = np.divmod(np.arange(cells), SIZE // CELL)
    side = np.full(cells, CELL / SIZE)
    anchors = g.constant(np.column_stack([(y + 0.5) * side, (x_ + 0.5) * side, side, side]), DType.FLOAT32)
    outputs = [g.output(each, DType.FLOAT32) for each in ((1, 6, 4), (1, 6), (1, 6), (1,))]
    stride = {"stride_w": CELL, "stride_h": CELL, "padding": 1, "dilation_w_factor": 1, "dilation_h_factor": 1}
    nodes = [
        Node("CONV_2D", (x, filters, bias), (grid,), {**stride, "fused_activation_function": 0}, 0),
        Node("RESHAPE", (grid, shape), (scores,), {}, 1),
        Node("CUSTOM:TFLite_Detection_PostProcess", (places, scores, anchors), tuple(outputs), OPTIONS, 2),
    ]
    return g.case_of(nodes, "detector").graph


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "cells.tflite"
    path.write_bytes(write(detector_graph()))
    return path


def scene(*cells: tuple[int, int, tuple[int, int, int]], width: int = 320, height: int = 240) -> Array:
    """Gray, with cells of the grid (row, column) in colours."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    rows, columns = height * CELL // SIZE, width * CELL // SIZE
    for row, column, colour in cells:
        pixels[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = colour
    return pixels


RED, BLUE = (255, 0, 0), (0, 0, 255)


class Scenes:
    """Pictures that are there already."""

    live = False

    def __init__(self, *pixels: Array) -> None:
        self._pixels = iter(pixels)

    def read(self) -> Frame | None:
        pixels = next(self._pixels, None)
        return None if pixels is None else Frame(pixels, 0.0, "scene")

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("engine", ["litert", "tflite", "microlith"])
def test_what_is_where(detector: Path, engine: str) -> None:
    """Every engine finds the red and the blue cell, in the frame's own proportions."""
    if engine != "microlith":
        pytest.importorskip("ai_edge_litert" if engine == "litert" else "tflite_runtime")
    source = Scenes(scene((0, 3, RED), (2, 1, BLUE)), scene(), scene((3, 0, BLUE)))
    with watch(detector, source, labels=("???", "red", "blue"), engine=engine) as results:
        assert isinstance(results, Detector)
        both, none, blue = results
    assert set(both.labels) == {"red", "blue"}
    places = {box.label: box.corners for box in both.boxes or ()}
    np.testing.assert_allclose(places["red"], (0, 0.75, 0.25, 1), atol=1e-6)
    np.testing.assert_allclose(places["blue"], (0.5, 0.25, 0.75, 0.5), atol=1e-6)
    assert all(box.score > 0.9 for box in both.boxes or ())
    assert (none.labels, none.label, none.score, none.boxes, none.changed) == ((), None, 0.0, (), True)
    assert [box.label for box in blue.boxes or ()] == ["blue"]


def test_each_class_has_its_own_debounce(detector: Path) -> None:
    red, both = scene((0, 0, RED)), scene((0, 0, RED), (1, 1, BLUE))
    source = Scenes(red, red, both, red, both, both, red, red, scene(), scene())
    with watch(detector, source, labels=("red", "blue"), debounce=2, engine="microlith") as results:
        seen = [set(result.labels) for result in results]
    steps = [set(), {"red"}, {"red"}, {"red"}, {"red"}, {"red", "blue"}, {"red", "blue"}, {"red"}, {"red"}, set()]
    assert seen == steps


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (64, 64)])
def test_places_lead_back_to_the_frame(fit: str, height: int, width: int) -> None:
    """A white spot in the frame is found where it is, however the frame was brought to the input's size."""
    tensor = Tensor("x", (1, 48, 96, 3), np.dtype(np.float32))
    preparation = Preparation(Picture(48, 96, 3, fit=fit, std=(255.0,)), [tensor], [])
    pixels = np.zeros((height, width, 3), np.uint8)
    place = np.array([0.45 * height, 0.4 * width, 0.6 * height, 0.6 * width]).astype(int)
    pixels[place[0] : place[2], place[1] : place[3]] = 255
    y, x = np.nonzero(preparation.stored(pixels)[0, :, :, 0] > 0.5)
    there = (y.min() / 48, x.min() / 96, (y.max() + 1) / 48, (x.max() + 1) / 96)
    back = np.array(preparation.in_frame(there, height, width)) * (height, width, height, width)
    assert np.abs(back - place).max() <= max(height / 48, width / 48)
    assert preparation.in_frame((-1, -1, 2, 2), height, width) == (0, 0, 1, 1)


def test_order_of_outputs() -> None:
    def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
        return [Tensor("", shape, np.dtype(np.float32)) for shape in shapes]

    assert detection_order(tensors((1, 10, 4), (1, 10), (1, 10), (1,))) == ("boxes", "classes", "scores", "count")
    assert detection_order(tensors((1, 10), (1, 10, 4), (1,), (1, 10))) == ("scores", "boxes", "count", "classes")
    assert detection_order(tensors((1, 10, 4), (1, 10), (1, 9), (1,))) is None
    assert detection_order(tensors((1, 10))) is None


def test_what_no_detector_should_give(detector: Path) -> None:
    """Numbers that are none, classes without a name, a count beyond the table: nothing of it may reach a sink."""
    with Detector(detector, Scenes(), labels=("red",), threshold=0.2, engine="microlith") as results:
        places = np.array([[0, 0, 1, 1], [np.nan] * 4, [0.5, 0.5, 0.2, 0.2], [0, 0, np.inf, 1], [0, 0, 1, 1], [0] * 4])
        outputs = [places[None], np.array([[-1, 0, 7, 0, np.nan, 0]]), np.array([[0.3, 0.9, 0.8, 0.7, 0.6, 0.1]])]
        results.runtime.invoke = lambda _inputs: [*outputs, np.array([1e9])]  # type: ignore[method-assign]
        boxes = results.detect(scene())
        assert [(box.label, box.score) for box in boxes] == [("7", 0.8), ("-1", 0.3)]
        results.runtime.invoke = lambda _inputs: [*outputs, np.array([np.nan])]  # type: ignore[method-assign]
        assert results.detect(scene()) == ()
    frame = Frame(scene(), 0.0, "scene")
    assert jpeg(Result(frame, 0, (), False, (), 0.0, 0, boxes)).startswith(b"\xff\xd8")


def test_boxes_are_drawn(detector: Path) -> None:
    source = Scenes(scene((1, 2, RED)))
    with watch(detector, source, labels=("red", "blue"), engine="microlith") as results:
        result = next(iter(results))
    drawn = np.asarray(Image.open(io.BytesIO(jpeg(result))).convert("RGB")).astype(int)
    bare = np.asarray(Image.open(io.BytesIO(jpeg(replace(result, boxes=())))).convert("RGB")).astype(int)
    y, x = np.nonzero(np.abs(drawn - bare).sum(axis=2) > 90)
    assert (abs(y.min() - 60), abs(x.min() - 160), abs(y.max() - 119), abs(x.max() - 239)) <= (3, 3, 3, 3)


def test_commands(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(scene((0, 3, RED))).save(tmp_path / "pictures" / "red.png")
    (tmp_path / "labels.txt").write_text("red\nblue\n\n")
    words = ["camera", str(detector), "--source", str(tmp_path / "pictures"), "--labels", str(tmp_path / "labels.txt")]
    assert main([*words, "--engine", "microlith"]) == 0
    assert "red 97% [239, 0, 319, 59]" in capsys.readouterr().out
    assert main([*words, "--engine", "microlith", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["labels"] == ["red"]
    assert line["boxes"] == [{"label": "red", "score": line["score"], "box": [0.0, 0.75, 0.25, 1.0]}]
    assert main([*words, "--smoothing", "0.5"]) == UsageError.exit_code


def test_models_of_the_other_kind() -> None:
    with pytest.raises(UnsupportedError, match="outputs of a detector"):
        Detector(DIGITS, Images([]), engine="microlith")
    with watch(DIGITS, Images([]), engine="microlith", smoothing=0.5) as results:
        assert isinstance(results, Classifier)


def test_public_detectors() -> None:
    """Each is taken for a detector, and gives boxes within the frame."""
    found = sorted(Path(MODELS).rglob("*.tflite")) if MODELS else []
    models = [path for path in found if b"TFLite_Detection_PostProcess" in path.read_bytes()]
    if not models:
        pytest.skip("no detector is in $MICROLITH_MODELS")
    for model in models:
        with watch(model, Scenes(scene((1, 1, RED))), threshold=0.0) as results:
            assert isinstance(results, Detector)
            assert all(0 <= edge <= 1 for box in next(iter(results)).boxes or () for edge in box.corners)
