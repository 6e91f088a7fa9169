"""Every error that a user can meet: what is wrong, where, and what to do about it.

The command line prints the message and exits with the class's `exit_code`; only `-v` shows a traceback.
"""

from __future__ import annotations


class SdkError(Exception):
    """Base of all errors that have a remedy. `message` says what and where, `remedy` what to do."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class OutputError(SdkError):
    """A file or the standard output cannot be written; or the system refuses something else."""

    exit_code = 1


class UsageError(SdkError):
    """The command line is wrong: arguments that do not fit together, or a model file that cannot be read."""

    exit_code = 2


class ModelError(SdkError):
    """The model file is damaged or breaks the rules of its format."""

    exit_code = 3


class UnsupportedError(SdkError):
    """The model is sound, but uses an operator, type or option that the SDK cannot lower."""

    exit_code = 4


class FitError(SdkError):
    """The program needs more flash or RAM than the board has."""

    exit_code = 5


class InputError(SdkError):
    """An input file cannot be read, or an array has the wrong shape, type or content."""

    exit_code = 6


class BoardError(SdkError):
    """The board is unknown, or its file is not sound."""

    exit_code = 7


class ToolError(SdkError):
    """A compiler, emulator or flasher is missing or failed."""

    exit_code = 8


class MissingToolError(ToolError):
    """A compiler, emulator or flasher is not on this machine; the remedy installs it."""


class LinkError(SdkError):
    """The device does not answer, or answers with something else than the protocol allows."""

    exit_code = 9


class DeviceError(SdkError):
    """The device refused a program or failed while it ran; the message carries its status."""

    exit_code = 10


class VerifyError(SdkError):
    """The device computed something else than the oracle."""

    exit_code = 11
