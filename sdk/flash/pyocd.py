"""Boards with a debug probe: ST-Link, CMSIS-DAP (DAPLink, Raspberry Pi's Debug Probe) or J-Link, through pyOCD.

The probe flashes and resets; the bytes go over a serial port, mostly that of the same probe. pyOCD is imported when it
is needed: it is large, and other boards do without.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdk.boards import Board
from sdk.cache import Progress, put
from sdk.elf import flash_image
from sdk.errors import LinkError, MissingToolError, ToolError
from sdk.link.ports import find_port, present, udev_rule
from sdk.link.transport import SerialTransport

if TYPE_CHECKING:
    from sdk.build import Image

# `target`: pyOCD's name of the chip. The word at `id_address`, under `id_mask`, must be `id_value`: the right chip.
OPTIONS: dict[str, type[str] | type[int]] = {"target": str, "id_address": int, "id_mask": int, "id_value": int}

PROBE_VENDORS = {0x0483: "ST-Link", 0x0D28: "DAPLink", 0x1366: "J-Link", 0x2E8A: "Debug Probe"}  # by USB id
USB_DEVICES = Path("/sys/bus/usb/devices")
SESSION_OPTIONS = {
    "auto_unlock": False,  # unlocking erases the chip: the user's decision
    "no_config": True,
    "resume_on_disconnect": True,
}
RECORD_BYTES = 16


def check(board: Board, port: str | None) -> None:
    """See sdk.flash."""
    _check_tool()
    url = find_port(board, port)
    if pack_command(board):
        raise _unknown(board)
    _probe(board, _wanted(url, port))


def flash(board: Board, image: Image, port: str | None, progress: Progress) -> ProbeTransport:
    """See sdk.flash."""
    url = find_port(board, port)
    wanted = _wanted(url, port)
    file = package(board, image.elf)
    with _session(board, wanted) as session:
        # First: nobody hears a board that is flashed and has no line.
        line = ProbeTransport(board, url, Wanted(str(session.probe.unique_id), True))
        try:
            _program(board, session, file, progress)
        except BaseException:
            line.close()
            raise
    return line


def connect(board: Board, port: str | None) -> ProbeTransport:
    """See sdk.flash."""
    url = find_port(board, port)
    return ProbeTransport(board, url, _wanted(url, port))


def package(board: Board, elf: Path) -> Path:
    """See sdk.flash: an Intel HEX file, which DAPLink drives and vendors' tools take too."""
    put(elf.with_suffix(".hex"), intel_hex(*flash_image(elf, board.regions["flash"])).encode())
    return elf.with_suffix(".hex")


def by_hand(board: Board, file: Path) -> str:
    """See sdk.flash."""
    return f"pyocd flash --target {board.flashers['pyocd']['target']} {file}"


def pack_command(board: Board) -> str:
    """What makes the board's chip known to pyOCD; "" if it is."""
    from pyocd.core.session import Session
    from pyocd.target import TARGET
    from pyocd.target.pack.pack_target import is_pack_target_available

    target = str(board.flashers["pyocd"]["target"])
    known = target in TARGET or is_pack_target_available(target, Session(None, options={"no_config": True}))
    return "" if known else f"pyocd pack install {target}"


class Wanted(NamedTuple):
    """A debug probe, by serial number."""

    serial_number: str
    only: bool  # no other will do


class ProbeTransport(SerialTransport):
    """A serial port whose board is reset by a debug probe."""

    def __init__(self, board: Board, url: str, probe: Wanted) -> None:
        super().__init__(url, board.serial.baud)
        self._board, self._probe = board, probe

    def reset(self) -> None:
        """See sdk.link.transport."""
        with _session(self._board, self._probe) as session:
            session.target.reset()


def intel_hex(origin: int, data: bytes) -> str:
    """`data` at the address `origin`, in Intel's format: a record says the upper half of the addresses that follow."""
    lines = []
    upper, end, start = -1, origin + len(data), origin
    while start < end:
        if start >> 16 != upper:
            upper = start >> 16
            lines.append(_record(0, 4, upper.to_bytes(2, "big")))
        stop = min(end, start + RECORD_BYTES - start % RECORD_BYTES)
        lines.append(_record(start & 0xFFFF, 0, data[start - origin : stop - origin]))
        start = stop
    return "\n".join([*lines, _record(0, 1, b""), ""])


def _record(offset: int, kind: int, data: bytes) -> str:
    body = bytes([len(data), offset >> 8, offset & 0xFF, kind]) + data
    return f":{(body + bytes([-sum(body) & 0xFF])).hex().upper()}"


def _wanted(url: str, given: str | None) -> Wanted:
    """The probe that is the port `url` too. Another may be meant only if the port is that of a plain adapter, and was
    not `given` by its serial number."""
    for port in present():
        if port.device == url and port.serial_number:
            vendor = port.usb_id[0] if port.usb_id else None
            by_number = given is not None and given.lower() == port.serial_number.lower()
            return Wanted(port.serial_number, by_number or vendor in PROBE_VENDORS)
    return Wanted("", False)


