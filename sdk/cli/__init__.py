"""The command `sdk`: one file a command, each with SUMMARY, EXAMPLES, `arguments(parser)` and `run(args, console)`.

What a command computes lives elsewhere in the package and is imported when it runs, so that `sdk --help` and the
completion of a half-typed line answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sdk.__main__ import INTERRUPTED
from sdk.cli import (
    bench,
    boards,
    build,
    camera,
    completion,
    convert,
    doctor,
    flash,
    inspect,
    lower,
    monitor,
    ops,
    run,
    train,
    uninstall,
    verify,
)
from sdk.cli.console import Console
from sdk.closing import unwinding
from sdk.errors import OutputError, SdkError, UsageError

COMMANDS = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        convert,
        train,
        inspect,
        lower,
        build,
        flash,
        camera,
        run,
        verify,
        bench,
        boards,
        ops,
        doctor,
        monitor,
        uninstall,
        completion,
    )
}
BROKEN_PIPE = 141  # what a shell reports of a program that ends by SIGPIPE

ABOUT = """Takes a trained model and puts it, working and proven, on a microcontroller.

  sdk inspect model.tflite                        what it is, and which boards it fits
  sdk verify model.tflite --board mps2-an386      build, flash, and check every bit on the device
  sdk COMMAND --help                              more, with examples"""


class InternalError(SdkError):
    """A fault of the SDK itself."""

    exit_code = 70


class _Parser(argparse.ArgumentParser):
    """Raises UsageError, which is said like every other error, where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", f"`{self.prog} --help` shows how it is called.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` and returns its exit code; see `exit_codes`."""
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(as_json="--json" in words, verbose="-v" in words or "--verbose" in words)
    with unwinding():
        try:
            code = _run(words, console)
            console.flush()
            return code
        except KeyboardInterrupt:
            console.note("interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            return BROKEN_PIPE
        except Exception as error:  # noqa: BLE001 - whatever is not an SdkError is said as one
            if console.verbose:
                console.note(traceback.format_exc().rstrip())
            known = error if isinstance(error, SdkError) else _as_sdk_error(error)
            console.error(known)
            return known.exit_code
        finally:
            console.close()


def _run(words: list[str], console: Console) -> int:
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    _check_command(words)
    try:
        args = parser.parse_args(words)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    if args.command is None:
        parser.print_help()
        return UsageError.exit_code
    for folder in args.ops:
        from sdk.ops import add_folder

        add_folder(folder)
    code: int = COMMANDS[args.command].run(args, console)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    from sdk import __version__

    text = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="sdk", description=ABOUT, epilog=exit_codes(), formatter_class=text)
    parser.add_argument("--version", action="version", version=f"sdk {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more; show a traceback with an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    for name, module in COMMANDS.items():
        examples = "examples:\n" + "".join(f"  {line}\n" for line in module.EXAMPLES)
        description = f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}. {module.DETAILS}".rstrip()
        command = commands.add_parser(
            name, help=module.SUMMARY, description=_wrap(description), epilog=examples, formatter_class=text
        )
        module.arguments(command)
        command.add_argument(
            "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more; show a traceback"
        )
        command.add_argument(
            "--ops", action="append", default=[], type=Path, metavar="DIR", help="a folder of operators of your own"
        )
    return parser


def _wrap(text: str) -> str:
    return "\n".join(textwrap.fill(paragraph, 100) for paragraph in text.split("\n"))


def exit_codes() -> str:
    """The exit code of each class of error, as text."""
    lines = [f"  {cls.exit_code:3d}  {(cls.__doc__ or '').splitlines()[0]}" for cls in SdkError.__subclasses__()]
    others = [
        f"  {INTERRUPTED:3d}  Interrupted by Ctrl-C.",
        f"  {BROKEN_PIPE:3d}  The reader of the standard output has left.",
    ]
    return "\n".join(["exit codes:", "    0  All is well.", *lines, *others])


def _check_command(words: Sequence[str]) -> None:
    """UsageError, with the commands that look alike, for a command that does not exist."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in COMMANDS:
        return
    close = difflib.get_close_matches(name, COMMANDS, n=2)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise UsageError(f"there is no command '{name}'", f"{hint}`sdk --help` lists all of them.")


def _as_sdk_error(error: Exception) -> SdkError:
    """What is said of an error that nobody has put into words."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return OutputError(f"{where}{error.strerror or error}", "Check the path, its permissions and the free space.")
    return InternalError(
        f"{type(error).__name__}: {error}", "This is a fault of the SDK; please report what `-v` shows."
    )
