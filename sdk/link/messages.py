"""The requests that a device answers: the one home of their numbers, fields and statuses, for host and firmware.

A frame's body is a header of four bytes, then the message's words (32-bit little-endian), then, where a message has
one, a tail of bytes that fills the rest:

    sequence u16 | kind u8 | status i8 | words u32[...] | tail u8[...]

A request's status is 0; its reply repeats the sequence number and sets bit 7 of the kind. `header_text` makes the C
header `firmware/gen/ml_messages.h` from the tables below. `sdk.link.frames` puts a body on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from sdk.errors import LinkError

PROTOCOL_VERSION = 1
HEADER_BYTES = 4
CRC_BYTES = 4
# What every device takes, and enough for the answer to HELLO with the longest board id.
MIN_FRAME_BYTES = 128
MAX_FRAME_BYTES = 4096
MAX_BOARD_ID_BYTES = 32
REPLY = 0x80

# The statuses of the link itself, from 1 up; 0 is success and a negative status is the interpreter's `ml_status`.
LINK_STATUSES: tuple[tuple[str, int, str], ...] = (
    ("KIND", 1, "the device does not know this request"),
    ("LENGTH", 2, "the request has another length than its kind asks for"),
    ("SESSION", 3, "the request belongs to no session: the device has restarted since the host said hello"),
    ("RANGE", 4, "an index, offset or count lies outside what it names"),
    ("CLOSED", 5, "no program is open"),
    ("MISSING", 6, "there is no such program: none in the image, or its upload is not complete"),
    ("MEMORY", 7, "the program and the memory it needs do not fit into the device's pool"),
    ("STACK", 8, "the stack has overflowed: results and memory can no longer be trusted until the device reboots"),
    ("FLASH", 9, "the flash does not hold what was written to it"),
)

# OPEN's `source`.
RESIDENT, UPLOADED = 0, 1
# DESCRIBE's `direction`.
INPUT, OUTPUT = 0, 1
# READ's `source`: output `index`, or the memory region whose number in the program format is `index`.
READ_OUTPUT, READ_REGION = 0, 1
# The flash for programs that come after the image is written by pages; the first begins with the mark, then the CRC-32
# of the image's own program.
FLASH_PAGE_BYTES = 256
UPDATE_MAGIC = int.from_bytes(b"MLUP", "little")

CONSTANTS = {
    "SOURCE_RESIDENT": RESIDENT,
    "SOURCE_UPLOADED": UPLOADED,
    "DIRECTION_INPUT": INPUT,
    "DIRECTION_OUTPUT": OUTPUT,
    "READ_OUTPUT": READ_OUTPUT,
    "READ_REGION": READ_REGION,
    "FLASH_PAGE_BYTES": FLASH_PAGE_BYTES,
    "UPDATE_MAGIC": UPDATE_MAGIC,
}


@dataclass(frozen=True)
class Message:
    """One request and its reply. `request` and `reply` map the name of each word to its meaning, in order; the tails
    say what the bytes after the words are, empty where there are none."""

    name: str
    number: int
    doc: str
    request: Mapping[str, str] = field(default_factory=dict)
    reply: Mapping[str, str] = field(default_factory=dict)
    request_tail: str = ""
    reply_tail: str = ""


MESSAGES: tuple[Message, ...] = (
    Message(
        "hello",
        1,
        "Starts a session with this frame's sequence number and closes what an earlier one had open.",
        reply={
            "protocol_version": "of these messages",
            "format_version": "of the programs that the image runs",
            "profile": "number of the kernel profile",
            "frame_bytes": "longest frame before byte stuffing, header and CRC included",
            "pool_bytes": "RAM for uploaded programs and the memory of the open one",
            "stack_bytes": "RAM reserved for the stack",
            "resident_bytes": "size of the program in flash, 0 if there is none",
            "resident_crc": "CRC-32 that the program in flash carries",
            "kernel_count": "number of kernels in the image",
            "counter_runs": "1 if the tick counter counts",
        },
        reply_tail="the board's id, UTF-8",
    ),
    Message(
        "kernels",
        2,
        "Lists the numbers of the kernels in the image, as many as a frame holds.",
        request={"first": "position in the list to start from"},
        reply_tail="kernel numbers, u16 each",
    ),
    Message(
        "load",
        3,
        "Uploads a program to the end of the pool, chunk after chunk. Offset 0 begins and closes the open program.",
        request={
            "total_bytes": "size of the whole program",
            "offset": "where this chunk goes: where the last one ended",
        },
        request_tail="the chunk",
    ),
    Message(
        "open",
        4,
        "Checks a program, lends it memory from the start of the pool, and starts it.",
        request={"source": "0 the program in flash, 1 the uploaded one", "check_crc": "1 to check its CRC-32 too"},
        reply={
            "failed_step": "the step that the status belongs to",
            "arena_bytes": "activations and scratch",
            "fast_bytes": "the second arena",
            "state_bytes": "variables",
            "input_count": "number of inputs",
            "output_count": "number of outputs",
            "step_count": "number of steps",
            "open_ticks": "cost of ml_open",
            "start_ticks": "cost of ml_start",
        },
    ),
    Message(
        "describe",
        5,
        "Describes an input or output of the open program.",
        request={"direction": "0 input, 1 output", "index": "which one"},
        reply={
            "bytes": "size of its data",
            "dtype": "an ml_dtype",
            "scale": "bits of a float32; 0 if not quantized",
            "zero_point": "bits of an int32",
            "rank": "number of dimensions",
        },
        reply_tail="the dimensions, u32 each, outermost first; then the name, UTF-8, cut to the frame",
    ),
    Message(
        "write",
        6,
        "Writes to an input.",
        request={"index": "which input", "offset": "first byte"},
        request_tail="the bytes",
    ),
    Message(
        "invoke",
        7,
        "Runs all steps.",
        reply={"failed_step": "the step that the status belongs to", "ticks": "cost of ml_invoke"},
    ),
    Message(
        "step",
        8,
        "Runs one step.",
        request={"step": "which one"},
        reply={"next": "the step after it; step_count at the end", "ticks": "cost of the step"},
    ),
    Message(
        "read",
        9,
        "Reads from an output, or from a region of the open program's memory.",
        request={
            "source": "0 an output, 1 a region",
            "index": "which output, or the region's number in the program format",
            "offset": "first byte",
            "count": "how many bytes",
        },
        reply_tail="the bytes",
    ),
    Message("reset", 10, "Puts the state of the open program back to its initial values."),
    Message(
        "stack",
        11,
        "Tells how much of the stack was ever used since it was painted.",
        request={"repaint": "1 to paint what is free now, after measuring"},
        reply={"used_bytes": "high-water mark"},
    ),
    Message("reboot", 12, "Restarts the device, after the reply."),
    Message(
        "flash_info",
        13,
        "Tells of the flash for programs that come after the image. This and the next two are answered only where the "
        "board's file has such a region.",
        reply={
            "bytes": "its size, first page included; 0 if the image reaches into it",
            "erase_bytes": "size of a block",
            "image_crc": "CRC-32 that the image's own program carries, 0 if there is none",
            "updated": "1 if the program in flash is not the image's own",
        },
    ),
    Message(
        "flash_erase",
        14,
        "Erases a block of that flash. Closes the open program; the image's own is the one in flash until a restart.",
        request={"offset": "where the block begins"},
    ),
    Message(
        "flash_write",
        15,
        "Writes whole pages of that flash, and closes as FLASH_ERASE does.",
        request={"offset": "where the first begins"},
        request_tail="the pages",
    ),
)

BY_NAME = {message.name: message for message in MESSAGES}


@dataclass(frozen=True)
class Reply:
    """An answer: `status` 0, an `ml_status` below it or a link status above it; words by name; the bytes after them."""

    status: int
    words: Mapping[str, int]
    tail: bytes


def encode_request(name: str, sequence: int, words: Mapping[str, int], tail: bytes = b"") -> bytes:
    """The frame body of a request; `words` has a value, 0 to 2**32 - 1, for each word of the message."""
    message = BY_NAME[name]
    values = [words[word] for word in message.request]
    return struct.pack(f"<HBb{len(values)}I", sequence, message.number, 0, *values) + tail


def decode_reply(name: str, sequence: int, body: bytes) -> Reply | None:
    """The reply to the request `name` with number `sequence`, or None if `body` is another frame's, an earlier reply
    that came late for example. LinkError if it is the right one but shorter than it must be."""
    message = BY_NAME[name]
    if len(body) < HEADER_BYTES:
        return None
    got_sequence, kind, status = struct.unpack_from("<HBb", body)
    if got_sequence != sequence or kind != message.number | REPLY:
        return None
    count = len(message.reply)
    if status > 0 and len(body) == HEADER_BYTES:
        return Reply(status, dict.fromkeys(message.reply, 0), b"")
    if len(body) < HEADER_BYTES + 4 * count:
        raise LinkError(
            f"the device's answer to {name.upper()} is too short: {len(body)} bytes",
            "Its firmware does not fit this version of the SDK; flash it again with `sdk flash`.",
        )
    words = struct.unpack_from(f"<{count}I", body, HEADER_BYTES)
    return Reply(status, dict(zip(message.reply, words, strict=True)), body[HEADER_BYTES + 4 * count :])


def header_text() -> str:
    """The text of firmware/gen/ml_messages.h."""
    lines = [
        "/* Generated by sdk/gen.py from sdk/link/messages.py; do not edit. The requests of the serial protocol. */",
        "#ifndef ML_MESSAGES_H",
        "#define ML_MESSAGES_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define ML_PROTOCOL_VERSION {PROTOCOL_VERSION}u",
        f"#define ML_LINK_HEADER_BYTES {HEADER_BYTES}u",
        f"#define ML_LINK_CRC_BYTES {CRC_BYTES}u",
        f"#define ML_LINK_MIN_FRAME_BYTES {MIN_FRAME_BYTES}u",
        f"#define ML_LINK_MAX_FRAME_BYTES {MAX_FRAME_BYTES}u",
        f"#define ML_LINK_MAX_BOARD_ID_BYTES {MAX_BOARD_ID_BYTES}u",
        f"#define ML_LINK_REPLY 0x{REPLY:02x}u",
        *(f"#define ML_LINK_{name} {value}u" for name, value in CONSTANTS.items()),
        "",
        "/* What a reply's status says beyond ml_status. */",
        "enum {",
        *(f"    ML_LINK_ERR_{name} = {number}, /* {text} */" for name, number, text in LINK_STATUSES),
        "};",
        "",
        "typedef struct ml_link_header {",
        "    uint16_t sequence;",
        "    uint8_t kind;",
        "    int8_t status;",
        "} ml_link_header;",
        "",
        *_message_table(),
    ]
    for message in MESSAGES:
        lines += _structs(message)
    return "\n".join([*lines, "#endif", ""])


def _message_table() -> list[str]:
    rows = [
        f"    X({m.name}, {m.number}, {len(m.request)}, {len(m.reply)}, {int(bool(m.request_tail))})" for m in MESSAGES
    ]
    return [
        "/* name, number, words of the request, words of the reply, whether the request has a tail */",
        "#define ML_MESSAGES(X) \\",
        *(row + " \\" for row in rows[:-1]),
        rows[-1],
        "",
        "enum {",
        *(f"    ML_LINK_{m.name.upper()} = {m.number}," for m in MESSAGES),
        "};",
        "",
    ]


def _structs(message: Message) -> list[str]:
    lines = [f"/* {message.name.upper()}: {message.doc} */"]
    for side, words, tail in (
        ("request", message.request, message.request_tail),
        ("reply", message.reply, message.reply_tail),
    ):
        if words:
            lines.append(f"typedef struct ml_{message.name}_{side} {{")
            lines += [f"    uint32_t {word}; /* {doc} */" for word, doc in words.items()]
            lines.append(f"}} ml_{message.name}_{side};")
        if tail:
            lines.append(f"/* The {side}'s tail: {tail}. */")
    return [*lines, ""]
