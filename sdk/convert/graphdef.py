"""The nodes of a TensorFlow graph file, without TensorFlow: enough to say what its inputs and outputs are.

Reads protobuf's wire format by the field numbers of tensorflow/core/framework/{graph,node_def}.proto and
tensorflow/core/protobuf/{meta_graph,saved_model}.proto. The text form is read line by line.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdk.errors import ModelError, UsageError

GRAPH_NODE = 1  # of GraphDef
META_GRAPH_DEF = 2  # of MetaGraphDef: its graph
NODE_NAME, NODE_OP, NODE_INPUT = 1, 2, 3
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
NAMED = 8  # how many nodes a message lists
# Nodes that nobody reads, yet which are no results.
ASIDE = {"Const", "NoOp", "Assert", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "MergeV2Checkpoints"}
ASIDE_OPS = re.compile("Assign|Save|Restore|Resource|VarHandle|Variable|VarIs|IsVariable|Apply|SparseApply|.*Summary")
ASIDE_PREFIXES = ("save/", "save_", "init", "report_uninitialized", "gradients", "train", "global_step")
BRANCH = re.compile("/switch_[tf]$")  # where tf.cond branches
SETTING = re.compile("(keep_prob|is_training|phase_train|training|learning_phase)[^/]*$")  # names of such placeholders


@dataclass(frozen=True)
class GraphNode:
    """A node: its operator, and the names of the nodes whose values it reads (not those it merely comes after)."""

    name: str
    op: str
    inputs: tuple[str, ...]


def read_nodes(path: Path) -> list[GraphNode]:
    """The nodes of a frozen graph (.pb), a graph as text (.pbtxt) or a .meta file. ModelError if it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the graph {path}: {error.strerror}", "Check the path.") from error
    try:
        nodes = parse_nodes(data)
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path} is no graph of TensorFlow, or is damaged: {error}", "Save it anew.") from error
    if not nodes:
        raise ModelError(f"{path} holds no node of a TensorFlow graph", "Give a GraphDef, frozen or with a checkpoint.")
    return nodes


def parse_nodes(data: bytes) -> list[GraphNode]:
    """The nodes in the bytes of a GraphDef, a MetaGraphDef or either's text. ValueError or IndexError if damaged."""
    if is_text(data):
        return list(_text_nodes(data.decode("utf-8", "replace")))
    found = _nodes(data)
    if found and all(node.name and node.op for node in found):
        return found
    return [node for number, graph in _fields(data) if number == META_GRAPH_DEF for node in _nodes(graph)]


def is_text(data: bytes) -> bool:
    """Whether this is the text form of a graph."""
    comments = rb"\s*+(?:#[^\n]*+\s*+)*+"  # possessive: any file comes here, and each byte is looked at once
    return re.match(comments + rb"(?:node|meta_info_def|graph_def|versions|library)\s*+:?\s*+\{", data) is not None


def _nodes(graph: bytes) -> list[GraphNode]:
    return [_node(value) for number, value in _fields(graph) if number == GRAPH_NODE]


def _node(data: bytes) -> GraphNode:
    name, op, inputs = "", "", []
    for number, value in _fields(data):
        text = value.decode("utf-8", "replace") if number in (NODE_NAME, NODE_OP, NODE_INPUT) else ""
        if number == NODE_NAME:
            name = text
        elif number == NODE_OP:
            op = text
        elif number == NODE_INPUT:
            inputs.append(text)
    return GraphNode(name, op, _read(inputs))


def _read(inputs: Sequence[str]) -> tuple[str, ...]:
    return tuple(each.partition(":")[0] for each in inputs if not each.startswith("^"))


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of the fields of one message that hold bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, at = _varint(data, at)
        elif kind == BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError(f"a field of {size} bytes begins at byte {at} of {len(data)}")
            yield number, data[at : at + size]
            at += size
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"a field of the unknown wire type {kind} at byte {at}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"a number at byte {at} does not end")


def _text_nodes(text: str) -> Iterator[GraphNode]:
    """Of each `node { ... }`, the fields at its own level."""
    depth, start = 0, None
    name, op, inputs = "", "", list[str]()
    for raw in text.splitlines():
        line = raw.strip()
        if start is None and re.match(r"node\s*:?\s*\{", line):
            start, name, op, inputs = depth, "", "", []
        elif start is not None and depth == start + 1 and (found := re.match(r'(name|op|input):\s*"(.*)"$', line)):
            if found[1] == "name":
                name = found[2]
            elif found[1] == "op":
                op = found[2]
            else:
                inputs.append(found[2])
        bare = re.sub(r'"(\\.|[^"\\])*"', "", line)
        depth += bare.count("{") - bare.count("}")
        if start is not None and depth <= start:
            start = None
            yield GraphNode(name, op, _read(inputs))


