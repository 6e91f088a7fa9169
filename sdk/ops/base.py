"""What an operator's file says of it: the classes that every `sdk/ops/<operator>.py` uses.

An operator is a subclass of `Op`, listed in its module's `OPS`; its kernels are `Kernel` objects. `sdk.ops` discovers
both, so that nothing else names an operator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sdk.errors import ModelError, SdkError, UnsupportedError
from sdk.graph import Array, DType, Graph, Node, Quantization, Tensor
from sdk.program import MAX_OPERANDS, Profile, Struct

if TYPE_CHECKING:
    from sdk.lower import Lowering


# The lowest and the highest value of a tensor: one for all of it, or one for each element.
Range = tuple[int, int] | tuple[Array, Array]

CUSTOM_KERNELS = 0x8000  # the first kernel number of users


@dataclass(frozen=True)
class Slot:
    """One operand of a kernel: its name, the element type it is aligned for, and what the kernel does with it."""

    name: str
    dtype: DType
    written: bool = False
    optional: bool = False


def read(name: str, dtype: DType, optional: bool = False) -> Slot:
    """An operand that the kernel reads."""
    return Slot(name, dtype, optional=optional)


def write(name: str, dtype: DType) -> Slot:
    """An operand that the kernel writes (and may read)."""
    return Slot(name, dtype, written=True)


@dataclass(frozen=True)
class Kernel:
    """One C function `ml_<name>` with its check `ml_<name>_check`, its arguments and operands.

    `number` is what programs name it by and is never given to another kernel; a user's own start at 0x8000. `source` is
    its file, relative to firmware/src/kernels; a user's own has an absolute path.
    """

    name: str
    number: int
    source: str
    args: Struct
    slots: tuple[Slot, ...]
    profile: Profile = Profile.portable
    copies: bool = False  # it copies operand 0 to operand 1, and no more; lowering may then do without it

    def __post_init__(self) -> None:
        if len(self.slots) > MAX_OPERANDS:
            raise ValueError(f"kernel {self.name} has {len(self.slots)} operands; at most {MAX_OPERANDS} are possible")


@dataclass(frozen=True)
class Bound:
    """How far a float32 result may be from the oracle's: |device - oracle| <= absolute + relative * |oracle|."""

    absolute: float
    relative: float
    reason: str


@dataclass(frozen=True)
class Case:
    """One test of an operator: a graph, and inputs where random ones over the whole range would not do."""

    name: str
    graph: Graph
    inputs: Sequence[tuple[Array, ...]] = ()


@contextmanager
def naming(node: Node) -> Iterator[None]:
    """Lets every error inside name `node`; a number that leads out of what its type can hold is one."""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            yield
    except ArithmeticError as error:
        message = "its scales, options or constants are too large or too small to compute with"
        raise ModelError(f"{node.label}: {message}") from error
    except SdkError as error:
        if node.label not in error.message:
            error.message = f"{node.label}: {error.message}"
        raise