def _check_tool() -> None:
    if importlib.util.find_spec("pyocd") is None:
        raise MissingToolError("the package pyocd is missing", f"{sys.executable} -m pip install pyocd")


def _unknown(board: Board) -> ToolError:
    target = board.flashers["pyocd"]["target"]
    return ToolError(
        f"pyOCD does not know {target}, the chip of {board.id}", f"Once, with a network: pyocd pack install {target}"
    )


@contextmanager
def _session(board: Board, wanted: Wanted) -> Iterator[Any]:
    """A session of pyOCD with the board's chip, halted, by the probe that is wanted.
    LinkError or ToolError, with the remedy, whatever fails until it ends."""
    _check_tool()
    from pyocd.core import exceptions
    from pyocd.core.session import Session
    from usb.core import USBError

    logging.getLogger("pyocd").setLevel(logging.CRITICAL)  # what counts is in its exceptions
    target = str(board.flashers["pyocd"]["target"])
    probe = _probe(board, wanted)
    try:
        with Session(probe, options={**SESSION_OPTIONS, "target_override": target}) as session:
            _check_chip(board, session)
            yield session
    except exceptions.TargetSupportError as error:
        raise _unknown(board) from error
    except (exceptions.ProbeError, USBError) as error:
        raise LinkError(
            f"the debug probe {probe.unique_id} fails: {error}", "Unplug it and plug it in again."
        ) from error
    except exceptions.Error as error:
        raise LinkError(
            f"the chip of {board.id} does not obey the debug probe: {error}", _locked_remedy(target)
        ) from error


def _probe(board: Board, wanted: Wanted) -> Any:
    """The debug probe with the serial number that is wanted; if none has it and another will do, the only probe."""
    from pyocd.core.helpers import ConnectHelper

    probes = ConnectHelper.get_all_connected_probes(blocking=False, print_wait_message=False) or []
    number = wanted.serial_number.lstrip("0").lower()
    same = [probe for probe in probes if probe.unique_id.lstrip("0").lower() == number]
    if probes and wanted.only and not same:
        names = ", ".join(sorted(probe.unique_id for probe in probes))
        raise LinkError(
            f"no debug probe has the serial number {wanted.serial_number} of the port: {names} is connected",
            f"Plug {board.id} in by the connector of its probe, or choose another port with --port.",
        )
    found = same or probes
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(f"{probe.unique_id} ({probe.description})" for probe in found))
        raise LinkError(f"{len(found)} debug probes are connected: {names}", "Unplug those that are not the board's.")
    raise _no_probe(board)


def _no_probe(board: Board) -> LinkError:
    """Whether there is a probe that this user may not open."""
    for device in sorted(USB_DEVICES.glob("*")):
        try:
            vendor, product = (int((device / key).read_text(), 16) for key in ("idVendor", "idProduct"))
            bus, number = (int((device / key).read_text()) for key in ("busnum", "devnum"))
        except (OSError, ValueError):
            continue  # a hub's port, or an interface
        node = f"/dev/bus/usb/{bus:03}/{number:03}"
        if vendor in PROBE_VENDORS and not os.access(node, os.R_OK | os.W_OK):
            return LinkError(
                f"no permission to use the {PROBE_VENDORS[vendor]} at {node}",
                f"Put into /etc/udev/rules.d/60-microlith.rules, then plug it in again: {udev_rule((vendor, product))}",
            )
    return LinkError(
        f"no debug probe is connected, and {board.id} is flashed by one",
        "Plug the board in by the connector of its probe, or connect an ST-Link, CMSIS-DAP or J-Link probe.",
    )


def _check_chip(board: Board, session: Any) -> None:
    """LinkError if the chip is locked, or another one than the board's file says."""
    options = board.flashers["pyocd"]
    locked = getattr(session.target, "is_locked", None)
    if locked is not None and locked():
        raise LinkError(f"the chip of {board.id} is locked", _locked_remedy(str(options["target"])))
    found = session.target.read32(int(options["id_address"])) & int(options["id_mask"])
    if found != options["id_value"]:
        raise LinkError(
            f"the chip on the probe {session.probe.unique_id} is not that of {board.id}: it says {found:#x}, and "
            f"{options['target']} says {options['id_value']:#x}",
            "Choose the right board with --board; nothing was written.",
        )


def _program(board: Board, session: Any, file: Path, progress: Progress) -> None:
    """Writes a HEX file, with whatever the flash needs, and starts it."""
    from pyocd.flash.file_programmer import FileProgrammer

    shown = -1

    def show(part: float) -> None:
        nonlocal shown
        if int(100 * part) > shown:
            shown = int(100 * part)
            progress(f"flash {board.id} by {session.probe.description}: {shown} %")

    FileProgrammer(session, progress=show).program(str(file), file_format="hex")
    session.target.reset()


def _locked_remedy(target: str) -> str:
    return (
        "Check the board's power and the probe's cable. If the chip is locked, unlock it, which erases it: "
        f"pyocd erase --mass --target {target} (an STM32: set its option byte RDP to AA with STM32CubeProgrammer)."
    )