def suggested_inputs(nodes: Sequence[GraphNode]) -> list[str]:
    """The placeholders that something reads. Those that have a default, or tell training from use, keep that."""
    read = {name for node in nodes for name in node.inputs}
    found = [node for node in nodes if node.op.startswith("Placeholder") and node.name in read]
    plain = [node for node in found if node.op != "PlaceholderWithDefault" and not SETTING.search(node.name)]
    return [node.name for node in plain or found]


def suggested_outputs(nodes: Sequence[GraphNode]) -> list[str]:
    """The nodes whose values nobody reads, without those of training and saving."""
    own = _of_use(nodes) if any(re.match(r"(Resource)?(Sparse)?Apply", node.op) for node in nodes) else nodes
    read = {name for node in own for name in node.inputs} | _judging(own, nodes)
    kinds = ASIDE | {node.op for node in nodes if ASIDE_OPS.match(node.op)}
    return [
        node.name
        for node in own
        if node.name not in read and node.op not in kinds and not node.name.startswith(ASIDE_PREFIXES)
        if not BRANCH.search(node.name)
    ]


def _judging(own: Sequence[GraphNode], nodes: Sequence[GraphNode]) -> set[str]:
    """The nodes of `own` that only serve to compare with labels: the class that is likeliest, for the accuracy."""
    read = {name for node in nodes for name in node.inputs}
    return {node.name for node in own if node.op == "ArgMax" and node.name in read}


def _of_use(nodes: Sequence[GraphNode]) -> list[GraphNode]:
    """Of a graph that trains, the nodes that use what was trained: they depend on variables and on inputs, but not on
    labels too."""
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.name)
    trained = _reached([node.name for node in nodes if re.match("Variable|VarHandle", node.op)], readers)
    heads = suggested_inputs(nodes)
    times = Counter(name for head in heads for name in _reached([head], readers) if name in trained)
    fewest = min(times.values(), default=0)
    return [n for n in nodes if times[n.name] == fewest and n.name in times and not n.name.startswith(ASIDE_PREFIXES)]


def _reached(names: Sequence[str], onward: Mapping[str, Sequence[str]]) -> set[str]:
    """`names`, and all that follows."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += onward.get(name, ())
    return found


def check_names(nodes: Sequence[GraphNode], names: Sequence[str], option: str) -> None:
    """UsageError, with the nodes whose names are near, if a node of `names` is missing."""
    known = {node.name for node in nodes}
    missing = next((name for name in names if name.partition(":")[0] not in known), None)
    if missing is None:
        return
    wanted = missing.partition(":")[0]
    close = difflib.get_close_matches(wanted, known, n=NAMED, cutoff=0.5)
    close += sorted(name for name in known if wanted.rpartition("/")[2] in name and name not in close)[
        : NAMED - len(close)
    ]
    suggested = suggested_inputs(nodes) if option == "--inputs" else suggested_outputs(nodes)
    near = f"Near it: {', '.join(close)}. " if close else ""
    raise UsageError(
        f"the graph has no node '{missing}' ({option})",
        f"{near}It looks as if {option} {','.join(suggested[:NAMED]) or '(none found)'} were meant.",
    )


def chosen(nodes: Sequence[GraphNode], names: Sequence[str], option: str) -> list[str]:
    """`names` after `check_names`; where none are given, what the graph suggests. UsageError if that is not plain."""
    if names:
        check_names(nodes, names, option)
        return list(names)
    found = suggested_inputs(nodes) if option == "--inputs" else suggested_outputs(nodes)
    if 1 <= len(found) <= NAMED:
        return found
    what = f"{len(found)} nodes could be: {', '.join(found[:NAMED])}, ..." if found else "no node looks like one"
    raise UsageError(f"the graph does not say what its {option.strip('-')} are; {what}", f"Name them: {option} A,B.")


def ends(nodes: Sequence[GraphNode], inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, list[str]]:
    """The inputs and outputs of a graph, as far as they are given, else as `chosen` suggests them: no placeholder is an
    input that the outputs do not need, as those that checkpoints are saved by."""
    last = chosen(nodes, outputs, "--outputs")
    return {"inputs": chosen(nodes if inputs else _needed(nodes, last), inputs, "--inputs"), "outputs": last}


def _needed(nodes: Sequence[GraphNode], outputs: Sequence[str]) -> list[GraphNode]:
    """The nodes that `outputs` are computed from."""
    found = _reached([name.partition(":")[0] for name in outputs], {node.name: node.inputs for node in nodes})
    return [node for node in nodes if node.name in found]
