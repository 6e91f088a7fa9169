"""Linux boards, over the user's own OpenSSH client: its keys, its configuration, its check of host keys.

The image is a process there, and its serial line goes through SSH. All that is put on a board lies in one folder of the
user's home, FOLDER. $MICROLITH_SSH is the client and its options, "ssh -p 2222" for one.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.boards import Board
from sdk.cache import Progress
from sdk.errors import FitError, LinkError, ToolError, UsageError
from sdk.flash.native import ProcessTransport
from sdk.tools import find_tool

if TYPE_CHECKING:
    from sdk.build import Image

# `machine`: what `uname -m` may say there; `library`: the ABI of its Python, for sdk.shared_library; `engine`: of
# sdk.runtime; `camera`: the source of sdk.camera.
OPTIONS: dict[str, type[str]] = {"machine": str, "library": str, "engine": str, "camera": str}

FOLDER = ".microlith"  # in the home of the user there
CONNECT_S = 10
TRANSFER_S = 600.0
SPARE_KIB = 1024  # what must be left free beside a file that is sent
# Never asks anybody, and ends 15 s after the board has gone; the rest is as the user has configured it.
SETTINGS = ("BatchMode=yes", f"ConnectTimeout={CONNECT_S}", "ServerAliveInterval=5", "ServerAliveCountMax=3")
SSH_OPTIONS = ("-T", *(word for each in (*SETTINGS, "LogLevel=ERROR") for word in ("-o", each)))
# Whole and checked before it has its name: $1 the file, $2 its SHA-256, $3 its mode.
RECEIVE = """umask 077; part=$1.part.$$; trap 'rm -f "$part"' EXIT; trap 'exit 1' HUP INT TERM; \
mkdir -p "$(dirname "$1")" && cat > "$part" && test "$(sha256sum "$part" | cut -c1-64)" = "$2" && \
chmod "$3" "$part" && mv "$part" "$1\""""
# $1 the folder, $2 what `current` shall name in it. The one before stays; older ones go, and so does what somebody else
# is just bringing: who comes last is told.
SWITCH = """cd "$1" && exec 9> .lock && { ! command -v flock > /dev/null || flock 9; } && { test -e "$2" || \
{ echo "somebody else has deployed at the same time: deploy again" >&2; exit 1; }; } && \
old=$(readlink current || true) && ln -sfn "$2" next && mv -T next current && \
for each in *; do case $each in current|"$2"|"$old") ;; *) rm -rf "$each";; esac; done"""


def check(board: Board, port: str | None) -> None:
    """See sdk.flash."""
    Host(board, port).check_machine()


def flash(board: Board, image: Image, port: str | None, progress: Progress) -> ProcessTransport:
    """See sdk.flash. What was flashed before stays until the new image has answered."""
    from sdk.link.device import Device

    host = Host(board, port)
    host.check_machine()
    data = image.elf.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    progress(f"copy {len(data):,} bytes to {host.name}")
    host.put(data, f"{FOLDER}/images/{digest}/image", mode="700")
    transport = host.start(f"{FOLDER}/images/{digest}/image")
    Device(transport, board_id=board.id)
    host.run(SWITCH, f"{FOLDER}/images", digest)
    return transport


def connect(board: Board, port: str | None) -> ProcessTransport:
    """See sdk.flash."""
    host, path = Host(board, port), f"{FOLDER}/images/current/image"
    if host.run('test -x "$1" && echo there || true', path) != "there":
        raise LinkError(f"nothing was flashed to {host.name} yet", f"Flash it: sdk flash MODEL --board {board.id}")
    return host.start(path)


def package(_board: Board, elf: Path) -> Path:
    """See sdk.flash."""
    return elf


