"""What is given to be converted, recognised by looking at it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdk import foreign
from sdk.convert.environment import ONNX, TENSORFLOW, TORCH, Environment
from sdk.convert.graphdef import ends, read_nodes
from sdk.errors import ModelError, UsageError
from sdk.foreign import Kind

ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
CHECKPOINT_END = re.compile(r"\.(meta|index|data-\d{5}-of-\d{5})$")
TABLE_END = bytes.fromhex("57fb808b247547db")  # leveldb/table/format.h
SHORT = 1 << 28  # no file is read beyond it to be recognised


@dataclass(frozen=True)
class Source:
    """A thing to convert, the environment that does it, and what its session's `open` is told beside the path."""

    kind: Kind
    path: str
    environment: Environment | None  # None for .tflite, which is there already
    options: dict[str, Any] = field(default_factory=dict)
    guessed: str = ""  # what of them nobody said, as options of the command line


@dataclass(frozen=True)
class Wanted:
    """What the user says of a source that has it open."""

    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    signature: str = ""
    graph: str = ""
    sample: str = ""


def find_source(given: str | Path, wanted: Wanted) -> Source:
    """The source that `given` names: a path, or module:attribute. ModelError, with what it is, if it is none."""
    path, text = Path(given), str(given)
    prefix = CHECKPOINT_END.sub("", text)
    if Path(f"{prefix}.index").is_file() and (prefix != text or not path.is_file()):
        return _checkpoint(prefix, wanted)
    if _is_old_checkpoint(Path(prefix)):
        return _checkpoint(prefix, wanted)
    if path.is_dir():
        return _folder(path, wanted)
    if not path.exists():
        if ATTRIBUTE.match(text):
            return _module(text, wanted)
        raise UsageError(
            f"there is no {given}", "Give a file, a folder, the prefix of a checkpoint or module:attribute."
        )
    return _file(path, wanted)


def _folder(path: Path, wanted: Wanted) -> Source:
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return Source(Kind.saved_model, str(path), TENSORFLOW, {"signature": wanted.signature})
    latest = path / "checkpoint"
    if latest.is_file() and (
        name := re.search(r'model_checkpoint_path:\s*"([^"]+)"', latest.read_text("utf-8", "replace"))
    ):
        return _checkpoint(str(path / Path(name[1]).name), wanted)
    held = sorted(child.name for child in path.iterdir())
    near = [name for name in held if name.endswith((".tflite", ".keras", ".h5", ".pb", ".onnx", ".pt2", ".meta"))]
    raise ModelError(
        f"{path} is a folder that holds no model (no saved_model.pb, no checkpoint)",
        f"Perhaps one of these: {', '.join(near[:5])}." if near else "Give the folder of a SavedModel, or a file.",
    )


def _file(path: Path, wanted: Wanted) -> Source:
    try:
        with path.open("rb") as file:
            data = file.read(SHORT)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "Check the path and its permissions.") from error
    kind, remedy = foreign.looks_like(data)
    if kind == Kind.tflite:
        return Source(Kind.tflite, str(path), None)
    if kind in (Kind.keras, Kind.h5):
        return Source(Kind(kind), str(path), TENSORFLOW)
    if kind in (Kind.frozen_graph, Kind.graph_text):
        found = _ends(path, wanted)
        return Source(Kind(kind), str(path), TENSORFLOW, found, _guessed(found, wanted))
    if kind == Kind.onnx:
        return Source(Kind.onnx, str(path), ONNX)
    if kind == Kind.pt2:
        return Source(Kind.pt2, str(path), TORCH)
    if path.name == "saved_model.pb":
        return _folder(path.parent, wanted)
    what = f"is {kind}" if kind else "is nothing that is known: no model of TensorFlow, Keras, PyTorch or ONNX"
    raise ModelError(f"{path} {what}", remedy)


def _ends(path: Path, wanted: Wanted) -> dict[str, Any]:
    """The inputs and outputs of a graph file."""
    nodes = read_nodes(path)
    variables = [node.name for node in nodes if node.op in ("VariableV2", "Variable", "VarHandleOp")]
    if variables and not wanted.graph:
        raise ModelError(
            f"{path} is a graph with variables ({variables[0]}, ...), whose values it does not hold",
            f"Give its checkpoint: sdk convert PREFIX --graph {path}.",
        )
    return dict(ends(nodes, wanted.inputs, wanted.outputs))


def _is_old_checkpoint(path: Path) -> bool:
    """Whether this is a checkpoint of before 2017, all in one file: a table of LevelDB, by its last bytes."""
    try:
        with path.open("rb") as file:
            file.seek(-len(TABLE_END), os.SEEK_END)
            return file.read() == TABLE_END and path.suffix != ".index"
    except OSError:
        return False


def _checkpoint(prefix: str, wanted: Wanted) -> Source:
    graph = Path(wanted.graph or f"{prefix}.meta")
    if not graph.is_file():
        raise UsageError(
            f"the checkpoint {prefix} has no graph: there is no {graph}",
            "Give the graph that it belongs to: --graph graph.pbtxt. A checkpoint of TensorFlow 2 has none: load it in "
            "your program, and give the model as module:attribute.",
        )
    if not _is_old_checkpoint(Path(prefix)) and not list(Path(prefix).parent.glob(f"{Path(prefix).name}.data-*")):
        raise ModelError(f"the checkpoint {prefix} has no .data file beside its .index", "Copy all of its files.")
    nodes = read_nodes(graph)
    found = ends(nodes, wanted.inputs, wanted.outputs)
    return Source(Kind.checkpoint, prefix, TENSORFLOW, {**found, "graph": wanted.graph}, _guessed(found, wanted))


def _guessed(found: dict[str, Any], wanted: Wanted) -> str:
    given = {"inputs": wanted.inputs, "outputs": wanted.outputs}
    return " ".join(f"--{name} {','.join(nodes)}" for name, nodes in found.items() if not given[name])


def _module(text: str, wanted: Wanted) -> Source:
    """By what the module imports: it is read, not run."""
    path = _module_file(text.partition(":")[0])
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the module {path}: {error}", "Check it: python -m py_compile FILE.") from error
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add((node.module or "").partition(".")[0])
    if "torch" in used:
        return Source(Kind.module, text, TORCH, {"sample": wanted.sample})
    return Source(Kind.module, text, TENSORFLOW)


def _module_file(name: str) -> Path:
    """In the current folder first, as `python -m` would."""
    local = Path(*name.split("."))
    for path in (local.with_suffix(".py"), local / "__init__.py"):
        if path.is_file():
            return path
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        raise UsageError(f"there is no module {name}", "Run it from the folder of the module, or check the name.")
    return Path(found.origin)
