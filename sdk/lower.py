"""Graph -> Program: choose kernels, pack their constants, plan the arena.

`lower(graph, target)` runs the passes, asks each operator for its steps, and lays the buffers out. The result carries
what people and tools want to know of it (`StepInfo`, `Plan`) beside the program's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdk import passes
from sdk.bounds import float_bounds
from sdk.elide import spare_copies
from sdk.errors import ModelError, UnsupportedError
from sdk.graph import Array, DType, Graph, Node, Tensor
from sdk.memory import WeightsInRam, in_fast_ram, weights_to_ram
from sdk.ops import registry as shipped_registry
from sdk.ops.base import Kernel, Registry, View, naming
from sdk.order import ordered
from sdk.overlap import Overlap
from sdk.passes.complete_shapes import complete_shapes
from sdk.plan import Plan
from sdk.program import ALIGNMENT, NO_OPERAND, Constants, Operand, Profile, Program, Region, Step, TensorSpec
from sdk.stripes import in_stripes
from sdk.target import Optimize, Target
from sdk.variants import variants_for
from sdk.variants.base import PortableStep, by_kernel


@dataclass(frozen=True)
class Value:
    """Where a tensor or scratch lies before the plan is made: a buffer of the arena or the state, or a constant."""

    region: Region
    buffer: int  # its number among the buffers, or for Region.PROGRAM among the constants
    bytes: int
    offset: int = 0  # into the buffer: a view of a part of it

    def part(self, offset: int, count: int) -> Value:
        """The bytes from `offset` on, `count` of them."""
        if offset < 0 or offset + count > self.bytes:
            raise ValueError(f"part {offset}+{count} of {self}")
        return replace(self, offset=self.offset + offset, bytes=count)

    def moved(self, buffer: int, to: Value) -> Value:
        """This value where `buffer` of the arena lies in `to`."""
        if self.region is not Region.ARENA or self.buffer != buffer:
            return self
        return replace(to, offset=to.offset + self.offset, bytes=self.bytes)


ABSENT = Value(Region.NONE, 0, 0)


@dataclass(frozen=True)
class Watch:
    """A tensor of the model that can be read after a step, and how its value maps to the oracle's.

    oracle value = stored value + `offset`; equal bit for bit for integers, within (`absolute`, `relative`) for float.
    """

    tensor: int  # index in the model file's main subgraph
    name: str
    operand: Operand
    dtype: DType
    shape: tuple[int, ...]
    offset: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    start: int | None = None  # the element of the oracle's tensor that the first one is, if it is a part of it


@dataclass(frozen=True)
class StepInfo:
    """What is known of one step beside its bytes."""

    name: str  # operator and node, e.g. "CONV_2D (node 3)"
    kernel: str
    macs: int
    outputs: tuple[Watch, ...] = ()


@dataclass(frozen=True)
class Lowered:
    """A lowered model: the program, its bytes, and what is known of its making."""

    name: str
    program: Program
    block: bytes = field(repr=False)
    steps: tuple[StepInfo, ...]
    plan: Plan
    fast: Plan  # of what lies in fast RAM
    weights: tuple[WeightsInRam, ...]
    kernels: tuple[Kernel, ...]
    macs: int
    # Bounds of float outputs, by output; (0, 0) for integers.
    bounds: tuple[tuple[float, float], ...]
    target: Target

    @property
    def memory_bytes(self) -> int:
        """What it takes of RAM and flash together."""
        return self.program.ram_bytes + self.program.fast_bytes + len(self.block)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.program.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.program.outputs


# Each of n subgraphs may call the next one twice: 2^n copies of the last.
NESTING, INLINED_NODES = 16, 2000
STATE_LIMIT_BYTES = 1 << 25  # a damaged file of a few bytes can claim any size
END = -1  # where a jump to the end of the program leads


@dataclass
class Draft:
    """A step before its operands have their places."""

    kernel: Kernel
    args: bytes
    values: tuple[Value, ...]
    node: Node
    macs: int
    overlaps: tuple[Overlap, ...]
    # (tensor, value) of the node's outputs, for steps of the main graph.
    watched: tuple[tuple[Tensor, Value], ...] = ()
    target: int | None = None  # of a jump: the number of a step

    def move(self, buffer: int, to: Value) -> None:
        """Lets what lies in `buffer` of the arena lie in `to`."""
        self.values = tuple(value.moved(buffer, to) for value in self.values)
        self.watched = tuple((tensor, value.moved(buffer, to)) for tensor, value in self.watched)

    def encoded(self, numbers: Sequence[int]) -> bytes:
        """The arguments; `numbers` maps the numbers of drafts to those of the program's steps."""
        if self.target is None:
            return self.args
        return self.kernel.args.pack({**self.kernel.args.unpack(self.args), "target": numbers[self.target]})


