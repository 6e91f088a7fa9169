"""Finding a board's serial port, and what is said of one that cannot be used. Ports are pseudo-terminals."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from sdk.boards import Board, Counter, load_board
from sdk.cli import main
from sdk.doctor import examine
from sdk.errors import LinkError, UsageError
from sdk.flash import choose
from sdk.link.ports import connected, find_port
from sdk.link.transport import SerialTransport

ID = (0x0D28, 0x0204)


@pytest.fixture
def terminal() -> Iterator[str]:
    """The path of a pseudo-terminal that this process serves."""
    master, slave = pty.openpty()
    path = os.ttyname(slave)
    os.close(slave)
    yield path
    os.close(master)


@pytest.fixture
def microbit() -> Board:
    return load_board("microbit")


Plug = Callable[..., None]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """A function that lets the system list a port as a USB adapter: this computer may have none."""
    ports: list[ListPortInfo] = []
    monkeypatch.setattr(list_ports, "comports", lambda: ports)

    def add(
        device: str, usb_id: tuple[int, int] = ID, serial_number: str | None = None, place: str | None = None
    ) -> None:
        port = ListPortInfo(device)
        port.vid, port.pid = usb_id
        port.serial_number, port.description, port.location = serial_number, "USB serial", place
        ports.append(port)

    return add


def test_the_one_connected_board(microbit: Board, plug: Plug, terminal: str) -> None:
    plug("/dev/other", (0x1A86, 0x7523))
    plug(terminal, serial_number="9900A")
    assert find_port(microbit, None) == find_port(microbit, "9900a") == find_port(microbit, terminal) == terminal
    (port,) = connected(microbit)
    assert (port.device, port.serial_number) == (terminal, "9900A")


def test_two_ports_of_one_adapter_are_one_board(microbit: Board, plug: Plug, terminal: str) -> None:
    plug(terminal, serial_number="77", place="1-1.2:1.0")
    plug(f"{terminal}x", serial_number="77", place="1-1.2:1.2")
    assert find_port(microbit, None) == find_port(microbit, "77") == terminal


@pytest.mark.parametrize("places", [("1-1:1.0", "1-2:1.0"), (None, None)])
def test_two_of_one_serial_number_are_told_apart_by_device(
    microbit: Board, plug: Plug, terminal: str, places: tuple[str | None, str | None]
) -> None:
    """As a CP2102 has it from its maker."""
    plug("/dev/aUSB7", serial_number="0001", place=places[0])
    plug(terminal, serial_number="0001", place=places[1])
    assert len(connected(microbit)) == 2
    with pytest.raises(LinkError, match="2 boards may be microbit") as error:
        find_port(microbit, None)
    assert error.value.remedy == "Choose one: --port /dev/aUSB7"
    with pytest.raises(
        LinkError, match=rf"2 USB adapters have the serial number 0001: /dev/aUSB7 .*{terminal}"
    ) as error:
        find_port(microbit, "0001")
    assert "--port /dev/aUSB7" in error.value.remedy
    assert find_port(microbit, terminal) == terminal


def test_two_alike_are_told_apart_by_serial_number(microbit: Board, plug: Plug, terminal: str) -> None:
    plug("/dev/ttyACM7", serial_number="AAA1")
    plug(terminal, serial_number="BBB2")
    with pytest.raises(LinkError, match=r"2 boards may be microbit: .*/dev/pts.*BBB2.*AAA1") as error:
        find_port(microbit, None)
    assert error.value.remedy in ("Choose one: --port AAA1", "Choose one: --port BBB2")
    assert find_port(microbit, "BBB2") == terminal


def test_none_is_connected(microbit: Board, plug: Plug) -> None:
    with pytest.raises(LinkError, match="no serial port has the USB ids 0d28:0204") as error:
        find_port(microbit, None)
    assert "plug the board in" in error.value.remedy
    plug("/dev/ttyUSB0", (0x1A86, 0x7523))
    with pytest.raises(LinkError, match="no microbit is connected") as error:
        find_port(microbit, None)
    assert "/dev/ttyUSB0 (USB serial [1a86:7523])" in error.value.remedy


@pytest.mark.parametrize("port", ["/dev/ttyNONE9", "0123456789"])
def test_no_such_port(microbit: Board, port: str) -> None:
    with pytest.raises(LinkError, match=f"there is no port {port}"):
        find_port(microbit, port)


def test_urls_are_ports(microbit: Board) -> None:
    assert find_port(microbit, "socket://10.0.0.7:3333") == "socket://10.0.0.7:3333"
    assert find_port(microbit, "rfc2217://[::1]:2217/?logging=info") == "rfc2217://[::1]:2217/?logging=info"
    assert find_port(microbit, "rfc2217://10.0.0.7:2217") == "rfc2217://10.0.0.7:2217", "as it was typed"
    for url in ("socket://", "rfc2217://board", "socket://board:serial"):
        with pytest.raises(LinkError, match="names no host and port"):
            find_port(microbit, url)


def test_process_that_holds_the_port_is_named(microbit: Board, terminal: str) -> None:
    with Path(terminal).open("rb") as stream, subprocess.Popen(["sleep", "60"], stdin=stream) as process:
        try:
            with pytest.raises(LinkError, match=rf"sleep \(process {process.pid}\) uses {terminal}"):
                find_port(microbit, terminal)
        finally:
            process.kill()


@pytest.fixture
def forbidden(terminal: str) -> Iterator[str]:
    """A port of the group dialout that this process may not open, not even as root."""
    Path(terminal).chmod(0o060)
    if os.getuid() == 0:
        os.chown(terminal, 0, grp.getgrnam("dialout").gr_gid)
        os.setresgid(65534, 65534, 0)
        os.setresuid(65534, 65534, 0)
    yield terminal
    if os.getresuid()[2] == 0:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


def test_port_without_permission(microbit: Board, plug: Plug, forbidden: str) -> None:
    """Names the group and the udev rule, by the ids of the port or else of the board."""
    for vendor, product in (ID, (0x10C4, 0xEA60)):
        with pytest.raises(LinkError, match=f"no permission to use {forbidden}") as error:
            find_port(microbit, forbidden)
        assert re.search(r"sudo usermod -aG (dialout|tty) \$USER", error.value.remedy)
        rule = f'ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}", MODE="0660", GROUP="dialout"'
        assert rule in error.value.remedy
        plug(forbidden, (0x10C4, 0xEA60))
    with pytest.raises(LinkError, match="no permission to use"):
        SerialTransport(forbidden)


def test_port_that_is_locked(terminal: str) -> None:
    with contextlib.closing(SerialTransport(terminal)), pytest.raises(LinkError, match=f"uses {terminal}"):
        SerialTransport(terminal)


ACTS: dict[str, Callable[[SerialTransport], object]] = {
    "read": lambda transport: transport.read(1.0),
    "write": lambda transport: transport.write(bytes(5000)),
}


@pytest.mark.parametrize("act", ACTS)
def test_board_that_is_unplugged(act: str) -> None:
    master, slave = pty.openpty()
    transport = SerialTransport(os.ttyname(slave))
    os.close(slave)
    os.close(master)
    with contextlib.closing(transport), pytest.raises(LinkError, match=f"{transport.name} went away") as error:
        ACTS[act](transport)
    assert "cable" in error.value.remedy


def test_doctor_tells_of_each_port(plug: Plug, terminal: str) -> None:
    plug(terminal, serial_number="42")
    plug("/dev/ttyNONE", (0x10C4, 0xEA60))
    checks = {check.name: check for check in examine()}
    assert checks[terminal].ok
    assert "microbit" in checks[terminal].purpose
    assert "serial number 42" in checks[terminal].found
    assert not checks["/dev/ttyNONE"].ok


def test_boards_tells_of_connected_ones(plug: Plug, terminal: str, capsys: pytest.CaptureFixture[str]) -> None:
    plug(terminal, serial_number="42")
    assert main(["boards", "--json"]) == 0
    found = {board["id"]: board["connected"] for board in json.loads(capsys.readouterr().out)["boards"]}
    assert found["microbit"] == [{"port": terminal, "serial_number": "42"}]
    assert found["native"] == []
    assert main(["boards"]) == 0
    assert re.search(rf"^microbit .*{terminal} \(42\)$", capsys.readouterr().out, re.MULTILINE)


def test_flasher_is_chosen(microbit: Board, plug: Plug) -> None:
    """By the port, or by what is connected where an emulator can stand in; and chosen again it stays."""
    both = replace(microbit, flasher="pyocd", flashers={"pyocd": {}, "emulator": {}})
    real = replace(both, flashers={"pyocd": {}})
    counter = Counter("instructions", 2.048)
    emulated = replace(both, flasher="emulator", flashers={"emulator": {}}, counter=counter)
    assert choose(both, None) == choose(both, "emulator") == choose(emulated, None) == (emulated, None)
    assert choose(both, "pyocd:99") == (real, "99")
    assert choose(both, "/dev/ttyACM0") == (real, "/dev/ttyACM0")
    assert choose(both, "pyocd") == choose(real, None) == (real, None)
    plug("/dev/ttyACM0")
    assert choose(both, None) == (real, None)
    assert choose(both, "emulator") == choose(emulated, None) == (emulated, None)


def test_nothing_stands_in_for_a_board_that_was_asked_for(capsys: pytest.CaptureFixture[str], plug: Plug) -> None:
    assert main(["monitor", "--board", "microbit", "--port", "pyocd", "--json"]) == 9
    assert "no microbit is connected" in json.loads(capsys.readouterr().out)["error"]["message"]
    plug("/dev/ttyACM9")
    assert main(["monitor", "--board", "microbit", "--json"]) == 9
    assert "/dev/ttyACM9" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_flasher_that_the_board_does_not_have(microbit: Board) -> None:
    with pytest.raises(UsageError, match="--port esptool: the file of microbit says nothing of esptool"):
        choose(microbit, "esptool")


@pytest.mark.usefixtures("plug")
def test_emulator_that_stands_in_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path))
    assert main(["monitor", "--board", "microbit", "--json"]) == 9
    said = capsys.readouterr()
    assert "no microbit is connected: its emulator stands in for it" in said.err
    assert "the flash of microbit is empty" in said.out
    assert main(["monitor", "--board", "microbit", "--port", "emulator", "--json"]) == 9
    assert "stands in" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["/dev/null", __file__, ""])
def test_what_is_no_serial_port(what: str) -> None:
    with pytest.raises(LinkError, match=r"is no serial port|is empty"):
        find_port(load_board("esp32"), what)
