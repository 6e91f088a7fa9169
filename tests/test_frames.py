"""Framing: host and device agree, and no stream of bytes upsets either."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.link.frames import Decoder, cobs_decode, cobs_encode, encode
from sdk.link.messages import CRC_BYTES, HEADER_BYTES, MAX_FRAME_BYTES
from sdk.paths import FIRMWARE
from sdk.tools import find_tool

# Bytes of which blocks end in all ways: zeros, and runs around the longest one.
data_bytes = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(250, 260).map(lambda n: b"x" * n), st.just(b"\0")), max_size=12
).map(b"".join)
bodies = data_bytes.filter(lambda body: HEADER_BYTES <= len(body) <= MAX_FRAME_BYTES - CRC_BYTES)


@settings(deadline=None)
@given(data_bytes)
def test_cobs_roundtrip_without_zeros(data: bytes) -> None:
    stuffed = cobs_encode(data)
    assert 0 not in stuffed
    assert len(stuffed) <= len(data) + len(data) // 254 + 1
    assert cobs_decode(stuffed) == data


@settings(deadline=None)
@given(st.lists(bodies, max_size=4), st.binary(max_size=30), st.lists(st.integers(0, 5000), max_size=6))
def test_frames_survive_noise_before_them_and_any_cut(sent: list[bytes], noise: bytes, cuts: list[int]) -> None:
    wire = noise + b"".join(encode(body) for body in sent)
    at = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    decoder = Decoder(MAX_FRAME_BYTES)
    got = [body for a, b in pairwise(at) for body in decoder.feed(wire[a:b])]
    assert got == sent


@settings(deadline=None)
@given(st.lists(st.binary(max_size=600), max_size=8))
def test_any_stream_is_taken_and_memory_is_bounded(chunks: list[bytes]) -> None:
    decoder = Decoder(128)
    for chunk in chunks:
        assert all(len(body) <= 128 - CRC_BYTES for body in decoder.feed(chunk))
        assert len(decoder._pending) <= 130
        assert len(decoder.noise) <= 256


@settings(deadline=None)
@given(bodies, st.integers(min_value=0), st.integers(1, 255))
def test_a_corrupted_byte_never_gives_another_body(body: bytes, where: int, flip: int) -> None:
    wire = bytearray(encode(body))
    wire[where % len(wire)] ^= flip
    # A damaged delimiter may join the frame with nothing, or end it early: what comes out is the body or nothing.
    assert Decoder(MAX_FRAME_BYTES).feed(bytes(wire) + b"\0") in ([], [body])


def test_damage_is_counted_and_overlong_frames_are_dropped() -> None:
    decoder = Decoder(128)
    assert decoder.feed(encode(bytes(128))) == []
    assert decoder.feed(b"\1\2microlith: fault\0") == []
    assert decoder.damaged == 2
    assert b"microlith: fault" in decoder.noise
    assert decoder.feed(encode(bytes(124))) == [bytes(124)]
    assert decoder.damaged == 2


class Harness:
    """firmware/src/frame.c, compiled for this computer."""

    def __init__(self, folder: Path) -> None:
        library = folder / "frame.so"
        sources = [str(FIRMWARE / "src" / "frame.c"), str(FIRMWARE / "src" / "crc32.c")]
        sources += [str(Path(__file__).parent / "c" / "frame.c")]
        includes = [f"-I{FIRMWARE / name}" for name in ("src", "include", "gen")]
        flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
        subprocess.run([find_tool("gcc"), *flags, *includes, "-o", str(library), *sources], check=True)
        self._c = ctypes.CDLL(str(library))
        self._buffer = ctypes.create_string_buffer(1 << 20)

    def start(self, capacity: int) -> None:
        self._c.harness_start(capacity)

    def receive(self, data: bytes) -> list[bytes]:
        used = self._c.harness_receive(data, len(data), self._buffer)
        raw, found = ctypes.string_at(self._buffer, used), []
        while raw:
            size = struct.unpack_from("<I", raw)[0]
            found.append(raw[4 : 4 + size])
            raw = raw[4 + size :]
        return found

    def send(self, body: bytes) -> bytes:
        count = self._c.harness_send(body, len(body), self._buffer)
        return ctypes.string_at(self._buffer, count)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("frame"))


@settings(deadline=None)
@given(body=bodies)
def test_device_sends_the_same_bytes_as_the_host(harness: Harness, body: bytes) -> None:
    assert harness.send(body) == encode(body)


# Two thirds of all bytes become those that byte stuffing is about.
CRAFTED = bytes([0] * 90 + [1] * 40 + [255] * 40) + bytes(range(170, 256))


def _random_body(rng: random.Random) -> bytes:
    size = rng.choice((4, 5, rng.randrange(4, 60), rng.randrange(240, 270), rng.randrange(4, 700)))
    return rng.randbytes(size).translate(CRAFTED)


def _flip(wire: bytes, rng: random.Random) -> bytes:
    spoiled = bytearray(wire)
    spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def _replace(wire: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(wire))
    return wire[:at] + rng.randbytes(rng.randrange(4)) + wire[at + rng.randrange(4) :]


SPOILERS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda wire, _: wire,
    lambda wire, _: wire,
    _flip,
    _replace,
    lambda wire, rng: wire[: rng.randrange(len(wire))],
    lambda wire, rng: wire[rng.randrange(len(wire)) :],
    lambda wire, _: wire + wire,
    lambda wire, rng: rng.randbytes(rng.randrange(40)) + wire,
)


@pytest.mark.parametrize("capacity", [128, 512, 4096])
def test_device_and_host_find_the_same_frames_in_a_damaged_stream(harness: Harness, capacity: int) -> None:
    """30,000 frames over the three capacities, two thirds of them damaged in some way, cut anywhere."""
    rng = random.Random(capacity)
    harness.start(capacity)
    decoder = Decoder(capacity)
    sound = 0
    for _ in range(500):
        wire = b"".join(rng.choice(SPOILERS)(encode(_random_body(rng)), rng) for _ in range(20))
        cut = rng.randrange(len(wire) + 1)
        for piece in (wire[:cut], wire[cut:]):
            found = decoder.feed(piece)
            assert harness.receive(piece) == found
            sound += len(found)
    assert sound > 2000
