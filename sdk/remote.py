"""Programs of the Python runtime on a Linux board, which exchange messages of arrays over the user's SSH client."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from sdk.camera.record import Recorded
from sdk.closing import Closing
from sdk.errors import LinkError, OutputError, UsageError
from sdk.flash.ssh import Host
from sdk.graph import Array
from sdk.linux import PYTHON
from sdk.runtime.__main__ import receive, send

END_S = 20.0  # longer than ssh takes to notice that the board has gone


class _Program(Closing):
    """A module that runs there."""

    def __init__(self, host: Host, module: str, *words: str) -> None:
        self.name = host.name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                host.command('exec "$@"', PYTHON, "-m", module, *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            raise OutputError(f"cannot start ssh: {error}") from error

    def _receive(self) -> dict[str, Array] | None:
        """The next message; None if it has ended well. LinkError if it has not."""
        assert self._process.stdout is not None
        answer = receive(self._process.stdout)
        if answer is None and self._wait():
            raise self._ended()
        return answer

    def _ended(self) -> LinkError | UsageError:
        self._wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = [line for line in lines if not line.startswith(("INFO", "W0000", "WARNING"))]
        told = said[0] if said else "it has ended"
        return LinkError(f"the runtime on {self.name}: {told}", said[1] if len(said) > 1 else "Flash the model again.")

    def close(self) -> None:
        """Ends the process there."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what a failed send has left in the buffer
                stream.close()
        self._wait()
        self._errors.close()

    def _wait(self) -> int:
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class RemoteRuntime(_Program):
    """A model that an engine of the runtime runs on the board: what `sdk.verify.verify` needs of a device, but for
    intermediate tensors."""

    def __init__(self, host: Host, installed: str, engine: str, *, reference: bool = False) -> None:
        words = [installed, "--serve", "--engine", engine, *(["--reference"] if reference else [])]
        super().__init__(host, "sdk.runtime", *words)

    def reset_state(self) -> None:
        """Puts the model's variables back to their initial values."""
        self._exchange({})

    def run(self, inputs: Sequence[Array], *, timeout_s: float | None = None) -> list[Array]:  # noqa: ARG002 - a Device's
        """The outputs of one inference on stored values."""
        return list(self._exchange({f"input_{i}": array for i, array in enumerate(inputs)}).values())

    def _exchange(self, arrays: dict[str, Array]) -> dict[str, Array]:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, arrays)
            answer = self._receive()
        except OSError:
            answer = None
        if answer is None:
            raise self._ended()
        return answer


class RemoteFrames(_Program):
    """The frames of a board's camera (or of a file or folder there), and what a model there made of them."""

    def __init__(
        self, host: Host, installed: str, source: str, engine: str, *, reference: bool = False, count: int | None = None
    ) -> None:
        words = [installed, "--source", source, "--engine", engine, *(["--reference"] if reference else [])]
        super().__init__(host, "sdk.camera.record", *words, *(["--count", str(count)] if count else []))

    def __iter__(self) -> Iterator[Recorded]:
        while (arrays := self._receive()) is not None:
            yield Recorded.of(arrays)
