"""Real boards with Arm cores: each is built; whether it runs, emulators tell of those that they know."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sdk.boards import Board, all_boards, load_board
from sdk.build import Image, Source, build_image, firmware_sources
from sdk.deploy import make_image, prepare
from sdk.elf import flash_image
from sdk.errors import MissingToolError
from sdk.load import load
from sdk.target import Optimize

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits_int8.tflite"
FIRMWARE = Path(__file__).parent / "c" / "board.c"
REAL = [board for board in all_boards() if {"uf2", "pyocd"} & set(board.flashers)]
FAMILIES = ["disco-f746ng", "nrf52840-dk", "nucleo-f446re", "nucleo-l4r5zi"]  # others are built where they run


def check_start(image: Image) -> None:
    """The vector table lies where the chip, or its boot loader, looks; it leads into the flash and has a stack."""
    board = image.board
    origin, data = flash_image(image.elf, image.board.regions["flash"])
    assert origin == board.regions["flash"].origin
    vectors = 256 if board.id == "pico" else 0
    stack, start = struct.unpack_from("<2I", data, vectors)
    assert stack == board.regions["ram"].origin + board.stack_bytes
    assert start & 1
    assert origin < start < origin + len(data)
    assert image.flash_bytes <= len(data) < image.flash_bytes + 16  # sections are aligned
    assert len(data) <= board.flash_bytes


@pytest.mark.parametrize("real", REAL, ids=lambda board: board.id)
def test_port_builds(real: Board) -> None:
    ports = [source for source in firmware_sources(real) if source.folder.startswith("port/")]
    try:
        image = build_image(real, [*ports, Source(FIRMWARE, "port/test", shared=False)], {})
    except MissingToolError as error:
        pytest.skip(error.message)
    check_start(image)
    assert image.file.suffix == {"uf2": ".uf2", "pyocd": ".hex"}[real.flasher]


@pytest.mark.parametrize("id_", FAMILIES)
def test_model_builds(id_: str) -> None:
    board = load_board(id_)
    try:
        image = make_image(prepare(load(DIGITS), board), board)
    except MissingToolError as error:
        pytest.skip(error.message)
    check_start(image)
    assert image.stack_bound_bytes is not None
    assert image.stack_bound_bytes <= board.stack_bytes
    assert image.pool_bytes >= board.program_ram_bytes


@pytest.mark.parametrize("optimize", Optimize)
def test_model_builds_for_the_smallest_core(optimize: Optimize) -> None:
    """Each choice has code of its own, and compilers few registers there."""
    board = load_board("mps2-an385-m0plus")
    try:
        image = make_image(prepare(load(DIGITS), board, optimize), board)
    except MissingToolError as error:
        pytest.skip(error.message)
    assert image.flash_bytes > 0
