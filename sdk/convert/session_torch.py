"""A PyTorch module as a float32 .tflite model: runs in `sdk.convert.worker`.

Pictures come channels first in PyTorch and channels last in TensorFlow Lite: inputs and outputs of four dimensions are
turned, so that the model takes what cameras give.
"""

from __future__ import annotations

from typing import Any

import litert_torch
import torch
from torch.utils._pytree import tree_leaves

from sdk.convert.arrays import read_arrays, write_arrays

PICTURE_RANK = 4


def tensors(outputs: Any) -> list[Any]:
    """What a module gives, without the dictionaries and lists that it comes in."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


class Flat(torch.nn.Module):  # type: ignore[misc]
    """A module that gives the tensors of another, one after the other."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *values: Any) -> Any:
        """As of the other."""
        return tuple(tensors(self.module(*values)))


class Session:
    """One module, as `sdk.convert.session_tensorflow.Session` is one source."""

    def open(self, kind: str, path: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
        """Loads an exported program (.pt2), which holds samples of its inputs."""
        try:
            program = torch.export.load(path)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"PyTorch cannot load {path} ({kind}): {first[:400]}", "Export it with PyTorch 2.13."
            ) from error
        if program.example_inputs is None:
            raise ValueError(f"{path} has no sample inputs", "Export it by torch.export.export(model, (sample,)).")
        return self._take(program.module(), program.example_inputs[0], shapes)

    def open_object(self, source: Any, shapes: dict[str, list[int]], sample: Any = "") -> dict[str, Any]:
        """A module of PyTorch, or a function that gives one; `sample`: its inputs, or a function that gives them."""
        module = source if isinstance(source, torch.nn.Module) else source()
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"{type(module).__name__} is no module of PyTorch", "Name a torch.nn.Module.")
        given = sample() if callable(sample) else sample
        if isinstance(given, str) and not shapes:
            raise ValueError(
                "a torch module needs a sample of its input",
                "Give --sample module:attribute, or --shape input=1,3,96,96",
            )
        if isinstance(given, str):
            given = tuple(torch.zeros(shape) for shape in shapes.values())
        return self._take(module.eval(), given, {})

    def _take(self, module: Any, sample: Any, shapes: dict[str, list[int]]) -> dict[str, Any]:
        if shapes:
            raise ValueError("an exported program has the shapes of its samples", "Export it with others.")
        values = tuple(sample) if isinstance(sample, list | tuple) else (sample,)
        with torch.no_grad():
            outputs = module(*values)
        if not isinstance(outputs, torch.Tensor):
            module = Flat(module)
        every = tensors(outputs)
        self.turned = [i for i, value in enumerate(values) if value.ndim == PICTURE_RANK]
        ends = [i for i, value in enumerate(every) if value.ndim == PICTURE_RANK]
        self.sample = tuple(v.permute(0, 2, 3, 1).contiguous() if i in self.turned else v for i, v in enumerate(values))
        self.last = (
            litert_torch.to_channel_last_io(module, args=self.turned, outputs=ends) if self.turned or ends else module
        )
        inputs = [
            {"name": f"args_{i}", "shape": list(v.shape), "dtype": str(v.dtype)} for i, v in enumerate(self.sample)
        ]
        return {"inputs": inputs, "fake_quant": False}

    def convert(self, output: str) -> None:
        """Writes the float32 model."""
        try:
            made = litert_torch.convert(self.last, self.sample)
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise NotImplementedError(
                f"litert-torch cannot convert this module: {lines[0][:400]}",
                "Express it by other operators of PyTorch.",
            ) from error
        made.export(output)

    def run(self, samples: str, output: str) -> None:
        """What the module itself makes of calibration samples."""
        made = []
        with torch.no_grad():
            for arrays in read_arrays(samples):
                values = self.last(*map(torch.from_numpy, arrays))
                made.append([value.numpy() for value in (values if isinstance(values, list | tuple) else [values])])
        write_arrays(output, made)
