"""What a command says, and where: results on stdout, everything else on stderr.

With --json stdout carries one JSON object and nothing else. On a terminal tables are drawn and progress is shown; in a
pipe or a file there is plain text and no progress.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sdk.errors import OutputError, SdkError

if TYPE_CHECKING:
    from rich.status import Status


class Console:
    """`as_json`: --json was given; `verbose`: -v was."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self._status: Status | None = None

    def say(self, text: str = "") -> None:
        """A line of the result, for people."""
        if not self.as_json:
            self.write(f"{text}\n")

    def detail(self, text: str) -> None:
        """A line of the result that only -v shows."""
        if self.verbose:
            self.say(text)

    def result(self, value: dict[str, Any]) -> None:
        """The result for machines; printed with --json alone."""
        if self.as_json:
            self.write(f"{json.dumps(value, indent=2, allow_nan=False)}\n")

    def write(self, text: str) -> None:
        """Puts text on stdout as it is. BrokenPipeError if its reader has left, OutputError if it takes no more."""
        self.clear()
        with _room():
            sys.stdout.write(text)

    def flush(self) -> None:
        """Hands out what is buffered. Errors as of `write`."""
        self.clear()
        with _room():
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """A line about the work, on stderr. One that cannot be written there can be told nowhere."""
        self.clear()
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def error(self, error: SdkError) -> None:
        """What is wrong and what to do, in at most three lines; with --json as an object on stdout too."""
        self.note(f"error: {error}")
        if self.as_json:
            fields = {"class": type(error).__name__, "message": error.message, "remedy": error.remedy}
            with contextlib.suppress(OSError, SdkError):  # stdout itself may be what is wrong
                self.result({"error": {**fields, "exit_code": error.exit_code}})

    def progress(self, text: str) -> None:
        """What is being done now: one line that is overwritten on a terminal; printed with -v elsewhere."""
        if sys.stderr.isatty():
            self._spin(text)
        elif self.verbose:
            self.note(text)

    def clear(self) -> None:
        """Takes the line of `progress` away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def close(self) -> None:
        """Ends what this console has begun. What a stream has not taken by now must not fail again at exit."""
        self.clear()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _spin(self, text: str) -> None:
        from rich.console import Console as RichConsole
        from rich.markup import escape
        from rich.status import Status

        if self._status is None:
            self._status = Status("", console=RichConsole(stderr=True))
            self._status.start()
        self._status.update(escape(text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of the result. A title that begins with '>' is of a column of numbers, aligned right."""
        if self.as_json or not rows:
            return
        self.clear()
        right = [title.startswith(">") for title in columns]
        titles = [title.lstrip(">") for title in columns]
        if sys.stdout.isatty():
            _draw(titles, right, rows)
        else:
            self.write(f"{_plain(titles, right, rows)}\n")


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """Puts into words why stdout takes no more."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write the result to standard output: {error.strerror or error}", "Send it to where there is room."
        ) from error


def _draw(titles: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, is_right in zip(titles, right, strict=True):
        table.add_column(title, justify="right" if is_right else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    RichConsole().print(table)


def _plain(titles: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    lines = []
    for row in (titles, ["-" * width for width in widths], *rows):
        cells = zip(row, widths, right, strict=True)
        lines.append("  ".join(c.rjust(width) if is_right else c.ljust(width) for c, width, is_right in cells).rstrip())
    return "\n".join(lines)
