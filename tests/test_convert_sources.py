"""What `sdk convert` takes for a source, and what it reads of graphs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from convert_files import TEXT, field, graph_def, node

from sdk.cli import main
from sdk.convert import environment as environments
from sdk.convert.graphdef import chosen, ends, is_text, parse_nodes, suggested_inputs, suggested_outputs
from sdk.convert.sources import Wanted, find_source
from sdk.errors import ModelError, SdkError, UsageError
from sdk.foreign import Kind

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
FLOAT = DIGITS / "digits_float32.tflite"

# Graphs


@pytest.mark.parametrize("data", [graph_def(), field(1, b"\x22\x03abc") + field(2, graph_def())], ids=["graph", "meta"])
def test_graphs_are_read(data: bytes) -> None:
    nodes = parse_nodes(data)
    assert [each.name for each in nodes] == ["image", "weights", "dense/MatMul", "ready", "scores"]
    assert nodes[2].inputs == ("image", "weights")
    assert suggested_inputs(nodes) == ["image"]
    assert suggested_outputs(nodes) == ["scores"]


def test_graphs_as_text_are_read() -> None:
    nodes = parse_nodes(TEXT.encode())
    assert [(each.name, each.op, each.inputs) for each in nodes] == [
        ("image", "Placeholder", ()),
        ("scores", "Softmax", ("image",)),
    ]


def test_comments_are_passed_over_in_linear_time() -> None:
    banner = b"# " * 10_000
    assert is_text(banner + b"\n#\n" + TEXT.encode())
    assert not is_text(banner)
    assert not is_text(banner + TEXT.encode().splitlines()[0])  # the node is in the comment


def test_a_missing_node_lists_near_names() -> None:
    nodes = parse_nodes(graph_def())
    assert chosen(nodes, [], "--outputs") == ["scores"]
    assert chosen(nodes, ["scores:0"], "--outputs") == ["scores:0"]
    with pytest.raises(UsageError, match="no node 'score' \\(--outputs\\)") as caught:
        chosen(nodes, ["score"], "--outputs")
    assert "Near it: scores" in caught.value.remedy
    with pytest.raises(UsageError, match="no node 'MatMul'") as caught:
        chosen(nodes, ["MatMul"], "--outputs")
    assert "dense/MatMul" in caught.value.remedy
    with pytest.raises(UsageError, match="does not say what its inputs are; no node looks like one"):
        chosen(parse_nodes(node("a", "Const")), [], "--inputs")


def test_inputs_are_what_the_outputs_need() -> None:
    saving = node("save/filename", "Placeholder"), node("save", "SaveV2", "save/filename", "weights")
    nodes = parse_nodes(graph_def(*saving))
    assert suggested_inputs(nodes) == ["image", "save/filename"]
    assert ends(nodes, [], ["scores:0"]) == {"inputs": ["image"], "outputs": ["scores:0"]}
    assert ends(nodes, ["dense/MatMul"], [])["inputs"] == ["dense/MatMul"]
    with pytest.raises(UsageError, match="no node 'pixels' \\(--inputs\\)"):
        ends(nodes, ["pixels"], ["scores"])


def test_what_is_compared_with_labels_is_no_output() -> None:
    """Of a graph that trains: the class that the accuracy is computed of."""
    training = [
        node("kernel", "VariableV2"),
        node("logits", "MatMul", "image", "kernel"),
        node("prob", "Softmax", "logits"),
        node("class", "ArgMax", "logits"),
        node("labels", "Placeholder"),
        node("right", "Equal", "class", "labels"),
        node("loss", "Loss", "logits", "labels"),
        node("step", "ApplyAdam", "kernel", "loss"),
    ]
    nodes = parse_nodes(node("image", "Placeholder") + b"".join(training))
    assert suggested_outputs(nodes) == ["prob"]
    assert suggested_outputs([each for each in nodes if each.name not in ("right", "prob")]) == ["class"]


def test_damaged_graphs_are_refused() -> None:
    data, rng = bytearray(graph_def()), np.random.default_rng(0)
    for _ in range(500):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(256)
        with contextlib.suppress(ValueError, IndexError):
            parse_nodes(bytes(broken[: rng.integers(1, len(data))]))


# Sources


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("saved", Kind.saved_model),
        ("saved/saved_model.pb", Kind.saved_model),
        ("net.onnx", Kind.onnx),
        ("anonymous.onnx", Kind.onnx),
        ("net.h5", Kind.h5),
        ("net.keras", Kind.keras),
        ("net.pt2", Kind.pt2),
        ("frozen.pb", Kind.frozen_graph),
        ("graph.pbtxt", Kind.graph_text),
        ("old", Kind.checkpoint),
        ("old/model.ckpt-7", Kind.checkpoint),
        ("old/model.ckpt-7.meta", Kind.checkpoint),
        ("old/model.ckpt-7.data-00000-of-00001", Kind.checkpoint),
        ("v1.ckpt", Kind.checkpoint),
        ("v1.ckpt.meta", Kind.checkpoint),
        ("nets:model", Kind.module),
        (str(FLOAT), Kind.tflite),
    ],
)
@pytest.mark.usefixtures("source_files")
def test_sources_are_recognised(source: str, kind: Kind) -> None:
    found = find_source(source, Wanted())
    assert found.kind is kind
    if kind in (Kind.frozen_graph, Kind.graph_text, Kind.checkpoint):
        assert found.options["inputs"] == ["image"]
        assert found.options["outputs"] == ["scores"]


@pytest.mark.usefixtures("source_files")
def test_what_is_guessed_of_a_graph_is_said() -> None:
    assert find_source("frozen.pb", Wanted()).guessed == "--inputs image --outputs scores"
    assert find_source("frozen.pb", Wanted(outputs=["scores"])).guessed == "--inputs image"
    assert find_source("old", Wanted(inputs=["image"])).guessed == "--outputs scores"
    assert find_source("frozen.pb", Wanted(inputs=["image"], outputs=["scores"])).guessed == ""


@pytest.mark.usefixtures("source_files")
def test_a_module_is_read_and_not_run() -> None:
    assert find_source("nets:model", Wanted()).environment is environments.TENSORFLOW
    assert find_source("torches:model", Wanted()).environment is environments.TORCH


@pytest.mark.parametrize(
    ("source", "error", "message", "remedy"),
    [
        ("missing", UsageError, "there is no missing", "Give a file"),
        ("no.module:model", UsageError, "there is no module no.module", "Run it from the folder"),
        ("empty", ModelError, "holds no model", "Give the folder"),
        ("near", ModelError, "holds no model", "net.onnx"),
        ("net.pt", ModelError, "is a PyTorch model", "torch.export"),
        ("bare", UsageError, "has no graph: there is no bare.meta", "--graph"),
        ("graph.pb", ModelError, "a graph with variables \\(kernel, ...\\)", "sdk convert PREFIX --graph"),
        ("torches.py", ModelError, "is nothing that is known", "sdk convert"),
    ],
)
@pytest.mark.usefixtures("source_files")
def test_what_is_no_source_is_said(source: str, error: type[SdkError], message: str, remedy: str) -> None:
    with pytest.raises(error, match=message) as caught:
        find_source(source, Wanted())
    assert remedy in caught.value.remedy


def test_loading_a_source_says_how_to_convert_it(source_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(source_files / "frozen.pb")]) == ModelError.exit_code
    assert "sdk convert" in capsys.readouterr().err
