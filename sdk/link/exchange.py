"""One request, one reply, over a line that may lose, double and corrupt bytes.

A request is repeated until its reply comes. The device keeps its last reply and sends it again for a request that it
has already done, so that nothing is done twice; a request that does not follow the one before shows that the device
has restarted.

A line that is slow, and not lossy, must not be filled with repetitions faster than it empties. So the time that a byte
takes is learnt from requests that needed no repetition (Karn's algorithm, as in TCP), and a second reply to one request
shows that a repetition was sent too soon.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING

from sdk.errors import DeviceError, LinkError, SdkError
from sdk.link import frames
from sdk.link.messages import BY_NAME, LINK_STATUSES, MAX_FRAME_BYTES, REPLY, Reply, decode_reply, encode_request
from sdk.paths import FIRMWARE

if TYPE_CHECKING:
    from sdk.link.transport import Transport

COMPUTING = ("open", "invoke", "step")  # requests that may take long: repeated ever more seldom
RETRY_MAX_S = 4.0
ASSUMED_BYTES_PER_S = 1600.0  # of a line that nothing is known of yet
PIECE_S = 0.25  # how long a long request should be under way: repeating it costs as much
FIRST_PIECE_BYTES = 400
MARGIN = 4.0  # times what a byte was seen to take
MAX_CAUTION = 16.0
HELLO_REPLY = BY_NAME["hello"].number | REPLY
LEARN_BYTES = 100  # shorter requests say nothing of the time that a byte takes
NO_STEP = 0xFFFFFFFF

_KIND, _SESSION, _MISSING, _MEMORY, _STACK, _FLASH = (
    next(number for name, number, _ in LINK_STATUSES if name == wanted)
    for wanted in ("KIND", "SESSION", "MISSING", "MEMORY", "STACK", "FLASH")
)
_REMEDIES = {
    _KIND: "Its firmware is older than this SDK: flash it again, whole, with `sdk flash MODEL`.",
    _MISSING: "Flash a program with `sdk flash MODEL`, or upload one.",
    _MEMORY: "Use a smaller model, a board with more RAM, or flash the program instead of uploading it.",
    _STACK: "Enlarge `stack_bytes` in the board's file and flash again.",
    _FLASH: "It may be write-protected or worn out: flash the whole image, or use another board.",
}
_FAULT = re.compile(rb"microlith: fault ([0-9a-f]{8}) at ([0-9a-f]{8})")


class Exchange:
    """Requests and replies over a transport. `retry_s`: silence after which a short request is sent again at first."""

    def __init__(self, transport: Transport, retry_s: float) -> None:
        self.transport = transport
        self.retry_s = retry_s
        self.retries = 0
        """Number of times that a request had to be sent again."""
        self.piece_bytes = FIRST_PIECE_BYTES
        """How much data one request should carry: less on a line that is slow or loses much."""
        self._decoder = frames.Decoder(MAX_FRAME_BYTES)
        self._sequence = 0
        self._byte_s = 1 / ASSUMED_BYTES_PER_S
        self._caution = 1.0  # what the time to wait is multiplied by

    def hello(self, timeout_s: float) -> Reply:
        """Starts a session, with a random number: late replies from an earlier session are not taken for its own."""
        self._sequence = random.randrange(0x10000)
        return self.request("hello", timeout_s)

    def request(self, name: str, timeout_s: float, tail: bytes = b"", **words: int) -> Reply:
        """Sends a request until its reply comes. DeviceError if the reply says that it was refused or failed."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        wire = frames.encode(encode_request(name, self._sequence, words, tail))
        start = time.monotonic()
        attempts = 0
        while True:
            self.transport.write(wire)
            reply = self._await_reply(name, self._silence_s(name, len(wire), attempts), start + timeout_s)
            if reply is not None:
                break
            if time.monotonic() >= start + timeout_s:
                raise self._silent(name, timeout_s)
            attempts += 1
            self.retries += 1
            if name not in COMPUTING:
                self.piece_bytes = max(self.piece_bytes // 2, LEARN_BYTES)
        if attempts == 0:
            self._learn(len(wire), time.monotonic() - start)
        if reply.status:
            raise _failure(name, reply)
        return reply

    def _silence_s(self, name: str, count: int, attempts: int) -> float:
        """How long to wait for the reply to a request of `count` bytes that was repeated `attempts` times."""
        silence_s = (self.retry_s + MARGIN * self._byte_s * count) * self._caution
        return min(silence_s * 2.0 ** min(attempts, 9), max(silence_s, RETRY_MAX_S)) if name in COMPUTING else silence_s

    def _learn(self, count: int, elapsed_s: float) -> None:
        """A request of `count` bytes was answered at once, after `elapsed_s`."""
        self._caution = max(self._caution * 0.8, 1.0)
        if count >= LEARN_BYTES:
            self._byte_s = max(elapsed_s / count, self._byte_s / 2)
            if elapsed_s < PIECE_S / 2:
                self.piece_bytes = min(2 * self.piece_bytes, MAX_FRAME_BYTES)
            elif elapsed_s > PIECE_S:
                self.piece_bytes = max(self.piece_bytes // 2, LEARN_BYTES)

    def _await_reply(self, name: str, silence_s: float, deadline: float) -> Reply | None:
        """The reply to the request under way, or None if the line was silent for `silence_s` or a frame was damaged."""
        quiet_until = min(time.monotonic() + silence_s, deadline)
        while (left_s := quiet_until - time.monotonic()) > 0:
            damaged = self._decoder.damaged
            data = self.transport.read(left_s)
            for body in self._decoder.feed(data):
                reply = decode_reply(name, self._sequence, body)
                if reply is not None:
                    return reply
                if body[2] != HELLO_REPLY:  # which a device that starts up gives to all that have piled up
                    self._caution = min(2 * self._caution, MAX_CAUTION)
            fault = _FAULT.search(bytes(self._decoder.noise))
            self._decoder.noise.clear()
            if fault is not None and name != "hello":  # an old one may still lie in the line's buffer
                raise _crash(name, int(fault[1], 16), int(fault[2], 16))
            if self._decoder.damaged != damaged:
                return None
            if data:
                quiet_until = min(max(quiet_until, time.monotonic() + self.retry_s), deadline)
        return None

    def _silent(self, name: str, timeout_s: float) -> LinkError:
        where = self.transport.name
        if name == "hello":
            return LinkError(
                f"no device answers on {where}",
                "Check that it is the right port, that the board has power, and this SDK's firmware (`sdk flash`).",
            )
        if name in COMPUTING:
            return LinkError(
                f"the device on {where} has not finished {name.upper()} after {timeout_s:g} s",
                "It hangs, or the model takes longer: reset the board, or give it more time (timeout_s).",
            )
        return LinkError(f"the device on {where} stopped answering ({name.upper()})", "Reset the board and try again.")


def _crash(name: str, exception: int, address: int) -> DeviceError:
    if address == 0:  # the port could not read where, because the frame lies outside the stack
        return DeviceError(f"the device crashed in {name.upper()}: its stack has overflowed", _REMEDIES[_STACK])
    return DeviceError(
        f"the device crashed in {name.upper()}: exception {exception} at address 0x{address:08x}",
        "Report it, with the model and the output of `sdk doctor`.",
    )


def status_text(status: int) -> str:
    """The meaning of an `ml_status` (below 0), as microlith.h has it, or of a link status (above 0)."""
    if status > 0:
        return next((text for _, number, text in LINK_STATUSES if number == status), f"unknown link status {status}")
    header = (FIRMWARE / "include" / "microlith.h").read_text()
    match = re.search(rf'X\((ML_\w+), {status}, +"([^"]*)"\)', header)
    return f"{match[2]} ({match[1]})" if match else f"unknown status {status}"


def _failure(name: str, reply: Reply) -> SdkError:
    """The error that a reply's status stands for."""
    status = reply.status
    text = status_text(status)
    if status == _SESSION:
        return LinkError(
            f"the device has restarted by itself before {name.upper()}",
            "A watchdog, a crash or a weak power supply resets it: check the power, then connect again.",
        )
    if status == _MEMORY and name == "open":
        words = reply.words
        text += f" (arena {words['arena_bytes']:,}, state {words['state_bytes']:,}, fast {words['fast_bytes']:,} bytes)"
    failed = reply.words["next"] if name == "step" else reply.words.get("failed_step", NO_STEP)
    where = f", step {failed}" if failed != NO_STEP and status < 0 else ""
    return DeviceError(f"{name.upper()}{where}: {text}", _REMEDIES.get(status, ""))
