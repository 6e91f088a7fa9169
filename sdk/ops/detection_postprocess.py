"""TFLite_Detection_PostProcess: a single-shot detector's boxes, decoded and freed of those that overlap better ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering, Value
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.quantize import DEQUANTIZE_B8
from sdk.program import Field, Struct, fields

DETECTION = Kernel(
    "detection_postprocess_f32",
    0xC0,
    "detection_postprocess.c",
    Struct(
        "ml_detection_postprocess_args",
        (
            *fields("I", "boxes", "box_values", "classes", "background", "detections", "per_class", "by_class"),
            *fields("f", "least_score", "most_overlap"),
            Field("scales", "f", 4),
        ),
    ),
    (
        *(read(name, DType.FLOAT32) for name in ("encodings", "scores", "anchors")),
        *(write(name, DType.FLOAT32) for name in ("boxes", "found_classes", "found_scores", "count", "scratch")),
    ),
)
SCALES = ("y_scale", "x_scale", "h_scale", "w_scale")
PER_CLASS = 100  # TensorFlow Lite's default
SCRATCH_BYTES = 20  # for each box its corners and its score


class DetectionPostprocess(Op):
    names = ("CUSTOM:TFLite_Detection_PostProcess",)
    kernels = (DETECTION, DEQUANTIZE_B8)
    types = ("float32", "uint8 to float32")
    limits = (
        "max_classes_per_detection 1; of equal scores that of the later class comes first; without use_regular_nms "
        "what is beyond the number of detections keeps its last value; a box that overlaps a better one by the very "
        "nms_iou_threshold may be kept or not"
    )
    bound = Bound(
        2e-6, 2e-6, "boxes are decoded in float32, with an exponential within 1.1 ulp; the oracle takes double"
    )

    def check(self, view: View) -> None:
        view.need(len(view.inputs) == 3, f"it has {len(view.inputs)} inputs, not 3")
        encodings, scores, anchors = view.inputs
        shapes = [list(t.shape) for t in (encodings, scores, anchors)]
        fits = [len(shape) for shape in shapes] == [3, 3, 2] and encodings.shape[0] == scores.shape[0] == 1
        view.need(fits, f"its inputs are {shapes}")
        boxes, values = encodings.shape[1:]
        fits = scores.shape[1] == anchors.shape[0] == boxes > 0 and values >= 4 and anchors.shape[1] == 4
        view.need(fits, f"its inputs are {shapes}")
        dtypes = {tensor.dtype for tensor in view.inputs}
        view.need(dtypes in ({DType.FLOAT32}, {DType.UINT8}), f"its inputs are {view.dtypes()}")
        view.need(0 <= scores.shape[2] - self._number(view, "num_classes") <= 1, f"its scores are {list(scores.shape)}")
        view.need(0 < self._real(view, "nms_iou_threshold") <= 1, "its nms_iou_threshold is not in 0 to 1")
        view.need(all(self._real(view, scale) != 0 for scale in SCALES), "one of its scales is 0")
        self._real(view, "nms_score_threshold")
        self._number(view, "detections_per_class", PER_CLASS)
        if self._number(view, "max_classes_per_detection") != 1:
            raise view.unsupported("gives several classes to a detection")
        self._check_outputs(view)

    def _check_outputs(self, view: View) -> None:
        view.need(len(view.node.outputs) == 4, "it has no four outputs")
        for tensor, shape in zip(view.outputs, self.output_shapes(view), strict=True):
            fits = tensor.shape == shape and tensor.dtype is DType.FLOAT32
            view.need(fits, f"its output {tensor.label} is {tensor.dtype.numpy_name}{list(tensor.shape)}")

    def output_shapes(self, view: View) -> list[tuple[int, ...]]:
        count = self._number(view, "max_detections")
        return [(1, count, 4), (1, count), (1, count), (1,)]

    @staticmethod
    def _number(view: View, name: str, default: int = 0) -> int:
        """A positive option."""
        value = view.option(name, default)
        view.need(isinstance(value, int) and 0 < value < 1 << 24, f"its option {name} is {value}")
        return int(value)

    @staticmethod
    def _real(view: View, name: str) -> float:
        """An option that is a finite number."""
        value = view.option(name)
        view.need(isinstance(value, int | float) and math.isfinite(value), f"its option {name} is {value}")
        return float(value)

    def lower(self, view: View, low: Lowering) -> None:
        encodings, scores = view.input(0), view.input(1)
        classes = self._number(view, "num_classes")
        regular = bool(view.option("use_regular_nms", False))
        args = {
            "boxes": encodings.shape[1],
            "box_values": encodings.shape[2],
            "classes": classes,
            "background": scores.shape[2] - classes,
            "detections": self._number(view, "max_detections"),
            "per_class": self._number(view, "detections_per_class", PER_CLASS),
            "by_class": int(regular),
            "least_score": self._real(view, "nms_score_threshold"),
            "most_overlap": self._real(view, "nms_iou_threshold"),
            "scales": [self._real(view, scale) for scale in SCALES],
        }
        if not regular:  # what is not written is that of the last inference
            for tensor in view.outputs[:3]:
                low.alias(tensor, low.state(tensor.bytes))
        inputs = [_real(low, tensor) for tensor in view.inputs]
        scratch = low.scratch(SCRATCH_BYTES * encodings.shape[1])
        low.step(DETECTION, args, [*inputs, *map(low.value, view.outputs), scratch])

    def cases(self) -> Iterator[Case]:
        for regular, dtype in itertools.product((False, True), (DType.FLOAT32, DType.UINT8)):
            name = f"{dtype.suffix}-{'regular' if regular else 'fast'}"
            for background in (0, 1):
                yield _case(f"{name}-{background}", regular, dtype, background=background)
            yield _case(f"{name}-few", regular, dtype, detections=2)
            yield _case(f"{name}-one", regular, dtype, boxes=1, classes=1, detections=1)
            yield _case(f"{name}-values", regular, dtype, values=6)
        # The two oracles order equal scores of several classes otherwise; tflite-micro takes no uint8.
        yield _case("fast-ties", False, DType.FLOAT32, levels=4)
        yield _case("regular-ties", True, DType.UINT8, levels=4)
        yield _case("many", True, DType.FLOAT32, boxes=40, detections=50)
        yield _case("few-each", True, DType.UINT8, per_class=1)


def _real(low: Lowering, tensor: Tensor) -> Value:
    """Where the real numbers of a tensor are."""
    if tensor.dtype is DType.FLOAT32:
        return low.value(tensor)
    if tensor.data is not None:
        integers: Array = tensor.data.astype(np.int64) - tensor.zero_point
        return low.constant((np.float64(np.float32(tensor.scale)) * integers).astype(np.float32))
    real = low.scratch(tensor.elements * DType.FLOAT32.bytes)
    args = {"count": tensor.elements, "flip": 0, "scale": tensor.scale, "offset": -tensor.zero_point}
    low.step(DEQUANTIZE_B8, args, [low.value(tensor), real])
    return real


def _case(
    name: str,
    regular: bool,
    dtype: DType,
    *,
    boxes: int = 12,
    classes: int = 3,
    background: int = 1,
    detections: int = 5,
    values: int = 4,
    per_class: int = PER_CLASS,
    levels: int = 1000,
) -> Case:
    """Boxes about random anchors. All of the first set have scores above the threshold: what the oracle does not write
    is undefined at first. Of the third set few have."""
    rng = np.random.default_rng(len(name))
    g = CaseGraph()
    byte = dtype is DType.UINT8
    encodings = g.input((1, boxes, values), dtype, *((0.05, 128) if byte else ()))
    scores = g.input((1, boxes, classes + background), dtype, *((1 / 256, 0) if byte else ()))
    anchors = rng.integers(50, 200, (boxes, 4))
    table = g.constant(anchors if byte else anchors / 256, dtype, *((1 / 256, 0) if byte else ()))
    shapes = ((1, detections, 4), (1, detections), (1, detections), (1,))
    outputs = [g.output(shape, DType.FLOAT32) for shape in shapes]
    options: dict[str, float] = {"max_detections": detections, "max_classes_per_detection": 1, "num_classes": classes}
    options |= {"detections_per_class": per_class, "use_regular_nms": regular}
    sets = []
    distinct = rng.permutation(boxes * (classes + background)).reshape(1, boxes, -1)
    for low, top in ((80, 175), (0, 110), (0, 80), (0, 255)):
        place = rng.integers(80, 176, (1, boxes, values))
        score = low + (distinct % levels) * (top - low) / min(levels, distinct.size)
        if byte:
            sets.append((place.astype(np.uint8), score.astype(np.uint8)))
        else:
            sets.append((((place - 128) * 0.05).astype(np.float32), (score / 256).astype(np.float32)))
    options |= {
        "nms_score_threshold": 0.3,
        "nms_iou_threshold": 0.5,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
    }
    return g.case(name, DetectionPostprocess.names[0], [encodings, scores, table], outputs, options, sets)


OPS = [DetectionPostprocess()]
