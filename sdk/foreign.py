"""What a file or folder that is no .tflite model looks like, and how a model comes of it."""

from __future__ import annotations

import io
import zipfile
from enum import StrEnum
from pathlib import Path

from sdk.program import MAGIC

GENERAL = "Give a TensorFlow Lite model (.tflite), or what `sdk convert` makes one of."
CONVERT = "Convert it: sdk convert FILE -o model.tflite."
PYTORCH = (
    "Export it in the program that made it: torch.export.save(torch.export.export(model, (sample,)), 'model.pt2')."
)


class Kind(StrEnum):
    """What `sdk convert` takes."""

    saved_model = "a TensorFlow SavedModel"
    keras = "a Keras model (.keras)"
    h5 = "HDF5, as Keras saved models until 2023 (.h5)"
    frozen_graph = "a TensorFlow graph (.pb)"
    graph_text = "a TensorFlow graph as text (.pbtxt)"
    checkpoint = "a checkpoint of TensorFlow 1"
    onnx = "ONNX"
    pt2 = "an exported PyTorch program (.pt2)"
    tflite = "a TensorFlow Lite model"
    module = "an attribute of a Python module"


# By the bytes a file starts with: what it is, what to do.
STARTS = (
    (b"\x89HDF\r\n\x1a\n", Kind.h5, CONVERT),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip FILE."),
    (b"\x08\x01\x12", "the saved_model.pb of a TensorFlow SavedModel", "Give its folder to `sdk convert`."),
    (b"\x93NUMPY", "an array of NumPy (.npy)", GENERAL),
    (MAGIC.to_bytes(4, "little"), "a lowered program (.mlith)", "Give the .tflite file that it was lowered from."),
    (b"version https://git-lfs", "a pointer of Git LFS, in place of the file", "Fetch the file: git lfs pull."),
    (b"<", "a page of HTML or XML, perhaps the error of a download", "Download the model again."),
)
PICKLED = b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"


def folder(path: Path) -> tuple[str, str]:
    """(what the folder is, the remedy)."""
    if (path / "saved_model.pb").is_file():
        return "is a TensorFlow SavedModel, not a .tflite file", CONVERT.replace("FILE", "FOLDER")
    return "is a folder, not a .tflite file", GENERAL


def file(data: bytes) -> tuple[str, str]:
    """(what a file with this content is, the remedy)."""
    what, remedy = looks_like(data)
    known = f"; it looks like {what}" if what else ""
    return f"is not a .tflite file (its bytes 4 to 7 are not 'TFL3'){known}", remedy


def looks_like(data: bytes) -> tuple[Kind | str, str]:
    """(what it is, what to do): a Kind if `sdk convert` takes it, '' if nobody knows it."""
    if data[4:8] == b"TFL3":
        return Kind.tflite, ""
    for start, what, remedy in STARTS:
        if data.startswith(start):
            return what, remedy
    if data.startswith(b"PK\x03\x04"):
        return _archive(data)
    if data.startswith(PICKLED):
        return "a pickled object of Python", PYTORCH
    # A protobuf whose first field is a small number and whose second is text or a graph: ModelProto of onnx.proto. The
    # producer's name may be left empty.
    if data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x22", b"\x3a", b"\x42") and 3 <= data[1] < 32:
        return Kind.onnx, CONVERT
    return _graph(data)


def _graph(data: bytes) -> tuple[Kind | str, str]:
    """A graph's nodes come first, each with its name first: length, name's field, length, name."""
    from sdk.convert.graphdef import is_text, parse_nodes

    try:
        if is_text(data) and parse_nodes(data):
            return Kind.graph_text, CONVERT
        if data[:1] == b"\x0a" and parse_nodes(data):
            return Kind.frozen_graph, CONVERT
    except (ValueError, IndexError):
        pass
    return "", GENERAL


def _archive(data: bytes) -> tuple[Kind | str, str]:
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "a damaged zip archive", GENERAL
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return Kind.keras, CONVERT
    if any(
        name.endswith(("archive_format", "models/model.json", "serialized_exported_program.json")) for name in names
    ):
        return Kind.pt2, CONVERT
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch model (.pt)", PYTORCH
    if models := [name for name in names if name.endswith(".tflite")]:
        return f"a zip archive that holds {models[0]}", "Unpack it: unzip FILE."
    return "a zip archive", GENERAL
