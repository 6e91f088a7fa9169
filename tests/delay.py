"""A program whose output is its input before, and requests by hand to a device that runs it."""

from __future__ import annotations

import numpy as np

from sdk.graph import Array, DType
from sdk.link import frames
from sdk.link.messages import Reply, decode_reply, encode_request
from sdk.link.transport import Transport
from sdk.ops.control import COPY
from sdk.program import Operand, Profile, Program, Region, Step, TensorSpec

SIZE = 3000  # more than a frame


def delay_program(size: int = SIZE, arena_bytes: int | None = None, padding: int = 0) -> bytes:
    """A program whose output is the input of the inference before: one that runs twice by mistake shows it."""

    def spec(name: str, operand: Operand) -> TensorSpec:
        return TensorSpec(name, (2, size // 2), DType.INT8, 0.5, -3, operand)

    aligned = -(-size // 16) * 16
    given, result = Operand(Region.ARENA, 0, size), Operand(Region.ARENA, aligned, size)
    kept = Operand(Region.STATE, 0, size)
    args = COPY.args.pack({"bytes": size})
    return Program(
        profile=Profile.portable,
        arena_bytes=2 * aligned if arena_bytes is None else arena_bytes,
        state_bytes=aligned,
        inputs=(spec("given", given),),
        outputs=(spec("before", result),),
        steps=(Step(COPY.number, args, (kept, result)), Step(COPY.number, args, (given, kept))),
        constants=bytes(padding),
        state_image=b"start",
    ).encode()


def values(seed: int, size: int = SIZE) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, (2, size // 2)).astype(np.int8)


def initial(size: int = SIZE) -> Array:
    state = np.zeros(size, np.int8)
    state[:5] = np.frombuffer(b"start", np.int8)
    return state.reshape(2, size // 2)


class Raw:
    """Requests by hand."""

    def __init__(self, line: Transport) -> None:
        self.line = line
        self.decoder = frames.Decoder(4096)
        self.sequence = 100

    def exchange(self, body: bytes) -> bytes:
        """The body that answers a frame with this body."""
        self.line.write(frames.encode(body))
        while True:
            data = self.line.read(5.0)
            assert data, "no answer"
            for reply in self.decoder.feed(data):
                return reply

    def ask(self, name: str, tail: bytes = b"", **words: int) -> Reply:
        self.sequence = self.sequence + 1 & 0xFFFF
        reply = decode_reply(name, self.sequence, self.exchange(encode_request(name, self.sequence, words, tail)))
        assert reply is not None
        return reply

    def load(self, program: bytes, room: int = 400) -> None:
        for at in range(0, len(program), room):
            assert self.ask("load", program[at : at + room], total_bytes=len(program), offset=at).status == 0
