"""Byte streams to a device. Emulated and native devices bring their own transports, in `sdk.flash`."""

from __future__ import annotations

import time
from typing import Protocol

import serial

from sdk.errors import LinkError
from sdk.link.ports import open_error, opened_as, ports_hint

RESET_PULSE_S = 0.1
POLL_S = 0.001
WRITE_TIMEOUT_S = 10.0
READ_BYTES = 4096


class Transport(Protocol):
    """A byte stream to a device. Bytes may get lost, doubled or corrupted on it; `sdk.link.device` copes."""

    @property
    def name(self) -> str:
        """How messages call it: a port, an address, an emulator."""

    def read(self, timeout_s: float) -> bytes:
        """The bytes that have come, waiting for the first at most `timeout_s`; b"" if none came. LinkError if the
        other side is gone."""

    def write(self, data: bytes) -> None:
        """Sends all of `data`. LinkError if the other side is gone."""

    def reset(self) -> None:
        """Restarts the device as its reset button would."""

    def close(self) -> None:
        """Gives the port back, ends the emulator. Twice is once."""


class SerialTransport:
    """A serial port, or one across the network: any URL of pyserial (`socket://host:port`, `rfc2217://host:port`).

    LinkError, with the remedy, if it cannot be opened. The control lines stay released when it opens: boards whose
    reset hangs on them go on running.
    """

    def __init__(self, url: str, baud: int = 115200) -> None:
        self.name = url
        try:
            # Reads never wait: changing a port's time-out would renegotiate the line each time on RFC 2217, which has
            # none for writing.
            patience_s = None if url.startswith("rfc2217:") else WRITE_TIMEOUT_S
            self._port = serial.serial_for_url(
                opened_as(url), baud, timeout=0, write_timeout=patience_s, do_not_open=True
            )
        except ValueError as error:
            raise LinkError(f"'{url}' is not a serial port: {error}", ports_hint()) from error
        self._port.dtr = False
        self._port.rts = False
        self._port.exclusive = True
        try:
            self._port.open()
            self._port.reset_input_buffer()
        except (serial.SerialException, OSError) as error:
            raise open_error(url, error) from error

    def read(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                data = bytes(self._port.read(READ_BYTES))
            except (serial.SerialException, OSError) as error:
                raise self._gone(error) from error
            if data or time.monotonic() >= deadline:
                return data
            time.sleep(POLL_S)

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
            self._port.flush()  # until it is on the line: only then does the wait for an answer begin
        except serial.SerialTimeoutException as error:
            raise LinkError(
                f"{self.name} takes no more bytes", "Reset the board; if it hangs again, unplug and plug it."
            ) from error
        except (serial.SerialException, OSError) as error:
            raise self._gone(error) from error

    def reset(self) -> None:
        """Pulses RTS, which is wired to the reset line of boards that can be reset by their port."""
        try:
            self._port.rts = True
            time.sleep(RESET_PULSE_S)
            self._port.rts = False
        except OSError as error:
            raise LinkError(f"{self.name} has no reset line: {error}", "Press the board's reset button.") from error

    def close(self) -> None:
        self._port.close()

    def _gone(self, error: Exception) -> LinkError:
        return LinkError(f"{self.name} went away: {error}", "Check the cable and the board's power, then run it again.")
