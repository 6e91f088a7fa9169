"""A connected device: what a board, an emulator or a native process that runs the firmware can be asked to do.

    with Device(transport) as device:
        device.open_resident()
        result = device.invoke([pixels])

Every request is repeated until its answer comes; the device does none of them twice. `docs` of each message are in
`sdk.link.messages`.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdk.cache import Progress, silent
from sdk.closing import Closing
from sdk.errors import InputError, LinkError
from sdk.graph import Array, DType
from sdk.link.exchange import Exchange
from sdk.link.messages import (
    BY_NAME,
    CRC_BYTES,
    FLASH_PAGE_BYTES,
    HEADER_BYTES,
    INPUT,
    MAX_FRAME_BYTES,
    MIN_FRAME_BYTES,
    OUTPUT,
    PROTOCOL_VERSION,
    READ_OUTPUT,
    READ_REGION,
    RESIDENT,
    UPLOADED,
    Reply,
)
from sdk.program import HEADER, VERSION, Profile, Region

if TYPE_CHECKING:
    from sdk.link.transport import Transport

QUICK_S = 10.0  # patience with a request that computes nothing
COMPUTE_S = 120.0  # and with one that opens or runs a program
COUNTER_TURN = 1 << 32
RETRY_S = 0.3  # silence after which a request is sent again at first, beside the time on the line; doubled each time


@dataclass(frozen=True)
class DeviceInfo:
    """What a device says of itself when it is connected."""

    board_id: str
    format_version: int
    profile: Profile
    frame_bytes: int
    pool_bytes: int  # RAM for uploaded programs and for the memory of the open one
    stack_bytes: int  # RAM reserved for the stack
    resident_bytes: int  # size of the program in flash, 0 if there is none
    resident_crc: int
    counter_runs: bool  # ticks are 0 if not
    kernels: tuple[int, ...]  # numbers of the kernels in the image

    def holds(self, program: bytes) -> bool:
        """Whether the program in flash is this one, by its size and CRC-32."""
        if len(program) < HEADER.size or len(program) != self.resident_bytes:
            return False
        return bool(HEADER.unpack(program)["crc32"] == self.resident_crc)


@dataclass(frozen=True)
class FlashInfo:
    """The flash for programs that come after the image."""

    bytes: int  # first page included; 0 if the image reaches into it
    erase_bytes: int  # size of a block
    image_crc: int  # CRC-32 of the program in the image
    updated: bool  # whether another than that is the one in flash


@dataclass(frozen=True)
class DeviceTensor:
    """An input or output as the open program describes it; `scale` is 0 if it is not quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    scale: float
    zero_point: int
    bytes: int


@dataclass(frozen=True)
class OpenResult:
    """The memory that a program takes, in bytes, and the ticks that ml_open and ml_start took."""

    arena_bytes: int
    fast_bytes: int
    state_bytes: int
    step_count: int
    open_ticks: int
    start_ticks: int


@dataclass(frozen=True)
class InvokeResult:
    """The outputs of one inference and its cost; the cost of reading the counter is subtracted."""

    outputs: list[Array]
    ticks: int


@dataclass(frozen=True)
class StepResult:
    """One step that has run, by its position in the program, and its cost."""

    step: int
    ticks: int


@dataclass(frozen=True)
class Measurement:
    """What one program costs on a device. Ticks are in the unit of the board's counter."""

    open_ticks: int  # ml_open without the CRC
    open_crc_ticks: int
    start_ticks: int
    invoke_ticks: int
    step_ticks: tuple[int, ...]  # by step; 0 for steps that control flow has skipped
    stack_bytes: int  # high-water mark over all of these
    arena_bytes: int
    fast_bytes: int
    state_bytes: int