class View:
    """A node in its graph, with the look-ups that operators need; every failure names the node."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node

    @property
    def label(self) -> str:
        return self.node.label

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def input(self, index: int = 0) -> Tensor:
        if not self.has(index):
            raise ModelError(f"{self.label} has no input {index}")
        return self.graph.tensor(self.node.inputs[index])

    def output(self, index: int = 0) -> Tensor:
        if index >= len(self.node.outputs):
            raise ModelError(f"{self.label} has no output {index}")
        return self.graph.tensor(self.node.outputs[index])

    @property
    def inputs(self) -> list[Tensor]:
        """The inputs that are given."""
        return [self.graph.tensor(i) for i in self.node.inputs if i is not None]

    @property
    def outputs(self) -> list[Tensor]:
        return [self.graph.tensor(i) for i in self.node.outputs]

    def constant(self, index: int) -> Array:
        """The data of a constant input. UnsupportedError where the model computes it."""
        tensor = self.input(index)
        if tensor.data is None:
            raise self.unsupported(f"needs its input {index}, {tensor.label}, to be a constant")
        return tensor.data

    def option(self, name: str, default: Any = 0) -> Any:
        return self.node.options.get(name, default)

    def need(self, condition: bool, message: str) -> None:
        """Raises ModelError with `message` unless `condition` holds."""
        if not condition:
            raise ModelError(f"{self.label}: {message}")

    def same_quantization(self, a: Tensor, b: Tensor) -> bool:
        if a.quantization is None or b.quantization is None:
            return a.quantization is b.quantization
        return (a.scale, a.zero_point) == (b.scale, b.zero_point)

    def unsupported(self, message: str, remedy: str = "") -> UnsupportedError:
        return UnsupportedError(
            f"{self.label} {message}",
            remedy or "Change the model, or write a custom operator (docs/custom-operators.md).",
        )

    def dtypes(self) -> str:
        return ", ".join(tensor.dtype.numpy_name for tensor in self.inputs) + " -> " + self.output().dtype.numpy_name


class Op(ABC):
    """One operator of the .tflite schema (or several that differ by a detail)."""

    names: ClassVar[tuple[str, ...]]
    kernels: ClassVar[tuple[Kernel, ...]] = ()
    # Types as the documentation's table shows them, and what is not supported, in words.
    types: ClassVar[tuple[str, ...]] = ()
    limits: ClassVar[str] = ""
    bound: ClassVar[Bound] = Bound(0.0, 0.0, "integer arithmetic only")

    @abstractmethod
    def check(self, view: View) -> None:
        """Raises ModelError for a node that TensorFlow Lite refuses too, UnsupportedError for one only we refuse."""

    @abstractmethod
    def lower(self, view: View, low: Lowering) -> None:
        """Adds the steps that compute the node's outputs."""

    def reserve(self, view: View, low: Lowering) -> None:  # noqa: B027
        """Before any node is lowered: `low.reserve`s places in the node's outputs for inputs that are parts of them."""

    @abstractmethod
    def cases(self) -> Iterator[Case]:
        """The operator's tests: the product of its options, types and edge shapes."""

    def macs(self, view: View) -> int:
        """Multiply-accumulates of one inference; 0 for operators that are not counted so."""
        return 0

    def reference(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        """The outputs as numpy computes them, for an operator that TensorFlow Lite does not have; else None.
        `inputs`: those that the node is given, constants included."""
        return None

    def unchanged(self, view: View) -> Tensor | None:
        """The input that the node's one output is equal to in every bit, where shapes and scales do not matter."""
        return None

    def takes(self, view: View, index: int) -> Range | None:
        """The values that input `index` may have, where it holds indices or a shape; else None."""
        return None

    def output_shapes(self, view: View) -> Sequence[tuple[int, ...]] | None:
        """The outputs' shapes, where converters leave them out of the file; else None."""
        return None

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        """The outputs for constant inputs, where that is exact on the host; None to leave it to the device."""
        return None


class CaseGraph:
    """Builds the graph of a test case, tensor by tensor.

    >>> g = CaseGraph()
    >>> x = g.input((1, 4), DType.INT8, 0.5, 3)
    >>> y = g.output((1, 4), DType.INT8, 0.25, -1)
    >>> case = g.case("plain", "QUANTIZE", [x], [y])
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.input_ids: list[int] = []
        self.output_ids: list[int] = []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: DType,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        *,
        data: Array | None = None,
        axis: int = 0,
    ) -> int:
        """A tensor that is neither input nor output; `scale` may be one for each channel along `axis`."""
        quantization = None
        if scale is not None:
            scales = (scale,) if isinstance(scale, int | float) else tuple(scale)
            zeros = (zero_point,) * len(scales) if isinstance(zero_point, int) else tuple(zero_point)
            quantization = Quantization(tuple(map(float, scales)), zeros, axis)
        index = len(self.tensors)
        self.tensors.append(Tensor(index, f"t{index}", tuple(shape), dtype, quantization, data, index))
        return index

    def constant(
        self,
        data: Array,
        dtype: DType,
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        return self.tensor(data.shape, dtype, scale, zero_point, data=data.astype(dtype.numpy), axis=axis)

    def variable(self, shape: Sequence[int], dtype: DType, scale: float | None = None, zero_point: int = 0) -> int:
        """A state that the node keeps from one inference to the next."""
        index = self.tensor(shape, dtype, scale, zero_point)
        self.tensors[index] = replace(self.tensors[index], variable=True)
        return index

    def input(self, shape: Sequence[int], dtype: DType, scale: float | None = None, zero_point: int = 0) -> int:
        self.input_ids.append(self.tensor(shape, dtype, scale, zero_point))
        return self.input_ids[-1]

    def output(self, shape: Sequence[int], dtype: DType, scale: float | None = None, zero_point: int = 0) -> int:
        self.output_ids.append(self.tensor(shape, dtype, scale, zero_point))
        return self.output_ids[-1]

    def case(
        self,
        name: str,
        op: str,
        inputs: Sequence[int | None],
        outputs: Sequence[int],
        options: Mapping[str, Any] | None = None,
        values: Sequence[tuple[Array, ...]] = (),
    ) -> Case:
        """A case of one node over the tensors made so far."""
        node = Node(op, tuple(inputs), tuple(outputs), dict(options or {}), 0)
        return self.case_of([node], name, values)

    def case_of(self, nodes: Sequence[Node], name: str, values: Sequence[tuple[Array, ...]] = ()) -> Case:
        """A case of several nodes."""
        table = {tensor.id: tensor for tensor in self.tensors}
        graph = Graph(name, table, tuple(nodes), tuple(self.input_ids), tuple(self.output_ids))
        return Case(name, graph, values)


@dataclass(frozen=True)
class Registry:
    """All operators and kernels that are known, by name and number."""

    ops: Mapping[str, Op] = field(default_factory=dict)
    kernels: Mapping[str, Kernel] = field(default_factory=dict)

    def kernels_for(self, profile: Profile) -> list[Kernel]:
        """The kernels that a device of `profile` runs, by rising number."""
        return sorted((k for k in self.kernels.values() if k.profile in profile.runs), key=lambda kernel: kernel.number)

    def op(self, node: Node) -> Op:
        """The operator of `node`. UnsupportedError, naming what could be done, if there is none."""
        if node.op in self.ops:
            return self.ops[node.op]
        if node.op == "CUSTOM:ethos-u":
            raise UnsupportedError(
                f"{node.label} is a command stream for Arm's Ethos-U NPU, which the other cores cannot run",
                "Use the model as it was before the Vela compiler.",
            )
        raise UnsupportedError(
            f"{node.label} is not an operator that Microlith knows",
            "Replace it in the model, or write it as a custom operator (docs/custom-operators.md, --ops DIR).",
        )

    def extended(self, ops: Sequence[Op], more_kernels: Sequence[Kernel] = ()) -> Registry:
        """This registry with `ops`, their kernels and `more_kernels` added. ValueError where a kernel's name or number
        is taken."""
        by_name = dict(self.ops)
        kernels = dict(self.kernels)
        numbers = {kernel.number: kernel.name for kernel in kernels.values()}
        for op in ops:
            by_name |= dict.fromkeys(op.names, op)
        for kernel in (*more_kernels, *(kernel for op in ops for kernel in op.kernels)):
            if (
                numbers.setdefault(kernel.number, kernel.name) != kernel.name
                or kernels.setdefault(kernel.name, kernel) != kernel
            ):
                other = numbers[kernel.number]
                what = "its name" if other == kernel.name else f"its number {kernel.number:#x}, of kernel {other},"
                raise ValueError(f"kernel {kernel.name}: {what} is taken")
        return Registry(by_name, kernels)
