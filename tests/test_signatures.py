"""Models with several signatures: one is chosen by its name, with the graphs that it calls, and is exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdk.cli import main
from sdk.errors import UsageError
from sdk.graph import DType, Graph, Node, Signature, Tensor
from sdk.load import load
from sdk.write import write

ADD = {"fused_activation_function": 0, "pot_scale_int16": True}


def graph(
    name: str, node: Node, dtypes: tuple[DType, ...], outputs: int, signature: Signature | None = None, **more: Graph
) -> Graph:
    """One node from inputs of these types to outputs of float32."""
    kinds = [*dtypes, *[DType.FLOAT32] * outputs]
    tensors = {
        i: Tensor(i, f"{name}{i}", (1,) if kind is DType.BOOL else (1, 4), kind, source=i)
        for i, kind in enumerate(kinds)
    }
    ids = tuple(tensors)
    subgraphs = {int(key.strip("_")): value for key, value in more.items()}
    return Graph(name, tensors, (node,), ids[: len(dtypes)], ids[len(dtypes) :], subgraphs, signature)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three graphs: `double` is the main one, `choose` calls it or the third, which squares."""
    square = graph("square", Node("MUL", (0, 0), (1,), {"fused_activation_function": 0}, 0), (DType.FLOAT32,), 1)
    choice = Node("IF", (0, 1), (2,), {"then_subgraph_index": 0, "else_subgraph_index": 2}, 0)
    choose = graph(
        "choose", choice, (DType.BOOL, DType.FLOAT32), 1, Signature("choose", ("doubled", "value"), ("chosen",))
    )
    double = Node("ADD", (0, 0), (1,), ADD, 0)
    entry = Signature("serving_default", ("value",), ("twice",))
    path = tmp_path / "several.tflite"
    path.write_bytes(write(graph("double", double, (DType.FLOAT32,), 1, entry, _1=choose, _2=square)))
    return path


def test_the_main_graph_is_the_default(model: Path) -> None:
    loaded = load(model)
    assert (loaded.input_names, loaded.output_names) == (("value",), ("twice",))
    assert loaded.nodes[0].op == "ADD"


@pytest.mark.parametrize(("signature", "names"), [("serving_default", ["twice"]), ("choose", ["chosen"])])
def test_each_signature_is_exact(
    model: Path, signature: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(model), "--signature", signature, "--board", "native"]
    assert main(["verify", *words, "--layers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"] >= 5 * 4
    out = model.with_name("out.npz")
    assert main(["run", *words, "--output", str(out)]) == 0
    assert list(np.load(out)) == names


def test_inputs_go_by_the_names_of_the_signature(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.arange(4, dtype=np.float32).reshape(1, 4)
    for doubled, expected in ((True, 2 * values), (False, values * values)):
        np.savez(model.with_name("in.npz"), value=values, doubled=np.array([doubled]))
        words = [str(model), "--signature", "choose", "--board", "native", "--inputs", str(model.with_name("in.npz"))]
        assert main(["run", *words, "--json"]) == 0
        outputs = json.loads(capsys.readouterr().out)["samples"][0]["outputs"]
        assert outputs == {"chosen": expected.tolist()}


def test_which_there_are_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no signature 'train'") as caught:
        load(model, "train")
    assert caught.value.remedy == "It has serving_default, choose."
    assert main(["inspect", str(model), "--signature", "choose"]) == 0
    assert "Signatures: choose, serving_default (this is choose; --signature shows another)" in capsys.readouterr().out