class Device(Closing):
    """A connected device, from its first answer on. Not for several threads at once.

    `board_id`: what the device must be; LinkError if it is another board. `retry_s`: silence after which a request is
    sent again; `timeout_s`: patience with a request that computes nothing (None: the transport's `quick_s` if it has
    one, else QUICK_S). All methods raise LinkError if the device falls silent, DeviceError if it refuses or fails.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        board_id: str | None = None,
        timeout_s: float | None = None,
        compute_timeout_s: float = COMPUTE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self.transport = transport
        self.timeout_s = float(getattr(transport, "quick_s", QUICK_S) if timeout_s is None else timeout_s)
        self.compute_timeout_s = compute_timeout_s
        self.inputs: tuple[DeviceTensor, ...] = ()
        self.outputs: tuple[DeviceTensor, ...] = ()
        self.opened: OpenResult | None = None
        self._source = RESIDENT
        self._exchange = Exchange(transport, retry_s)
        try:
            self.info = self._hello(board_id)
        except BaseException:
            transport.close()
            raise

    def close(self) -> None:
        """Gives the transport back."""
        self.transport.close()

    @property
    def retries(self) -> int:
        """Number of times that a request had to be sent again."""
        return self._exchange.retries

    # Programs

    def load(
        self, program: bytes, *, check_crc: bool = True, on_progress: Callable[[int, int], None] | None = None
    ) -> OpenResult:
        """Uploads `program` to RAM and opens it. `on_progress(sent, all)` is called after each chunk."""
        self._forget_program()
        for offset, piece in self._pieces("load", program):
            self._request("load", piece, total_bytes=len(program), offset=offset)
            if on_progress is not None:
                on_progress(offset + len(piece), len(program))
        return self._open(UPLOADED, check_crc)

    def open_resident(self, *, check_crc: bool = True) -> OpenResult:
        """Opens the program in flash."""
        return self._open(RESIDENT, check_crc)

    def reset_state(self) -> None:
        """Puts the variables of the open program back to their initial values."""
        self._request("reset")

    # Inference

    def run(self, inputs: Sequence[Array], *, timeout_s: float | None = None) -> list[Array]:
        """The outputs for `inputs`, both in the program's order. `timeout_s`: patience with the inference."""
        return self.invoke(inputs, timeout_s=timeout_s).outputs

    def invoke(self, inputs: Sequence[Array], *, timeout_s: float | None = None) -> InvokeResult:
        """One inference: writes the inputs, runs all steps, reads the outputs."""
        self.write_inputs(inputs)
        ticks = self.compute(timeout_s)
        return InvokeResult(self.read_outputs(), ticks)

    def compute(self, timeout_s: float | None = None) -> int:
        """Runs all steps over the inputs as they are, once; the ticks that this took."""
        return self._request("invoke", timeout_s=timeout_s or self.compute_timeout_s).words["ticks"]

    def run_steps(
        self,
        inputs: Sequence[Array],
        on_step: Callable[[StepResult], None],
        *,
        timeout_s: float | None = None,
    ) -> InvokeResult:
        """One inference step by step. `on_step` is called after each, when what the step wrote can be read with
        `read_region`. `timeout_s`: patience with one step. The ticks are the sum over the steps."""
        self.write_inputs(inputs)
        total = 0
        for result in self._steps(timeout_s):
            total += result.ticks
            on_step(result)
        return InvokeResult(self.read_outputs(), total)

    def write_inputs(self, inputs: Sequence[Array]) -> None:
        """Writes all inputs. InputError if their number, a shape or a type is not what the program takes."""
        if len(inputs) != len(self.inputs):
            raise InputError(f"the program takes {len(self.inputs)} inputs, {len(inputs)} were given")
        for index, (array, tensor) in enumerate(zip(inputs, self.inputs, strict=True)):
            if tuple(array.shape) != tensor.shape or array.dtype != tensor.dtype.numpy:
                raise InputError(
                    f"input {index} '{tensor.name}' is {tensor.dtype.numpy_name}{list(tensor.shape)}; "
                    f"{array.dtype}{list(array.shape)} was given",
                    "Convert it with numpy's astype and reshape.",
                )
            data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
            for offset, piece in self._pieces("write", data):
                self._request("write", piece, index=index, offset=offset)

    def read_outputs(self) -> list[Array]:
        """All outputs as they stand on the device."""
        return [
            np.frombuffer(self._read(READ_OUTPUT, index, 0, tensor.bytes), tensor.dtype.numpy.newbyteorder("<"))
            .astype(tensor.dtype.numpy)
            .reshape(tensor.shape)
            for index, tensor in enumerate(self.outputs)
        ]

    def read_region(self, region: Region, offset: int, count: int) -> bytes:
        """`count` bytes of a region of the open program's memory."""
        return self._read(READ_REGION, int(region), offset, count)

    def read_arena(self, offset: int, count: int) -> bytes:
        """`count` bytes of the arena from `offset` on."""
        return self.read_region(Region.ARENA, offset, count)

    # The device itself

    def stack_used(self, *, repaint: bool = False) -> int:
        """High-water mark of the stack in bytes since it was painted; then paints it anew if `repaint`."""
        return self._request("stack", repaint=int(repaint)).words["used_bytes"]

    def measure(
        self,
        inputs: Sequence[Array] | None = None,
        *,
        timeout_s: float | None = None,
        progress: Progress = silent,
    ) -> Measurement:
        """The costs of the open program, over `inputs` or zeros. Leaves it opened anew, its state initial."""
        arrays = inputs if inputs is not None else [np.zeros(t.shape, t.dtype.numpy) for t in self.inputs]
        source = self._source
        self.stack_used(repaint=True)
        with_crc = self._open(source, check_crc=True)
        opened = self._open(source, check_crc=False)
        progress("inference 1 of 3")
        self.invoke(arrays, timeout_s=timeout_s)  # the first one fills caches; what counts is the steady state
        progress("inference 2 of 3")
        invoke_ticks = self.invoke(arrays, timeout_s=timeout_s).ticks
        self.reset_state()
        steps = [0] * opened.step_count
        progress("inference 3 of 3, step by step")
        self.write_inputs(arrays)
        for result in self._steps(timeout_s):
            steps[result.step] += result.ticks
        self.reset_state()
        # The counter has 32 bits. How often it went round in a long inference is known from the sum over the steps.
        turns = round((sum(steps) - invoke_ticks) / COUNTER_TURN)
        return Measurement(
            open_ticks=opened.open_ticks,
            open_crc_ticks=with_crc.open_ticks,
            start_ticks=opened.start_ticks,
            invoke_ticks=invoke_ticks + turns * COUNTER_TURN,
            step_ticks=tuple(steps),
            stack_bytes=self.stack_used(),
            arena_bytes=opened.arena_bytes,
            fast_bytes=opened.fast_bytes,
            state_bytes=opened.state_bytes,
        )

    def flash_info(self) -> FlashInfo:
        """What there is of flash for programs that come after the image."""
        words = self._request("flash_info").words
        return FlashInfo(words["bytes"], words["erase_bytes"], words["image_crc"], bool(words["updated"]))

    def erase_flash(self, offset: int) -> None:
        """Erases a block of it. What was open is closed."""
        self._forget_program()
        self._request("flash_erase", offset=offset)

    def write_flash(
        self, offset: int, data: bytes, on_progress: Callable[[int, int], None] = lambda _written, _all: None
    ) -> None:
        """Writes whole pages of it. What was open is closed. `on_progress(written, all)` is called after each chunk."""
        self._forget_program()
        for at, piece in self._pieces("flash_write", data, FLASH_PAGE_BYTES):
            self._request("flash_write", piece, offset=offset + at)
            on_progress(at + len(piece), len(data))

    def reboot(self) -> None:
        """Restarts the device and waits until it answers again. No program is open afterwards."""
        self._forget_program()
        # Its answer may be lost in the restart; a device that is up again says so by not knowing the session.
        with contextlib.suppress(LinkError):
            self._request("reboot")
        self.info = self._hello(self.info.board_id)

    # Inside

    def _hello(self, board_id: str | None) -> DeviceInfo:
        reply = self._exchange.hello(self.timeout_s)
        words = reply.words
        found = reply.tail.decode("utf-8", "replace")
        if words["protocol_version"] != PROTOCOL_VERSION or words["format_version"] != VERSION:
            raise LinkError(
                f"the firmware on {self.transport.name} is of another version of the SDK: protocol "
                f"{words['protocol_version']}, format {words['format_version']}; not {PROTOCOL_VERSION}, {VERSION}",
                "Flash it again with `sdk flash`.",
            )
        if board_id is not None and found != board_id:
            raise LinkError(
                f"{self.transport.name} is the board '{found}', not '{board_id}'",
                f"Use --board {found}, or choose another port with --port.",
            )
        return DeviceInfo(
            board_id=found,
            format_version=words["format_version"],
            profile=_profile(words["profile"]),
            frame_bytes=min(max(words["frame_bytes"], MIN_FRAME_BYTES), MAX_FRAME_BYTES),
            pool_bytes=words["pool_bytes"],
            stack_bytes=words["stack_bytes"],
            resident_bytes=words["resident_bytes"],
            resident_crc=words["resident_crc"],
            counter_runs=bool(words["counter_runs"]),
            kernels=self._kernels(words["kernel_count"]),
        )

    def _kernels(self, count: int) -> tuple[int, ...]:
        numbers: list[int] = []
        while len(numbers) < count:
            tail = self._request("kernels", first=len(numbers)).tail
            if len(tail) < 2:
                raise LinkError(f"the device announces {count} kernels and lists {len(numbers)}")
            numbers += struct.unpack(f"<{len(tail) // 2}H", tail[: len(tail) & ~1])
        return tuple(numbers)

    def _forget_program(self) -> None:
        self.inputs = self.outputs = ()
        self.opened = None

    def _open(self, source: int, check_crc: bool) -> OpenResult:
        self._forget_program()
        reply = self._request("open", timeout_s=self.compute_timeout_s, source=source, check_crc=int(check_crc))
        words = reply.words
        self.inputs = tuple(self._describe(INPUT, i) for i in range(words["input_count"]))
        self.outputs = tuple(self._describe(OUTPUT, i) for i in range(words["output_count"]))
        self._source = source
        self.opened = OpenResult(**{name: words[name] for name in OpenResult.__dataclass_fields__})
        return self.opened

    def _describe(self, direction: int, index: int) -> DeviceTensor:
        reply = self._request("describe", direction=direction, index=index)
        words = reply.words
        rank = words["rank"]
        dtype = next((t for t in DType if t.on_device and t.number == words["dtype"]), None)
        if dtype is None or len(reply.tail) < 4 * rank:
            raise LinkError(f"the device describes {'output' if direction else 'input'} {index} in a way unknown here")
        shape = struct.unpack_from(f"<{rank}I", reply.tail)
        scale, zero_point = struct.unpack("<fi", struct.pack("<II", words["scale"], words["zero_point"]))
        name = reply.tail[4 * rank :].decode("utf-8", "replace")
        if int(np.prod(shape, dtype=np.int64)) * dtype.bytes != words["bytes"]:
            raise LinkError(
                f"the device describes '{name}' as {list(shape)} of {dtype.numpy_name} in {words['bytes']} bytes"
            )
        return DeviceTensor(name, shape, dtype, scale, zero_point, words["bytes"])

    def _steps(self, timeout_s: float | None) -> Iterator[StepResult]:
        count = self.opened.step_count if self.opened is not None else 0
        step = 0
        while step < count:
            words = self._request("step", timeout_s=timeout_s or self.compute_timeout_s, step=step).words
            yield StepResult(step, words["ticks"])
            step = words["next"]

    def _read(self, source: int, index: int, offset: int, count: int) -> bytes:
        data = bytearray()
        room = self._room("read")
        while len(data) < count:
            chunk = min(room, count - len(data))
            tail = self._request("read", source=source, index=index, offset=offset + len(data), count=chunk).tail
            if len(tail) != chunk:
                raise LinkError(f"the device sent {len(tail)} bytes of {chunk} that it was asked for")
            data += tail
        return bytes(data)

    def _pieces(self, name: str, data: bytes, page_bytes: int = 1) -> Iterator[tuple[int, bytes]]:
        """`data` in pieces of whole pages, with their offsets, as requests can hold and the line is seen to carry.
        There is one at least."""
        at = 0
        while at < max(len(data), 1):
            room = min(self._room(name), max(self._exchange.piece_bytes, page_bytes)) // page_bytes * page_bytes
            if room == 0:
                raise LinkError(f"the device takes frames of {self.info.frame_bytes} bytes: no page fits into one")
            yield at, data[at : at + room]
            at += room

    def _room(self, name: str) -> int:
        """How many bytes fit behind the words of a message, in the request and in the reply."""
        words = max(len(BY_NAME[name].request), len(BY_NAME[name].reply))
        return self.info.frame_bytes - HEADER_BYTES - CRC_BYTES - 4 * words

    def _request(self, name: str, tail: bytes = b"", *, timeout_s: float | None = None, **words: int) -> Reply:
        return self._exchange.request(name, timeout_s or self.timeout_s, tail, **words)


def _profile(number: int) -> Profile:
    try:
        return Profile(number)
    except ValueError as error:
        raise LinkError(f"the device has kernel profile {number}, which this SDK does not know") from error
