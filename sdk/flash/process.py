"""Boards that are a process of this computer: the serial line is a socket pair, the flash a file in the cache."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sdk.boards import Board
from sdk.cache import cache_dir, put
from sdk.errors import LinkError, UsageError

READ_BYTES = 65536
TAKEN_POLL_S = 0.0005
POKE_S = 0.02
IDLE_S = 0.2
STALL_S = 1.0  # the child is taken to compute, or to hang, when it has read nothing for so long
VIRTUAL_QUICK_S = 60.0  # a Device's patience with quick requests: the pace is that of a computer which may be busy
WRITE_TIMEOUT_S = 60.0  # an emulator on a busy computer may take some 10 KB/s


class Child:
    """A process that ends no later than this one, whatever ends this one; its stderr is kept in memory.

    `command` starts it; it inherits the sockets `inherited`, by the same numbers, which are closed here.
    """

    def __init__(
        self, command: Sequence[str], inherited: Sequence[socket.socket], stdio: int = subprocess.DEVNULL
    ) -> None:
        # The kernel sends the signal when the thread ends that has started the process. Where there is no setpriv
        # (it is part of util-linux), closing the socket pair has to do.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        self._stderr = os.memfd_create("stderr")
        self._process = subprocess.Popen(
            [*guard, *command],
            stdin=stdio,
            stdout=stdio,
            stderr=self._stderr,
            pass_fds=[end.fileno() for end in inherited],
            process_group=0,  # Ctrl-C on the terminal is for this process, which then ends the child in order
        )
        for end in inherited:
            end.close()
        self._lock = threading.Lock()  # guards the next three
        self._users = 0
        self._idle_since = time.monotonic()
        self._halted = False
        self._ended = threading.Event()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Lets the process run meanwhile, if doze() has been called."""
        with self._lock:
            self._users += 1
            if self._halted:
                self._process.send_signal(signal.SIGCONT)
                self._halted = False
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._idle_since = time.monotonic()

    def doze(self) -> None:
        """From now on halts the process whenever nobody has wanted it awake() for IDLE_S."""
        threading.Thread(target=self._doze, daemon=True).start()

    def _doze(self) -> None:
        while not self._ended.wait(IDLE_S / 2):
            with self._lock:
                if not self._users and not self._halted and time.monotonic() - self._idle_since > IDLE_S:
                    self._process.send_signal(signal.SIGSTOP)
                    self._halted = True

    def epitaph(self) -> str:
        """How it ended: the signal that killed it, or else its last words. Waits for the end, 2 s at most."""
        try:
            status = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return "it closed its serial line"
        if status < 0:
            return signal.strsignal(-status) or f"signal {-status}"
        words = os.pread(self._stderr, 65536, 0).decode(errors="replace").strip()
        return words.splitlines()[-1] if words else f"exit status {status}"

    def end(self) -> None:
        """Kills the process and waits for it. Twice is once."""
        self._ended.set()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1


class Line:
    """This side of the socket pair that is a child's serial line."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()

    def read(self, timeout_s: float) -> bytes | None:
        """The bytes that have come, b"" if none came within `timeout_s`, None at the end of the line."""
        if not select.select([self.here], [], [], max(timeout_s, 0))[0]:
            return b""
        try:
            return self.here.recv(READ_BYTES) or None
        except ConnectionResetError:
            return None

    def write(self, data: bytes) -> bool:
        """Sends all of `data`; False at the end of the line. LinkError if the child takes no more bytes."""
        self.here.settimeout(WRITE_TIMEOUT_S)
        try:
            self.here.sendall(data)
        except TimeoutError as error:
            raise LinkError("the device takes no more bytes", "Reset it: its firmware hangs.") from error
        except OSError:
            return False
        return True

    def wait_until_taken(self, poke: Callable[[], None] = lambda: None) -> None:
        """Waits while the child reads what was sent: only then does the wait for its answer begin, as on a real serial
        line. `poke` is called whenever it has read nothing for POKE_S."""
        left, since, pokes = -1, time.monotonic(), 0
        while time.monotonic() - since < STALL_S:
            unread = struct.unpack("i", fcntl.ioctl(self.here, termios.TIOCOUTQ, bytes(4)))[0]
            if unread == 0:
                return
            if unread != left:
                left, since, pokes = unread, time.monotonic(), 0
            elif time.monotonic() - since > POKE_S * (pokes + 1):
                poke()
                pokes += 1
            time.sleep(TAKEN_POLL_S)

    def drain(self) -> None:
        """Forgets all bytes that have come."""
        while self.read(0):
            pass

    def close(self) -> None:
        self.here.close()


def no_port(board: Board, port: str | None) -> None:
    """Refuses a --port, which a process does not have."""
    if port is not None:
        raise UsageError(f"the board {board.id} is a process and has no port", f"Leave out --port {port}.")


def store(board: Board, elf: Path) -> Path:
    """Puts an image into the board's flash, whole or not at all."""
    flash = cache_dir("boards", board.id) / "flash.elf"
    put(flash, elf.read_bytes())
    flash.chmod(0o755)
    return flash


def stored(board: Board) -> Path:
    """What store() has put into the board's flash. LinkError if nothing was."""
    flash = cache_dir("boards", board.id) / "flash.elf"
    if not flash.is_file():
        raise LinkError(f"the flash of {board.id} is empty", f"Flash it: sdk flash MODEL --board {board.id}")
    return flash
