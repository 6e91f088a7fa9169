"""The format: an independent reader, written from SPEC.md alone, finds in the bytes what lowering put there."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest

from sdk import gen, program
from sdk.errors import ModelError
from sdk.graph import DType
from sdk.lower import Lowered, lower
from sdk.ops.base import CaseGraph
from sdk.ops.fully_connected import FullyConnected
from sdk.program import NO_OPERAND, Operand, Profile, Program, Region, Struct, TensorSpec, fields


@pytest.fixture(params=[case.name for case in FullyConnected().cases()][:6])
def lowered(request: pytest.FixtureRequest) -> Lowered:
    case = next(case for case in FullyConnected().cases() if case.name == request.param)
    return lower(case.graph)


def test_a_second_reader_agrees(lowered: Lowered) -> None:
    """Reads by literal offsets, as SPEC.md gives them, not through `sdk.program`."""
    block = lowered.block
    magic, version, profile, size, crc = struct.unpack_from("<4sHHII", block, 0)
    assert (magic, version, profile, size) == (b"MLTH", 1, 0, len(block))
    assert crc == zlib.crc32(block[16:])
    arena, fast, state, _, image_bytes = struct.unpack_from("<5I", block, 16)
    assert (arena, fast, state, image_bytes) == (lowered.program.arena_bytes, 0, 0, 0)
    inputs, outputs, tensors, step_count, steps, operand_count, operands = struct.unpack_from("<HHIIIII", block, 36)
    assert (inputs, outputs, step_count) == (1, 1, len(lowered.program.steps))
    for i, spec in enumerate(lowered.inputs + lowered.outputs):
        record = struct.unpack_from("<IIIIBBHfi", block, tensors + 28 * i)
        ref, count, name, dims, dtype, rank, name_bytes, scale, zero = record
        assert block[name : name + name_bytes] == spec.name.encode() + b"\0"
        assert struct.unpack_from(f"<{rank}I", block, dims) == spec.shape
        assert (ref >> 28, ref & 0xFFFFFFF, count) == (2, spec.operand.offset, spec.operand.bytes)
        assert (dtype, zero) == (spec.dtype.number, spec.zero_point)
        assert scale == pytest.approx(spec.scale, rel=1e-7)
    for i, step in enumerate(lowered.program.steps):
        kernel, n, args, first = struct.unpack_from("<HHII", block, steps + 12 * i)
        assert (kernel, n) == (step.kernel, len(step.operands))
        assert block[args : args + len(step.args)] == step.args
        assert first + n <= operand_count
        for j, operand in enumerate(step.operands):
            ref, count = struct.unpack_from("<II", block, operands + 8 * (first + j))
            assert (ref >> 28, count) == (operand.region, operand.bytes)
            if operand.region is Region.PROGRAM:
                data = lowered.program.constants[operand.offset : operand.offset + count]
                assert block[ref & 0xFFFFFFF :][:count] == data


def test_steps_with_equal_arguments_share_them(lowered: Lowered) -> None:
    once = lowered.program
    block = replace(once, steps=once.steps * 2).encode()
    steps = struct.unpack_from("<I", block, 48)[0]
    args = [struct.unpack_from("<I", block, steps + 12 * i + 4)[0] for i in range(2 * len(once.steps))]
    assert args[len(once.steps) :] == args[: len(once.steps)]
    assert all(block[a : a + len(step.args)] == step.args for a, step in zip(args, once.steps, strict=False))


def test_constants_keep_their_alignment(lowered: Lowered) -> None:
    slots = {kernel.number: kernel.slots for kernel in lowered.kernels}
    for step in lowered.program.steps:
        for slot, operand in zip(slots[step.kernel], step.operands, strict=True):
            assert operand.offset % slot.dtype.bytes == 0


def test_equal_constants_are_stored_once() -> None:
    pool = program.Constants()
    first = pool.add(b"\1\2\3\4", 4)
    assert pool.add(b"\1\2\3\4", 4) == first
    assert pool.add(b"\1\2\3\5", 4).offset == 4
    assert len(pool.data) == 8


@pytest.mark.parametrize(
    "operand", [Operand(Region.ARENA, 12, 8), Operand(Region.PROGRAM, 0, 1), Operand(Region.STATE, -4, 4)]
)
def test_an_operand_outside_its_region_is_refused(operand: Operand) -> None:
    spec = TensorSpec("x", (8,), DType.INT8, 1.0, 0, operand)
    with pytest.raises(ModelError, match="outside its region"):
        Program(Profile.portable, 16, 16, (spec,), (), (), b"").encode()


def test_an_absent_operand_has_no_bytes() -> None:
    assert (NO_OPERAND.ref, NO_OPERAND.bytes) == (0, 0)


@pytest.mark.parametrize("codes", ["BI", "HI", "IB", ""])
def test_structs_that_c_would_pad_are_refused(codes: str) -> None:
    with pytest.raises(ValueError, match="multiple"):
        Struct("ml_bad", tuple(field for i, code in enumerate(codes) for field in fields(code, f"f{i}")))


def test_args_must_match_their_fields() -> None:
    record = Struct("ml_pair", fields("I", "a", "b"))
    assert record.unpack(record.pack({"a": 1, "b": 2})) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="takes"):
        record.pack({"a": 1})
    with pytest.raises(OverflowError, match="ml_pair"):
        record.pack({"a": 1, "b": -1})


def test_generated_headers_are_current() -> None:
    for path, text in gen.files().items():
        assert (gen.ROOT / path).read_text() == text, f"{path}: run python -m sdk.gen"


def test_input_that_is_output_needs_no_step() -> None:
    g = CaseGraph()
    x = g.input((2, 3), DType.FLOAT32)
    y = g.output((6,), DType.FLOAT32)
    lowered = lower(g.case("view", "RESHAPE", [x], [y]).graph)
    assert lowered.program.steps == ()
    assert lowered.inputs[0].operand == lowered.outputs[0].operand
