"""What a graph suggests its inputs and outputs are, where it was saved with all that trains it."""

from __future__ import annotations

from sdk.convert.graphdef import GraphNode, ends, suggested_inputs

# image -> dropout by keep_prob -> logits -> scores; a loss of the label, its gradient, an optimizer, initializers.
TRAINING = [
    GraphNode("image", "Placeholder", ()),
    GraphNode("label", "Placeholder", ()),
    GraphNode("keep_prob/input", "Const", ()),
    GraphNode("keep_prob", "PlaceholderWithDefault", ("keep_prob/input",)),
    GraphNode("w", "VarHandleOp", ()),
    GraphNode("w/Read", "ReadVariableOp", ("w",)),
    GraphNode("w/IsInitialized", "VarIsInitializedOp", ("w",)),
    GraphNode("drop", "Mul", ("image", "keep_prob")),
    GraphNode("logits", "MatMul", ("drop", "w/Read")),
    GraphNode("scores", "Softmax", ("logits",)),
    GraphNode("xent/Shape", "Shape", ("label",)),
    GraphNode("xent", "SparseSoftmaxCrossEntropyWithLogits", ("logits", "label")),
    GraphNode("loss", "Mean", ("xent",)),
    GraphNode("loss_summary", "ScalarSummary", ("loss",)),
    GraphNode("gradients/w", "MatMul", ("drop", "xent")),
    GraphNode("Adam/update_w", "ResourceApplyAdam", ("w", "gradients/w")),
    GraphNode("beta1_power/IsInitialized", "VarIsInitializedOp", ("beta1_power",)),
    GraphNode("beta1_power", "VarHandleOp", ()),
    GraphNode("cond/Switch", "Switch", ("drop", "w/Read")),
    GraphNode("cond/switch_t", "Identity", ("cond/Switch",)),
    GraphNode("save/Const", "Const", ()),
]


def test_a_graph_that_trains_has_the_outputs_of_its_use() -> None:
    assert ends(TRAINING, [], []) == {"inputs": ["image"], "outputs": ["scores"]}
    without = [node for node in TRAINING if node.name != "scores"]
    assert ends(without, [], [])["outputs"] == ["logits"]


def test_a_placeholder_with_a_default_is_no_input_beside_others() -> None:
    assert suggested_inputs(TRAINING) == ["image", "label"]
    alone = [GraphNode("x", "PlaceholderWithDefault", ("c",)), GraphNode("y", "Relu", ("x",))]
    assert suggested_inputs(alone) == ["x"]
