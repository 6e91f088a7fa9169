"""pytest fixtures for tests on hardware, emulators and the host alike.

    pytest --board mps2-an386
    pytest --board native --board microbit

    def test_model(flashed, oracle):
        device = flashed("model.tflite")
        x = np.zeros((1, 8, 8, 1), np.int8)
        assert (device.run([x])[0] == oracle("model.tflite").run([x]).outputs[0]).all()

`board` is the board under test (one run of the test for each `--board`), `device` a device whose image holds every
kernel and no model (programs are uploaded to its RAM), `flashed(model)` one whose image holds that model,
`oracle(model)` the reference. Without a board, or without its tools, a test is skipped and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.link.device import Device
    from sdk.oracle import Oracle

Model = str | Path | bytes


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--board`, `--port` and the ini option that names a project's usual boards."""
    group = parser.getgroup("microlith", "devices that run Microlith's firmware")
    group.addoption("--board", action="append", default=[], metavar="ID", help="test on this board; may be repeated")
    group.addoption("--port", default=None, help="serial port, socket:// or rfc2217:// address of the board")
    parser.addini("microlith_boards", "boards to test on where no --board is given", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a --board that is none."""
    if config.getoption("--board"):
        from sdk.boards import load_board
        from sdk.errors import BoardError

        try:
            for name in config.getoption("--board"):
                load_board(name)
        except BoardError as error:
            raise pytest.UsageError(f"--board: {error.message}. {error.remedy}") from error


def chosen_boards(config: pytest.Config) -> list[str]:
    """The boards that `--board`, or else the ini file, names."""
    return list(config.getoption("--board") or config.getini("microlith_boards"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that wants a board once for each."""
    if "board" in metafunc.fixturenames:
        boards = chosen_boards(metafunc.config)
        nothing = pytest.param("", marks=pytest.mark.skip(reason="no board: give --board ID"))
        metafunc.parametrize("board", boards or [nothing], indirect=True, scope="session")


@pytest.fixture(scope="session")
def board(request: pytest.FixtureRequest) -> Board:
    """The board under test."""
    from sdk.boards import load_board

    return load_board(request.param)


@pytest.fixture(scope="session")
def device(board: Board, request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device with all kernels that serve the board and no program, for programs uploaded to RAM."""
    from sdk.emit import emit_every_kernel

    with _device(board, emit_every_kernel(board.profile), request) as device:
        yield device


@pytest.fixture
def flashed(board: Board, request: pytest.FixtureRequest) -> Iterator[Callable[[Model], Device]]:
    """A function that flashes a model and returns the device, its program opened; closed when the test ends."""
    from sdk.emit import emit
    from sdk.lower import lower

    with ExitStack() as stack:

        def flash_model(model: Model) -> Device:
            lowered = lower(_graph(model), board.target())
            device = stack.enter_context(_device(board, emit(lowered), request))
            device.open_resident()
            return device

        yield flash_model


@pytest.fixture(scope="session")
def oracle() -> Iterator[Callable[[Model], Oracle]]:
    """A function that returns the reference for a model; the same object for the same model."""
    from sdk.oracle import Oracle

    with ExitStack() as stack:

        @cache
        def reference(data: bytes) -> Oracle:
            return stack.enter_context(Oracle(data))

        yield lambda model: reference(_bytes(model))


def _bytes(model: Model) -> bytes:
    return model if isinstance(model, bytes) else Path(model).read_bytes()


def _graph(model: Model) -> Graph:
    from sdk.load import load, load_bytes

    return load_bytes(model) if isinstance(model, bytes) else load(model)


def _device(board: Board, emitted: Emitted, request: pytest.FixtureRequest) -> Device:
    """Builds, flashes and connects. Skips the test if the board's tools are not on this machine."""
    from sdk.deploy import connected
    from sdk.errors import MissingToolError

    try:
        return connected(board, emitted, port=request.config.getoption("--port")).device
    except MissingToolError as error:
        pytest.skip(f"{board.id}: {error.message}")


if TYPE_CHECKING:
    from sdk.emit import Emitted
    from sdk.graph import Graph
