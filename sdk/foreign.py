"""What a file that is no .tflite model looks like, and how a model comes of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from sdk.program import MAGIC

GENERAL = "Give a TensorFlow Lite model (.tflite)."
KERAS = "Convert it: tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(FILE)).convert()."
SAVED_MODEL = "Convert it: tf.lite.TFLiteConverter.from_saved_model(FOLDER).convert()."
ONNX = "Convert it, for example with onnx2tf."
PYTORCH = "Convert it in the program that made it, for example with litert-torch."

# By the bytes a file starts with: what it is, what to do.
STARTS = (
    (b"\x89HDF\r\n\x1a\n", "HDF5, as Keras saved models until 2023 (.h5)", KERAS),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip FILE."),
    (b"\x08\x01\x12", "the saved_model.pb of a TensorFlow SavedModel", SAVED_MODEL),
    (b"\x93NUMPY", "an array of NumPy (.npy)", GENERAL),
    (MAGIC.to_bytes(4, "little"), "a lowered program (.mlith)", "Give the .tflite file that it was lowered from."),
    (b"version https://git-lfs", "a pointer of Git LFS, in place of the file", "Fetch the file: git lfs pull."),
    (b"<", "a page of HTML or XML, perhaps the error of a download", "Download the model again."),
)
PICKLED = b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"


def folder(path: Path) -> tuple[str, str]:
    """(what the folder is, the remedy)."""
    if (path / "saved_model.pb").is_file():
        return "is a TensorFlow SavedModel, not a .tflite file", SAVED_MODEL
    return "is a folder, not a .tflite file", GENERAL


def file(data: bytes) -> tuple[str, str]:
    """(what a file with this content is, the remedy)."""
    what, remedy = _looks_like(data)
    known = f"; it looks like {what}" if what else ""
    return f"is not a .tflite file (its bytes 4 to 7 are not 'TFL3'){known}", remedy


def _looks_like(data: bytes) -> tuple[str, str]:
    for start, what, remedy in STARTS:
        if data.startswith(start):
            return what, remedy
    if data.startswith(b"PK\x03\x04"):
        return _archive(data)
    if data.startswith(PICKLED):
        return "a pickled object of Python", PYTORCH
    # A protobuf whose first field is a small number and whose second is text: ModelProto of onnx.proto.
    if data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x3a", b"\x42") and 3 <= data[1] < 32:
        return "ONNX", ONNX
    return "", GENERAL


def _archive(data: bytes) -> tuple[str, str]:
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "a damaged zip archive", GENERAL
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return "a Keras model (.keras)", KERAS
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch model (.pt)", PYTORCH
    if models := [name for name in names if name.endswith(".tflite")]:
        return f"a zip archive that holds {models[0]}", "Unpack it: unzip FILE."
    return "a zip archive", GENERAL
