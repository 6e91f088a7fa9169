"""Serial ports, and those across a network, with the firmware as a process at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import serial
import serial.rfc2217
from delay import delay_program, initial, values

from sdk.build import Image
from sdk.errors import LinkError
from sdk.link.device import Device
from sdk.link.transport import SerialTransport, Transport


@contextmanager
def process_on(image: Image, descriptor: int) -> Iterator[None]:
    with subprocess.Popen([image.elf], stdin=descriptor, stdout=descriptor) as process:
        try:
            yield
        finally:
            process.kill()


def check_delay(transport: Transport) -> None:
    with Device(transport) as device:
        device.load(delay_program())
        assert np.array_equal(device.run([values(1)])[0], initial())
        assert np.array_equal(device.run([values(2)])[0], values(1))


def test_a_serial_port(image: Image) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with process_on(image, master):
            check_delay(SerialTransport(os.ttyname(slave)))
            taken = SerialTransport(os.ttyname(slave))
            with pytest.raises(LinkError, match="another program uses"):
                SerialTransport(os.ttyname(slave))
            with pytest.raises(LinkError, match="has no reset line"):
                taken.reset()
            taken.close()
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP port on which `serve` gets the first connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def serve_process(image: Image) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        subprocess.run([image.elf], stdin=connection, stdout=connection, check=False)

    return serve


def test_a_socket(image: Image) -> None:
    with listening(serve_process(image)) as port:
        check_delay(SerialTransport(f"socket://127.0.0.1:{port}"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyserial uses setDaemon
def test_rfc2217(image: Image) -> None:
    """Telnet doubles every byte 255 on the way: a network serial server must not disturb binary frames."""

    def serve(connection: socket.socket) -> None:
        here, there = socket.socketpair()
        settings = serial.serial_for_url("loop://")
        with (
            here,
            there,
            settings,
            connection.makefile("wb", buffering=0) as replies,
            process_on(image, there.fileno()),
        ):
            manager = serial.rfc2217.PortManager(settings, replies)

            def back() -> None:
                with suppress(OSError):
                    while data := here.recv(4096):
                        connection.sendall(b"".join(manager.escape(data)))

            thread = threading.Thread(target=back)
            thread.start()
            while data := connection.recv(4096):
                here.sendall(b"".join(manager.filter(data)))
            here.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    with listening(serve) as port:
        check_delay(SerialTransport(f"rfc2217://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/dev/there-is-no-such-port", "there is no port"),
        ("gopher://x", "is not a serial port"),
        ("socket://127.0.0.1:1", "cannot connect"),
        ("rfc2217://127.0.0.1:1", r"rfc2217://127\.0\.0\.1:1(?!\?)"),
    ],
)
def test_ports_that_do_not_open_are_told_with_a_remedy(url: str, message: str) -> None:
    with pytest.raises(LinkError, match=message) as error:
        SerialTransport(url)
    assert error.value.remedy
    assert "ign_set_control" not in str(error.value), "which nobody has typed"