class Lowering:
    """What an operator's `lower` works with: it turns tensors into values and adds steps."""

    def __init__(self, graph: Graph, target: Target, registry: Registry, *, assembling: bool = False) -> None:
        self.root = graph
        self.graph = graph  # the graph whose nodes are being lowered: the root or a subgraph
        self.target = target
        self.registry = registry
        self.macs = 0
        self.constants: list[tuple[bytes, int]] = []  # (data, alignment)
        self.variants = by_kernel(variants_for(target.profile))
        self.steps: list[Draft] = []
        self.buffer_bytes: list[int] = []
        self.labels: list[str] = []
        self.values: dict[int, Value] = {}
        self.state_image = bytearray()
        self.variables: dict[str, Value] = {}
        self.calls: list[int] = []
        self.inlined = 0  # nodes, in all calls
        self.loops: list[tuple[int, int]] = []
        self.node: Node | None = None
        self.assembling = assembling  # whether operators may `reserve`
        self.reserved = False  # whether one did

    def value(self, tensor: Tensor) -> Value:
        """Where `tensor` lies; a constant's data joins the program as it is."""
        if tensor.id not in self.values:
            if tensor.data is not None:
                self.values[tensor.id] = self.constant(tensor.data)
            elif tensor.variable:
                self.values[tensor.id] = self._variable_tensor(tensor)
            else:
                self.values[tensor.id] = self._buffer(tensor.bytes, tensor.name)
        return self.values[tensor.id]

    def alias(self, tensor: Tensor, value: Value) -> None:
        """Lets `tensor` be the same bytes as `value`: a view, which costs no step."""
        self.values[tensor.id] = value

    def reserve(self, tensor: Tensor, value: Value) -> None:
        """Lets the node that makes `tensor` write it to `value`, a part of what a later node puts together of it.

        Does nothing where the tensor has its place already, where its bytes may stay in the state, and where an output
        would lie at an odd place. The node may still decide otherwise.
        """
        maker = self.graph.producers().get(tensor.id)
        odd = tensor.id in self.graph.outputs and value.offset % ALIGNMENT
        if odd or tensor.id in self.values or maker is None or maker.op == "READ_VARIABLE":
            return
        self.values[tensor.id] = value
        self.reserved = True

    def scratch(self, count: int) -> Value:
        """`count` bytes of the arena for the next step alone; their content is undefined."""
        return self._buffer(count, "scratch")

    def constant(self, data: Array, alignment: int = 0) -> Value:
        """`data` in the program, aligned to its element size or to `alignment` bytes; equal data is stored once."""
        little = np.ascontiguousarray(data).astype(data.dtype.newbyteorder("<"), copy=False).tobytes()
        self.constants.append((little, max(alignment, data.dtype.itemsize)))
        return Value(Region.PROGRAM, len(self.constants) - 1, len(little))

    def data(self, value: Value, dtype: DType) -> Array:
        """What a constant holds, flat."""
        data, _ = self.constants[value.buffer]
        little = dtype.numpy.newbyteorder("<")
        return np.frombuffer(data[value.offset : value.offset + value.bytes], little).astype(dtype.numpy)

    def state(self, count: int) -> Value:
        """`count` bytes that live across inferences and start as zeros, or as `set_initial` says."""
        offset = len(self.state_image)
        if offset + count > STATE_LIMIT_BYTES:
            raise UnsupportedError(f"the model's state needs {offset + count:,} bytes; no microcontroller has them")
        self.state_image += bytes(-(-count // ALIGNMENT) * ALIGNMENT)
        return Value(Region.STATE, 0, count, offset)

    def variable(self, name: str, count: int) -> Value:
        """The state of the variable `name`, the same for every node that names it. ModelError if the sizes differ."""
        value = self.variables.setdefault(name, ABSENT)
        if value is ABSENT:
            value = self.variables[name] = self.state(count)
        if value.bytes != count:
            raise ModelError(f"the variable '{name}' is used with {count} bytes and with {value.bytes}")
        return value

    def _variable_tensor(self, tensor: Tensor) -> Value:
        """The state of a tensor that is itself a variable: one, however often its subgraph is called.

        It starts at real zero as an int8 tensor, at stored zero as any other: what both oracles do.
        """
        value = self.variable(f"{self.calls[-1] if self.calls else 0}:{tensor.id}", tensor.bytes)
        if tensor.dtype is DType.INT8 and tensor.quantization is not None:
            self.set_initial(value, np.full(tensor.elements, tensor.zero_point, np.int8))
        return value

    def set_initial(self, value: Value, data: Array) -> None:
        """Makes `data` what the state at `value` holds when a session starts."""
        raw = np.ascontiguousarray(data).tobytes()
        if value.region is not Region.STATE or len(raw) != value.bytes:
            raise ValueError(f"{len(raw)} bytes for {value}")
        self.state_image[value.offset : value.offset + len(raw)] = raw

    def inline(self, index: int, arguments: Sequence[Value]) -> list[Value]:
        """Adds the steps of subgraph `index` here, its inputs being `arguments`; returns where its outputs lie."""
        outer = self.graph, self.values, self.node
        if index not in self.root.subgraphs:
            raise ModelError(f"there is no subgraph {index}")
        graph = self.root.subgraphs[index]
        wanted = [graph.tensor(i).bytes for i in graph.inputs]
        if wanted != [value.bytes for value in arguments]:
            raise ModelError(f"subgraph {index} takes inputs of {wanted} bytes, not what it is called with")
        if index in self.calls:
            raise UnsupportedError(
                f"subgraph {index} calls itself", "Recursion cannot run on a microcontroller; unroll it."
            )
        self.inlined += len(graph.nodes)
        if len(self.calls) >= NESTING or self.inlined > INLINED_NODES:
            raise UnsupportedError(f"subgraphs call each other {NESTING} deep, or with {INLINED_NODES} nodes in all")
        self.calls.append(index)
        self.graph, self.values = graph, dict(zip(graph.inputs, arguments, strict=True))
        self.add_nodes()
        outputs = [self.value(graph.tensor(i)) for i in graph.outputs]
        self.calls.pop()
        self.graph, self.values, self.node = outer
        return outputs

    def add_nodes(self) -> None:
        """Adds the steps of all nodes of the current graph."""
        # What is put together of parts that are put together themselves comes first.
        for node in reversed(self.graph.nodes if self.assembling else ()):
            with naming(node):
                self.registry.op(node).reserve(View(self.graph, node), self)
        for node in self.graph.nodes:
            view = View(self.graph, node)
            op = self.registry.op(node)
            self.node = node
            before = len(self.steps)
            with naming(node):
                op.lower(view, self)
            macs = op.macs(view)
            self.macs += macs
            # After the last step of a loop its outputs are those of any round.
            looped = any(end == len(self.steps) for _, end in self.loops)
            if len(self.steps) > before and not self.calls and not looped:
                outputs = [tensor for tensor in view.outputs if tensor.source is not None and tensor.id in self.values]
                self.steps[-1].watched = tuple((tensor, self.values[tensor.id]) for tensor in outputs)
            # A node's MACs belong to its last step unless the operator has spread them itself.
            if macs and len(self.steps) > before and not any(step.macs for step in self.steps[before:]):
                self.steps[-1].macs = macs

    def loop(self, first: int) -> None:
        """Says that control may go back from the step added next to step `first`: what lives there lives throughout."""
        self.loops.append((first, len(self.steps)))

    def step(
        self,
        kernel: Kernel,
        args: Mapping[str, Any],
        values: Sequence[Value],
        *,
        macs: int = 0,
        in_place: Sequence[tuple[int, int]] = (),
        overlaps: Sequence[Overlap] = (),
    ) -> None:
        """Adds a call of `kernel`, or of a variant that serves the target better. `values` are its operands, in the
        order of its slots.

        `overlaps` says which written operands may lie over read ones; `in_place` lists the (read, written) pairs for
        which `Overlap(read, written)` holds: they may be the same bytes.
        """
        if len(values) != len(kernel.slots):
            raise ValueError(f"{kernel.name} takes {len(kernel.slots)} operands, got {len(values)}")
        assert self.node is not None
        overlaps = (*overlaps, *(Overlap(*pair) for pair in in_place))
        portable = PortableStep(self, kernel, args, tuple(values), overlaps)
        if any(variant.lower(portable, self) for variant in self.variants.get(kernel.name, ())):
            return
        draft = Draft(kernel, kernel.args.pack(args), tuple(values), self.node, macs, overlaps)
        self.steps.append(draft)

    def jump(self, kernel: Kernel, values: Sequence[Value], args: Mapping[str, Any] | None = None) -> int:
        """Adds a jump to the end of the program, or to where `land` says later; returns the number of its step.

        Where a jump leads to the end, the outputs keep the values of the last inference that made them.
        """
        self.step(kernel, {"target": 0, **(args or {})}, values)
        self.steps[-1].target = END
        return len(self.steps) - 1

    def land(self, jump: int, target: int | None = None) -> None:
        """Lets the jump at step `jump` lead to step `target`, or to the step that is added next."""
        self.steps[jump].target = len(self.steps) if target is None else target

    def _buffer(self, count: int, label: str) -> Value:
        self.buffer_bytes.append(count)
        self.labels.append(label)
        return Value(Region.ARENA, len(self.buffer_bytes) - 1, count)


def lower(
    graph: Graph,
    target: Target | None = None,
    registry: Registry | None = None,
    watch: Callable[[str, Graph], None] | None = None,
) -> Lowered:
    """The program of `graph` for `target`. ModelError or UnsupportedError, naming the node, where there is none.
    `watch` is called with each pass's name and the graph after it."""
    target = target or Target()
    registry = registry or shipped_registry()
    graph = complete_shapes(graph, registry)
    for tensor in map(graph.tensor, (*graph.inputs, *graph.outputs)):
        if not tensor.dtype.on_device:
            name = tensor.dtype.name.lower()
            raise UnsupportedError(f"the model takes or gives {tensor.label} as {name}, which no kernel does")
    check_operators(graph, registry)
    lowered = passes.run_all(graph, registry, watch)
    whole = _lower_nodes(lowered, target, registry)
    if target.optimize is Optimize.speed:
        return whole
    return in_stripes(lowered, whole, lambda changed: _lower_nodes(changed, target, registry))


def _lower_nodes(graph: Graph, target: Target, registry: Registry) -> Lowered:
    results = []
    for assembling in (True, False):
        low = Lowering(graph, target, registry, assembling=assembling)
        for tensor_id in graph.inputs:
            low.value(graph.tensor(tensor_id))
        low.add_nodes()
        results.append(_finish(low, registry))
        if not low.reserved:
            break
    return _better(results)


def _better(results: Sequence[Lowered]) -> Lowered:
    """Parts that are made where they are needed spare copies, but their buffer lives from the first part on."""
    return min(results, key=lambda result: (result.plan.arena_bytes + result.fast.arena_bytes, len(result.block)))


def check_operators(graph: Graph, registry: Registry) -> None:
    """Lets every operator check its nodes, subgraphs included."""
    for each in (graph, *graph.subgraphs.values()):
        for node in each.nodes:
            with naming(node):
                registry.op(node).check(View(each, node))


def _finish(low: Lowering, registry: Registry) -> Lowered:
    lowered = low.graph
    for tensor in map(lowered.tensor, lowered.outputs):
        if tensor.data is not None:  # outputs are aligned for the application
            low.alias(tensor, low.constant(tensor.data, ALIGNMENT))
    outputs = [low.value(lowered.tensor(i)) for i in lowered.outputs]
    inputs = [low.value(lowered.tensor(i)) for i in lowered.inputs]
    if any(draft.target == END for draft in low.steps):
        outputs = _lasting(low, inputs, outputs)
    numbers = spare_copies(low, [*inputs, *outputs])
    weights = weights_to_ram(low)
    fast, layout = in_fast_ram(low, ordered(low, outputs), low.target.fast_bytes)

    constants = Constants()

    def place(value: Value) -> Operand:
        base = 0
        if value.region is Region.NONE:
            return NO_OPERAND
        if value.region is Region.PROGRAM:
            base = constants.add(*low.constants[value.buffer]).offset
        if value.region is Region.ARENA and value.buffer in fast.offsets:
            return Operand(Region.FAST, fast.offsets[value.buffer] + value.offset, value.bytes)
        if value.region is Region.ARENA:
            base = layout.offsets[value.buffer]
        return Operand(value.region, base + value.offset, value.bytes)

    names = {False: lowered.inputs, True: lowered.outputs}
    specs = {
        output: tuple(_spec(lowered, i, k, output, place(v)) for k, (i, v) in enumerate(zip(ids, vals, strict=True)))
        for (output, ids), vals in zip(names.items(), (inputs, outputs), strict=True)
    }
    kernels = tuple(sorted({d.kernel.number: d.kernel for d in low.steps}.values(), key=lambda kernel: kernel.number))
    profile = max((k.profile for k in kernels), default=Profile.portable)
    steps = tuple(Step(d.kernel.number, d.encoded(numbers), tuple(place(v) for v in d.values)) for d in low.steps)
    program = Program(
        profile=profile,
        arena_bytes=layout.arena_bytes,
        fast_bytes=fast.arena_bytes,
        state_bytes=len(low.state_image),
        state_image=bytes(low.state_image).rstrip(b"\0"),
        inputs=specs[False],
        outputs=specs[True],
        steps=steps,
        constants=bytes(constants.data),
        kernels=tuple(kernel.name for kernel in kernels),
    )
    exact_to = float_bounds(lowered, registry)
    infos = tuple(_info(draft, exact_to, place) for draft in low.steps)
    bounds = tuple(exact_to.get(i, (0.0, 0.0)) for i in lowered.outputs)
    return Lowered(
        lowered.name, program, program.encode(), infos, layout, fast, weights, kernels, low.macs, bounds, low.target
    )


def _lasting(low: Lowering, inputs: Sequence[Value], outputs: Sequence[Value]) -> list[Value]:
    """Where the outputs lie when their buffers have moved to the state."""
    kept = {value.buffer for value in inputs if value.region is Region.ARENA}
    lasting = list(outputs)
    for buffer in sorted({value.buffer for value in outputs if value.region is Region.ARENA} - kept):
        state = low.state(low.buffer_bytes[buffer])
        for draft in low.steps:
            draft.move(buffer, state)
        lasting = [value.moved(buffer, state) for value in lasting]
    return lasting


def _spec(graph: Graph, tensor_id: int, position: int, output: bool, operand: Operand) -> TensorSpec:
    tensor = graph.tensor(tensor_id)
    quantization = tensor.quantization
    name = (graph.output_names if output else graph.input_names)[position]
    scale = quantization.scale[0] if quantization is not None else 0.0
    zero_point = quantization.zero_point[0] if quantization is not None else 0
    return TensorSpec(name, tensor.shape, tensor.dtype, scale, zero_point, operand)


def _info(draft: Draft, bounds: Mapping[int, tuple[float, float]], place: Callable[[Value], Operand]) -> StepInfo:
    watches = []
    for tensor, value in draft.watched:
        assert tensor.source is not None
        bound = bounds.get(tensor.id, (0.0, 0.0))
        watches.append(
            Watch(
                tensor.source,
                tensor.name,
                place(value),
                tensor.dtype,
                tensor.shape,
                tensor.source_offset,
                *bound,
                start=tensor.source_start,
            )
        )
    return StepInfo(draft.node.label, draft.kernel.name, draft.macs, tuple(watches))
