"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from sdk.boards import load_board
from sdk.deploy import connected
from sdk.emit import emit_every_kernel
from sdk.link.device import Device
from sdk.program import Profile


def pytest_configure() -> None:
    """Lets Ctrl-C through: a shell starts background jobs with SIGINT ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def host() -> Iterator[Device]:
    """The host as a device, with all portable kernels: for tests of what is the same on every board."""
    board = load_board("native")
    with connected(board, emit_every_kernel(board.profile)).device as device:
        yield device


@pytest.fixture(scope="session")
def devices() -> Iterator[Mapping[Profile, Device]]:
    """The host as a device of each profile, with all kernels of it; opened when first asked for."""
    with contextlib.ExitStack() as stack:

        class Opened(dict[Profile, Device]):
            def __missing__(self, profile: Profile) -> Device:
                board = replace(load_board("native"), profile=profile)
                self[profile] = stack.enter_context(connected(board, emit_every_kernel(profile)).device)
                return self[profile]

        yield Opened()
