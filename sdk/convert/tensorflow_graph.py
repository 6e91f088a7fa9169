"""Graphs of TensorFlow 1 as they are used, not trained: what only training sets is set, and dropout that drops nothing
is taken out."""

from __future__ import annotations

import difflib
import re
from typing import Any

import numpy as np
import tensorflow as tf

KEEP = "keep_prob"
ALMOST_ONE = 1 - 2.0**-23  # the largest number that is drawn
MASKED = "Mul", "Select", "SelectV2"
RANDOM = "RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"


def settle(graph: Any, inputs: list[str]) -> None:
    """Placeholders beside `inputs` get their default; without one, a switch is off and keep_prob is 1. Then dropout
    goes."""
    for node in graph.node:
        if node.name in inputs:
            continue
        if node.op == "PlaceholderWithDefault":
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
        elif node.op in ("Placeholder", "PlaceholderV2") and (value := _setting(node)) is not None:
            node.op = "Const"
            node.attr.pop("shape", None)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    _without_dead_branches(graph)
    _without_dropout(graph)


def check_node(graph: Any, name: str) -> None:
    """ValueError, with the nodes whose names are near, for a tensor or node that a graph has not."""
    known = [operation.name for operation in graph.get_operations()]
    if name.partition(":")[0] not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
        raise ValueError(f"the graph has no node '{name}'", f"Near it: {', '.join(near) or 'none'}.")


def pruned_to(function: Any, inputs: list[Any], outputs: list[Any]) -> Any:
    """A function of a graph from its inputs to its outputs. ValueError if these need another placeholder."""
    try:
        return function.prune(inputs, outputs)
    except Exception as error:
        needed = re.search(r"on placeholder <tf\.Operation '([^']+)'", str(error))
        if needed is None:
            raise
        raise ValueError(
            f"the outputs need the placeholder '{needed[1]}', which is no input",
            "Name it among the inputs: --inputs A,B.",
        ) from error


def _without_dead_branches(graph: Any) -> None:
    """Takes the branches of tf.cond whose condition is settled by now, and leaves the others out: what they assign
    cannot even be imported from a frozen graph."""
    nodes = {node.name: node for node in graph.node}
    dead: set[str] = set()
    for node in graph.node:
        if node.op in ("Switch", "RefSwitch") and (chosen := _constant(nodes, node.input[1])) is not None:
            dead.add(f"{node.name}:{0 if chosen else 1}")
            del node.input[1]
            node.attr.pop("_class", None)  # where it lay, perhaps beside what is left out
            node.op = "Identity"
    if not dead:
        return
    found = -1
    while found != len(dead):  # until nothing more follows
        found = len(dead)
        dead |= {node.name for node in graph.node if _is_dead(node, dead)}
    living = [node for node in graph.node if node.name not in dead]
    for node in living:
        if node.op == "Merge":
            alive = [name for name in node.input if not _is_of(name, dead)]
            node.attr.pop("N", None)
            node.op = "Identity"
            node.input[:] = alive
        # Of a Switch that was, the second output is the only one now.
        node.input[:] = [name.removesuffix(":1") if _was_switch(nodes, name) else name for name in node.input]
    del graph.node[:]
    graph.node.extend(living)


def _is_dead(node: Any, dead: set[str]) -> bool:
    judged = [_is_of(name, dead) for name in node.input]
    return bool(judged) and (all(judged) if node.op == "Merge" else any(judged))


def _is_of(name: str, dead: set[str]) -> bool:
    plain = name.removeprefix("^")
    return plain in dead or plain.partition(":")[0] in dead or (":" not in plain and f"{plain}:0" in dead)


def _was_switch(nodes: Any, name: str) -> bool:
    node = nodes.get(name.partition(":")[0])
    return name.endswith(":1") and node is not None and node.op == "Identity"


def _constant(nodes: Any, name: str) -> Any:
    """The value of a constant, also behind Identity nodes; None for anything else."""
    node = nodes.get(name.partition(":")[0])
    while node is not None and node.op == "Identity":
        node = nodes.get(node.input[0].partition(":")[0])
    return tf.make_ndarray(node.attr["value"].tensor) if node is not None and node.op == "Const" else None


def _setting(node: Any) -> Any:
    """The value of a placeholder that tells training from use; None for any other."""
    if node.attr["dtype"].type == tf.bool.as_datatype_enum:
        return np.bool_(False)
    is_kept = KEEP in node.name and node.attr["dtype"].type == tf.float32.as_datatype_enum
    return np.float32(1) if is_kept else None


def _without_dropout(graph: Any) -> None:
    """Replaces what is multiplied by, or chosen by, a mask that is 1 whatever number is drawn."""
    if not any(node.op in RANDOM for node in graph.node):
        return
    v1 = tf.compat.v1
    with v1.Graph().as_default() as plain, v1.Session() as session:
        v1.import_graph_def(graph, name="")
        for node in graph.node:
            masks = [_mask(plain, name) for name in node.input] if node.op in MASKED else []
            place = next((i for i, mask in enumerate(masks) if mask is not None), None)
            if place is None or not _is_all_one(session, *masks[place]):
                continue
            kept = node.input[1 if place == 0 else 0]
            del node.input[:]
            node.input.append(kept)
            node.op = "Identity"
            node.attr.pop("Tidx", None)


def _mask(plain: Any, name: str) -> Any:
    """A tensor that is computed of one drawing of random numbers and of constants, and that drawing; else None."""
    if name.startswith("^"):
        return None
    tensor = plain.as_graph_element(name if ":" in name else f"{name}:0")
    drawn, waiting, seen = None, [tensor], set()
    while waiting:
        op = waiting.pop().op
        if op.type in RANDOM:
            drawn = op.outputs[0]
        elif op.type.startswith(("Placeholder", "Var")):
            return None
        elif op.name not in seen:
            seen.add(op.name)
            waiting += op.inputs
    return None if drawn is None else (tensor, drawn)


def _is_all_one(session: Any, mask: Any, drawn: Any) -> bool:
    shape = [size or 1 for size in drawn.shape.as_list()] if drawn.shape.rank is not None else [1]
    low, high = (np.full(shape, value, np.float32) for value in (0, ALMOST_ONE))
    return all(bool(np.all(session.run(mask, {drawn: values}) == 1)) for values in (low, high))
