"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from sdk.boards import load_board
from sdk.build import build
from sdk.emit import emit_empty
from sdk.flash import flash
from sdk.link.device import Device
from sdk.ops import registry


def pytest_configure() -> None:
    """Lets Ctrl-C through: a shell starts background jobs with SIGINT ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def host() -> Iterator[Device]:
    """The host as a device, with all portable kernels: for tests of what is the same on every board."""
    board = load_board("native")
    names = [kernel.name for kernel in registry().kernels.values() if kernel.profile == 0]
    with Device(flash(board, build(board, emit_empty(names))), board_id=board.id) as device:
        yield device
