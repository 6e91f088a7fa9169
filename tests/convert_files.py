"""Sources of every kind for tests of `sdk convert`, as far as they are looked at before a converter is started."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from sdk.convert.sources import TABLE_END
from sdk.graph import DType
from sdk.program import Operand, Region, TensorSpec

# Graphs of TensorFlow, as protobuf writes them


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 128:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def node(name: str, op: str, *inputs: str) -> bytes:
    return field(1, b"".join([field(1, name.encode()), field(2, op.encode()), *(field(3, i.encode()) for i in inputs)]))


def graph_def(*extra: bytes) -> bytes:
    return b"".join(
        [
            node("image", "Placeholder"),
            node("weights", "Const"),
            node("dense/MatMul", "MatMul", "image", "weights:0", "^ready"),
            node("ready", "NoOp"),
            node("scores", "Softmax", "dense/MatMul"),
            *extra,
        ]
    )


TEXT = """
# made by hand
node {
  name: "image"
  op: "Placeholder"
  attr { key: "shape" value { shape { dim { size: 1 } } } }
}
node {
  name: "scores"
  op: "Softmax"
  input: "image"
  attr {
    key: "note"
    value { s: "} input: \\"x\\" {" }
  }
}
versions { producer: 27 }
"""


def write_sources(folder: Path) -> None:
    for name in ("saved", "empty", "near", "old"):
        (folder / name).mkdir()
    (folder / "saved/saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (folder / "near/net.onnx").write_bytes(b"")
    (folder / "net.onnx").write_bytes(b"\x08\x09\x12\x07pytorch")
    (folder / "anonymous.onnx").write_bytes(b"\x08\x09\x22\x00\x3a\x04abcd")
    (folder / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    (folder / "frozen.pb").write_bytes(graph_def())
    (folder / "graph.pb").write_bytes(graph_def(node("kernel", "VariableV2")))
    (folder / "graph.pbtxt").write_text(TEXT)
    (folder / "old/checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    for end in ("index", "data-00000-of-00001"):
        (folder / f"old/model.ckpt-7.{end}").write_bytes(b"")
        (folder / f"bare.{end}").write_bytes(b"")
    (folder / "old/model.ckpt-7.meta").write_bytes(field(1, b"") + field(2, graph_def()))
    (folder / "v1.ckpt").write_bytes(bytes(48) + TABLE_END)
    (folder / "v1.ckpt.meta").write_bytes(field(1, b"") + field(2, graph_def()))
    for name, inside in {
        "net.keras": ("config.json", "model.weights.h5"),
        "net.pt2": ("net/archive_format", "net/models/model.json"),
        "net.pt": ("net/data.pkl",),
    }.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for each in inside:
                archive.writestr(each, "")
    (folder / "nets.py").write_text("import tensorflow as tf\nraise RuntimeError('never run')\n")
    (folder / "torches.py").write_text("from torch import nn\nraise RuntimeError('never run')\n")


def spec(*shape: int) -> TensorSpec:
    """A float32 input."""
    return TensorSpec("x", shape, DType.FLOAT32, 0.0, 0, Operand(Region.ARENA, 0, 4 * int(np.prod(shape))))
