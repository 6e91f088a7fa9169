"""An ONNX model as a float32 .tflite model, by onnx2tf: runs in `sdk.convert.worker`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from sdk.convert.arrays import check_names, read_arrays, say_shape, write_arrays
from sdk.convert.onnx_graph import fixed, is_short
from sdk.convert.tensorflow_order import in_order, output_shapes

# onnx2tf would fetch this file from the network to compare with, where it is not in the folder that it runs in.
SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
SAMPLE_SHAPE = 20, 128, 128, 3
LINES_RANK, PICTURE_RANK = 3, 4


class Session:
    """One model, as `sdk.convert.session_tensorflow.Session` is one source."""

    def open(self, kind: str, path: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
        """Loads a model and checks it."""
        try:
            onnx.checker.check_model(path)
            self.run_session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path} ({kind}) cannot be loaded: {first[:400]}", "Export it again.") from error
        self.path = str(Path(path).absolute())
        self.inputs = self.run_session.get_inputs()
        check_names(shapes, [each.name for each in self.inputs])
        self.shapes = {each.name: self._shape(each, shapes) for each in self.inputs}
        inputs = [{"name": name, "shape": shape, "dtype": "float32"} for name, shape in self.shapes.items()]
        return {"inputs": inputs, "fake_quant": False}

    def _shape(self, given: Any, shapes: dict[str, list[int]]) -> list[int]:
        own: list[Any] = [size if isinstance(size, int) else None for size in given.shape]
        shape: list[Any] = shapes.get(given.name) or [
            1 if i == 0 and size is None else size for i, size in enumerate(own)
        ]
        if None in shape:
            sizes = ",".join("?" if size is None else str(size) for size in shape)
            raise ValueError(f"the input '{given.name}' is [{sizes}]", say_shape(given.name, shape))
        return [int(size or 0) for size in shape]

    def convert(self, output: str) -> None:
        """Writes the float32 model."""
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / SAMPLE, np.random.default_rng(0).random(SAMPLE_SHAPE, dtype=np.float32))
            model = fixed(self.path, self.shapes)
            onnx.save(model, Path(folder) / "fixed.onnx")
            command = [sys.executable, "-m", "onnx2tf", "-i", "fixed.onnx", "-o", "made", "-n"]
            kept = [name for name, shape in self.shapes.items() if len(shape) != PICTURE_RANK]
            command += ["-kat", *kept] if kept else []
            command += ["--enable_rnn_unroll"] if is_short(model.graph) else []
            done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
            made = sorted((Path(folder) / "made").glob("*_float32.tflite"))
            if done.returncode or not made:
                raise _refused(done.stdout + done.stderr)
            names = [each.name for each in self.run_session.get_outputs()]
            result = in_order(made[0].read_bytes(), list(self.shapes), names, names)
        Path(output).write_bytes(result)
        self.ends = output_shapes(result)

    def run(self, samples: str, output: str) -> None:
        """What onnxruntime makes of calibration samples: pictures channels first, as ONNX has them."""
        results = []
        for arrays in read_arrays(samples):
            turned = [np.moveaxis(value, -1, 1) if value.ndim == PICTURE_RANK else value for value in arrays]
            made = self.run_session.run(None, {given.name: v for given, v in zip(self.inputs, turned, strict=True)})
            results.append([_as(value, shape) for value, shape in zip(made, self.ends, strict=True)])
        write_arrays(output, results)


def _as(value: Any, shape: list[int]) -> Any:
    """An output in the order of the model's: what convolutions make comes channels last."""
    last = np.moveaxis(value, 1, -1) if value.ndim > LINES_RANK - 1 else value
    return last if list(last.shape) == shape and (value.ndim == PICTURE_RANK or last.shape != value.shape) else value


def _refused(said: str) -> Exception:
    """What the last words of onnx2tf say to the user: the node and what was raised there."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    raised = [line for line in lines if re.match(r"\w+(Error|Exception|Exit): ", line)]
    words = raised or [line for line in lines if "ERROR" in line] or ["no reason given"]
    node = re.search(r"onnx_op_name: (?:sng_)?(\S+)", said)
    return NotImplementedError(
        f"onnx2tf cannot convert {f'the node {node[1]} of ' if node else ''}this model: {words[-1][:400]}",
        "Express it by other operators, or simplify the model first: python -m onnxsim.",
    )
