"""A float32 .tflite model, quantized without TensorFlow: runs in `sdk.convert.worker`."""

from __future__ import annotations

from typing import Any

import numpy as np
from litert_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
from litert_quantizer.utils import qsv_utils, tfl_interpreter_utils

from sdk.convert.arrays import read_arrays

EVERY = ".*"
RECIPES = {"int8": recipe.static_wi8_ai8, "int16x8": recipe.static_wi8_ai16, "dynamic": recipe.dynamic_wi8_afp32}


class Session:
    """Quantizes one model a call."""

    def convert(self, source: str, output: str, signature: str, inputs: list[str], quantize: str, samples: str) -> None:
        """Writes `source` quantized to `output`. `samples`: an .npz of calibration data for its `inputs`."""
        made = quantizer.Quantizer(source)
        made.load_quantization_recipe(RECIPES[quantize]())
        if quantize == "dynamic":  # a scale a channel there is read by newer runtimes alone
            dense = qtyping.TFLOperationName.FULLY_CONNECTED
            made.add_dynamic_config(EVERY, dense, 8, qtyping.QuantGranularity.TENSORWISE)
        ranges = None
        if made.need_calibration:
            ranges = _ranges(source, RECIPES[quantize](), {signature: _samples(samples, inputs)})
        try:
            made.quantize(ranges).export_model(output, overwrite=True)
        except (ValueError, RuntimeError) as error:
            raise NotImplementedError(f"the model cannot be quantized: {error}", "Try another --quantize.") from error


def _ranges(source: str, wanted: Any, samples: dict[str, list[dict[str, Any]]]) -> Any:
    """From the least to the greatest value of each tensor, as TensorFlow's converter measures them.

    `Quantizer.calibrate` takes a moving average, in which the first samples outweigh all others: the rest saturates.
    """
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(wanted)
    tfl_interpreter_utils.get_tensor_name_to_content_map = _contents
    found = calibrator.Calibrator(source, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    found.calibrate(samples, manager)
    return found.get_model_qsvs()


def _contents(interpreter: Any, subgraph_index: int = 0, dequantize: bool = False) -> dict[str, Any]:
    """What the tensors hold. Those that nobody reads have no memory, which stops the original: zeros."""
    found = {}
    for detail in interpreter.get_tensor_details(subgraph_index):
        if not detail["name"] or not all(detail["shape"]):
            continue
        try:
            value = tfl_interpreter_utils.get_tensor_data(interpreter, detail, subgraph_index, dequantize)
        except ValueError:
            value = np.zeros(detail["shape"], detail["dtype"])
        found[detail["name"]] = value
    return found


def _samples(path: str, inputs: list[str]) -> list[dict[str, Any]]:
    return [dict(zip(inputs, arrays, strict=True)) for arrays in read_arrays(path)]
