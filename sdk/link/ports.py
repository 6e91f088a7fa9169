"""Serial ports: which one a board is on, and why one cannot be used.

Boards are known by the USB ids of their files; two that are alike are told apart by serial number, or by device where
their maker gave all the same one.
"""

from __future__ import annotations

import errno
import grp
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from sdk.boards import Board
from sdk.errors import LinkError

MEMORY_MAJOR = 1  # Linux's number for /dev/null and its like


@dataclass(frozen=True)
class Port:
    """A serial port of this computer. `usb_id`: vendor and product; None for one that is not on USB."""

    device: str
    description: str
    serial_number: str  # "" where the adapter has none
    usb_id: tuple[int, int] | None
    place: str = ""  # the USB socket that the adapter is in; "" where the system does not tell

    def __str__(self) -> str:
        number = f", serial number {self.serial_number}" if self.serial_number else ""
        ids = f" [{_ids(self.usb_id)}]" if self.usb_id else ""
        return f"{self.device} ({self.description}{ids}{number})"


def present() -> list[Port]:
    """All serial ports."""
    return [
        Port(
            *(port.device, port.description, port.serial_number or ""),
            (port.vid, port.pid) if port.vid else None,
            (port.location or "").partition(":")[0],  # "1-1.2:1.0": the interface 1.0 of what is in 1-1.2
        )
        for port in sorted(list_ports.comports(), key=lambda port: port.device)
    ]


def connected(board: Board, ports: Sequence[Port] | None = None) -> list[Port]:
    """Those of `ports` (None: of all) whose USB ids are among the board's, one a board."""
    return _adapters([port for port in (present() if ports is None else ports) if port.usb_id in board.serial.usb_ids])


def _adapters(ports: Sequence[Port]) -> list[Port]:
    """One port of each adapter, its first. Some makers give all of a kind the same serial number."""
    found: dict[tuple[str, str], Port] = {}
    for port in ports:
        found.setdefault((port.serial_number, port.place or port.device), port)
    return list(found.values())


def find_port(board: Board, port: str | None) -> str:
    """What SerialTransport and flashers open: a device or a URL. `port` is one of these or a USB serial number; None
    looks for the one connected board. LinkError, with the remedy, if there is no such port or it cannot be used."""
    if port is not None and "://" in port:
        return _checked(port)
    if port == "":
        raise LinkError("the port is empty", "Leave out --port, or name one.")
    device = _only(board) if port is None else _named(port)
    check_usable(device, board.serial.usb_ids)
    return device


def _checked(url: str) -> str:
    """A port across the network."""
    if re.match(r"(socket|rfc2217)://", url) and not re.match(r"\w+://[^/?#]+:\d+(/|\?|$)", url):
        raise LinkError(f"'{url}' names no host and port", "As in socket://192.168.1.7:3333.")
    return url


def opened_as(port: str) -> str:
    """What pyserial opens for a port. Not every RFC 2217 server acknowledges what it is told of the control lines:
    esptool's does not."""
    return f"{port}?ign_set_control" if port.startswith("rfc2217://") and "?" not in port else port


def _only(board: Board) -> str:
    """The port of the one board that is connected."""
    found = connected(board)
    if len(found) == 1:
        return found[0].device
    if found:
        raise LinkError(
            f"{len(found)} boards may be {board.id}: {_listed(found)}",
            f"Choose one: --port {_name(found[0], found)}",
        )
    if not board.serial.usb_ids:
        raise LinkError(f"the file of {board.id} names no USB ids to find it by", _wiring(board) + ports_hint())
    ids = " or ".join(_ids(pair) for pair in board.serial.usb_ids)
    raise LinkError(f"no {board.id} is connected: no serial port has the USB ids {ids}", _wiring(board) + ports_hint())


def _wiring(board: Board) -> str:
    """How a board that has no serial port of its own gets one."""
    if board.flasher == "pyocd":
        return "A probe without a serial port needs an adapter beside it: --port pyocd:/dev/ttyUSB0. "
    if "uf2" in board.flashers:
        return (
            "Wire a USB serial adapter to GP0 (TX), GP1 (RX) and GND, and name it with --port; for the image hold "
            "BOOTSEL while you plug the board in. "
        )
    return ""


def _named(port: str) -> str:
    """The device of a port given by its path or by its adapter's serial number."""
    if "/" in port or Path(port).exists():
        return port
    found = _adapters([each for each in present() if each.serial_number.lower() == port.lower()])
    if not found:
        raise LinkError(f"there is no port {port}, nor a USB adapter with that serial number", ports_hint())
    if len(found) > 1:
        raise LinkError(
            f"{len(found)} USB adapters have the serial number {port}: {_listed(found)}",
            f"Choose one by its device: --port {found[0].device}",
        )
    return found[0].device


