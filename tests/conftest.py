"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cli_models import dense, mystery
from convert_files import write_sources

from sdk.boards import load_board
from sdk.build import Image, build
from sdk.deploy import connected
from sdk.emit import emit_empty, emit_every_kernel
from sdk.flash.native import NativeTransport
from sdk.graph import DType
from sdk.link.device import Device
from sdk.ops.control import COPY
from sdk.program import Profile
from sdk.write import write


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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with models in `models`."""
    (tmp_path / "models").mkdir()
    for name, data in {
        "sound": write(dense()),
        "unsupported": write(mystery()),
        "float64": write(dense(dtype=DType.FLOAT64)),
        "much_ram": write(dense(inputs=20_000)),
        "much_flash": write(dense(inputs=3000, outputs=100)),
        "empty": b"",
        "text": b"this is not a model",
        "cut": write(dense())[:200],
    }.items():
        (tmp_path / "models" / f"{name}.tflite").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def image() -> Image:
    """Firmware of this computer for the programs of delay.py."""
    return build(replace(load_board("native"), frame_bytes=512), emit_empty([COPY.name]))


@pytest.fixture
def line(image: Image) -> Iterator[NativeTransport]:
    transport = NativeTransport(image.board, image.elf)
    yield transport
    transport.close()


@pytest.fixture
def source_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with sources of every kind to convert."""
    write_sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