class Host:
    """A Linux board, by the name that ssh has for it. Every method raises LinkError if it cannot be reached."""

    def __init__(self, board: Board, name: str | None) -> None:
        if not name:
            raise UsageError(f"{board.id} is reached over SSH", "Say where it is: --host pi@raspberrypi.local")
        if name.startswith("-") or any(c.isspace() for c in name):
            raise UsageError(f"'{name}' is not the name of a host", "Write it as ssh takes it: pi@raspberrypi.local")
        self.board, self.name = board, name

    def command(self, script: str, *words: str) -> list[str]:
        """How to run `script`, for a POSIX shell, over there; `words` are its $1, $2, ..."""
        client, *options = shlex.split(os.environ.get("MICROLITH_SSH", "ssh"))
        # The login shell may be any: all it sees is one simple command.
        remote = shlex.join(["sh", "-c", script, "sh", *words])
        return [find_tool(client), *options, *SSH_OPTIONS, "--", self.name, remote]

    def run(self, script: str, *words: str, data: bytes = b"", timeout_s: float = TRANSFER_S) -> str:
        """What `script` prints; `data` is its stdin. ToolError if it fails."""
        try:
            done = subprocess.run(
                self.command(script, *words), input=data, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LinkError(f"{self.name} has not finished in {timeout_s:.0f} s", "Check its network.") from error
        told = done.stderr.decode(errors="replace").strip()
        if done.returncode == 255:
            raise self.unreachable(told)
        if done.returncode:
            said = "; ".join(told.splitlines()[-2:]) or f"exit status {done.returncode}"
            raise ToolError(f"{self.name}: {said}", f"Log in and look: ssh {self.name}")
        return done.stdout.decode(errors="replace").strip()

    def unreachable(self, told: str) -> LinkError:
        """What to do about what ssh has `told` before it gave up."""
        last = (told.splitlines() or ["no connection"])[-1]
        remedy = f"Check that this works: ssh {self.name}"
        if "IDENTIFICATION HAS CHANGED" in told:
            last = "its host key is not the one that is known"
            remedy = f"If the board was set up anew: ssh-keygen -R {self.name.rpartition('@')[2]}; then ssh {self.name}"
        elif "Host key verification failed" in told:
            last, remedy = "its host key is not known", f"Connect once by hand and compare the key: ssh {self.name}"
        elif "Permission denied" in told:
            remedy = f"Bring your key there: ssh-copy-id {self.name}; a key with a passphrase belongs into ssh-agent."
        return LinkError(f"cannot reach {self.name}: {last}", remedy)

    def check_machine(self) -> None:
        """LinkError if images of the board's file do not run there."""
        found = self.run("uname -m")
        if found not in str(self.board.flashers["ssh"]["machine"]).split():
            raise LinkError(
                f"{self.name} is no {self.board.id}: its machine is {found}",
                "Choose the right board with --board; rpi-zero serves every Raspberry Pi with a 32-bit system.",
            )

    def put(self, data: bytes, path: str, mode: str = "600") -> None:
        """Makes `data` the content of the file `path` in the home there: whole and checked, or not at all. FitError if
        there is no room."""
        digest = hashlib.sha256(data).hexdigest()
        found = 'test "$(sha256sum "$1" 2>/dev/null | cut -c1-64)" = "$2" && echo same'
        have = self.run(f"{found}; df -Pk . | awk 'NR == 2 {{ print $4 }}'", path, digest).split()
        if have[:1] == ["same"]:
            return
        if not have or not have[-1].isdecimal():
            raise LinkError(f"{self.name} does not say how much room it has", f"Try it: ssh {self.name} df -Pk .")
        if int(have[-1]) < len(data) // 1024 + SPARE_KIB:
            raise FitError(
                f"{self.name} has {int(have[-1]):,} KiB left for {path}, which needs {len(data) // 1024:,}",
                "Free some space there; `sdk uninstall` removes all that Microlith has put there.",
            )
        self.run(RECEIVE, path, digest, mode, data=data)

    def start(self, path: str, *words: str) -> ProcessTransport:
        """The stdin and stdout of the program `path` in the home there."""
        return ProcessTransport(f"{self.board.id} ({self.name})", self.command('exec "$@"', f"./{path}", *words))