def _name(port: Port, among: Sequence[Port]) -> str:
    """What --port takes for one of `among`."""
    alike = [each for each in among if each.serial_number.lower() == port.serial_number.lower()]
    return port.serial_number if port.serial_number and len(alike) == 1 else port.device


def check_usable(device: str, usb_ids: Sequence[tuple[int, int]] = ()) -> None:
    """LinkError if `device` cannot be opened: not there, not allowed, in use by another program. `usb_ids`: what it is
    likely to have where the system does not tell."""
    if not Path(device).exists():
        raise LinkError(f"there is no port {device}", ports_hint())
    about = Path(device).stat()
    if not stat.S_ISCHR(about.st_mode) or os.major(about.st_rdev) == MEMORY_MAJOR:
        raise LinkError(f"{device} is no serial port", ports_hint())
    if not os.access(device, os.R_OK | os.W_OK):
        raise no_permission(device, usb_ids)
    users = holders(device)
    if users:
        raise in_use(device, users)


def open_error(device: str, error: Exception) -> LinkError:
    """What to do about a port that does not open."""
    number, text = getattr(error, "errno", None), str(error)
    if "://" in device:
        reason = text.rpartition("] ")[2] or text
        return LinkError(
            f"cannot connect to {device}: {reason}", "Check host and port, and that the program there serves the line."
        )
    if number == errno.EACCES or "Permission denied" in text:
        return no_permission(device)
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in text:
        return in_use(device, holders(device))
    if number == errno.ENOENT or "No such file" in text:
        return LinkError(f"there is no port {device}", ports_hint())
    return LinkError(f"cannot open {device}: {error}", ports_hint())


def no_permission(device: str, usb_ids: Sequence[tuple[int, int]] = ()) -> LinkError:
    """The group that may use the port, and the rule that opens it to everyone who sits at the computer."""
    known = [port.usb_id for port in present() if port.device == device and port.usb_id] or usb_ids
    remedy = f"Run `sudo usermod -aG {_group(device)} $USER` and log in again."
    if known:
        remedy += f" Or put this line into /etc/udev/rules.d/60-microlith.rules and replug it: {udev_rule(known[0])}"
    return LinkError(f"no permission to use {device}", remedy)


def udev_rule(usb_id: tuple[int, int]) -> str:
    """A line for udev that opens whatever has these USB ids, serial port and debug probe alike, to the group dialout
    and to the user at the computer."""
    match = 'ATTRS{{idVendor}}=="{:04x}", ATTRS{{idProduct}}=="{:04x}"'.format(*usb_id)
    return f'{match}, MODE="0660", GROUP="dialout", TAG+="uaccess"'


def _group(device: str) -> str:
    """The group that owns the port, if that helps to open it; else Debian's for serial ports."""
    try:
        about = os.stat(device)  # noqa: PTH116 - one call for both
        name = grp.getgrgid(about.st_gid).gr_name
    except (OSError, KeyError):
        return "dialout"
    return name if about.st_gid and about.st_mode & 0o060 == 0o060 else "dialout"


def in_use(device: str, users: Sequence[str]) -> LinkError:
    """Who uses the port, as far as this user may know."""
    if users:
        return LinkError(f"{' and '.join(users)} uses {device}", "End it, then run this again.")
    return LinkError(
        f"another program uses {device}",
        f"Close it: a serial monitor, for example (`sudo fuser -v {device}` names it).",
    )


def holders(device: str) -> list[str]:
    """The other processes that have `device` open: "minicom (process 1234)". Those of other users stay hidden. One that
    serves a pseudo-terminal has it open to hold it, and is the device then."""
    path = os.path.realpath(device)
    served = path.startswith("/dev/pts/")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        files = set(_open_files(process))
        if (
            path in files
            and int(process.name) != os.getpid()
            and not (served and files & {"/dev/ptmx", "/dev/pts/ptmx"})
        ):
            found.append(f"{_process_name(process)} (process {process.name})")
    return found


def _open_files(process: Path) -> Iterator[str]:
    try:
        for link in (process / "fd").iterdir():
            yield os.readlink(link)  # noqa: PTH115 - text is compared
    except OSError:
        return  # it has ended, or is another user's


def _process_name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"


def ports_hint() -> str:
    """The ports that are there, as a remedy."""
    everything = present()
    ports = [port for port in everything if port.usb_id]
    if ports:
        return f"Ports present: {_listed(ports)}. Choose one with --port."
    own = f" (the computer's own, {_listed(everything)}, lead mostly nowhere)" if everything else ""
    return f"No USB serial port is present{own}: plug the board in with a cable that carries data, or give --port."


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(str(port) for port in ports)


def _ids(pair: tuple[int, int]) -> str:
    return f"{pair[0]:04x}:{pair[1]:04x}"
