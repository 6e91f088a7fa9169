"""Another model for a device that runs already, written into its flash: exact afterwards, and nothing lost on the way.

The emulated board keeps its flash in a file, so that what was written is there when another process starts the board.
"""

from __future__ import annotations

import importlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdk.boards import Board, MemoryRegion, load_board
from sdk.cli import main
from sdk.deploy import Deployed, connected, deployed, prepare
from sdk.emit import emit
from sdk.errors import DeviceError, FitError, MissingToolError, UsageError
from sdk.flash import connect
from sdk.inputs import random_samples
from sdk.link.device import Device
from sdk.link.messages import FLASH_PAGE_BYTES, UPDATE_MAGIC
from sdk.load import load
from sdk.lower import Lowered
from sdk.oracle import Oracle
from sdk.update import update
from sdk.verify import verify
from sdk.write import write

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits_int8.tflite"
OTHER_KERNELS = Path(__file__).parent / "models" / "lstm_int8.tflite"


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights."""
    graph = load(DIGITS)
    constants = [tensor for tensor in graph.tensors.values() if tensor.data is not None]
    weights = max(constants, key=lambda tensor: tensor.elements)
    assert weights.data is not None
    other = graph.with_nodes(graph.nodes, [replace(weights, data=np.roll(weights.data, 1))])
    path = tmp_path_factory.mktemp("models") / "retrained.tflite"
    path.write_bytes(write(other))
    return path


@pytest.fixture
def virtual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Its flash is this test's alone; what is built stays in the cache."""

    def own(*parts: str) -> Path:
        folder = tmp_path.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    for name in ("process", "emulator"):
        monkeypatch.setattr(importlib.import_module(f"sdk.flash.{name}"), "cache_dir", own)
    return load_board("mps2-an386")


def flashed(board: Board) -> Deployed:
    try:
        return connected(board, emit(prepare(load(DIGITS), board)))
    except MissingToolError as error:
        pytest.skip(error.message)


def restarted(board: Board) -> Device:
    """The same board, started by another process."""
    return Device(connect(board))


def is_exact(device: Device, lowered: Lowered, model: Path) -> bool:
    device.open_resident()
    samples = [list(sample.arrays) for sample in random_samples(lowered.inputs, 2, 0)]
    with Oracle(model.read_bytes()) as oracle:
        return verify(device, lowered, oracle, samples, layers=True).ok


def test_the_new_model_runs_exact_after_each_restart(virtual: Board, retrained: Path) -> None:
    first, second = prepare(load(DIGITS), virtual), prepare(load(retrained), virtual)
    with flashed(virtual).device as device:
        assert not device.flash_info().updated
        update(device, virtual, second)
        assert device.info.holds(second.block)
        assert is_exact(device, second, retrained)
    with restarted(virtual) as device:
        assert device.flash_info().updated
        assert device.info.holds(second.block)
        assert is_exact(device, second, retrained)
    with deployed(first, virtual) as target:  # flashed again: the update is forgotten
        assert not target.device.flash_info().updated
        assert is_exact(target.device, first, DIGITS)
    with restarted(virtual) as device:
        assert device.info.holds(first.block)


@pytest.mark.parametrize("last", ["write ", "write 100"])
def test_an_update_that_breaks_off_leaves_the_image_s_own_model(virtual: Board, retrained: Path, last: str) -> None:
    first, second = prepare(load(DIGITS), virtual), prepare(load(retrained), virtual)

    def pull_the_cable(text: str) -> None:
        if text.startswith(last):
            raise KeyboardInterrupt

    with flashed(virtual).device as device:
        update(device, virtual, second)
        with pytest.raises(KeyboardInterrupt):
            update(device, virtual, first, pull_the_cable)
    with restarted(virtual) as device:
        assert device.info.holds(first.block)
        assert is_exact(device, first, DIGITS)
        update(device, virtual, second)
        assert device.info.holds(second.block)


def test_what_is_no_sound_program_is_not_started(virtual: Board, retrained: Path) -> None:
    """Each byte of it counts, and whose image it was written to."""
    first, second = prepare(load(DIGITS), virtual), prepare(load(retrained), virtual)
    with flashed(virtual).device as device:
        mark = struct.pack("<II", UPDATE_MAGIC, device.flash_info().image_crc)
        damaged = bytearray(second.block)
        damaged[-1] ^= 1
        foreign = struct.pack("<II", UPDATE_MAGIC, 1)
        for start, program in ((mark, bytes(damaged)), (mark, b"\xff" * 64), (foreign, second.block)):
            for offset in range(0, FLASH_PAGE_BYTES + len(program), device.flash_info().erase_bytes):
                device.erase_flash(offset)
            device.write_flash(FLASH_PAGE_BYTES, program + b"\xff" * (-len(program) % FLASH_PAGE_BYTES))
            device.write_flash(0, start.ljust(FLASH_PAGE_BYTES, b"\xff"))
            device.reboot()
            assert device.info.holds(first.block)
            assert not device.flash_info().updated
        assert is_exact(device, first, DIGITS)


def test_nothing_but_the_region_can_be_written(virtual: Board) -> None:
    end = virtual.regions["programs"].bytes
    page = bytes(FLASH_PAGE_BYTES)
    with flashed(virtual).device as device:
        for offset in (1, end, end - 1, (1 << 32) - 4096):
            with pytest.raises(DeviceError, match=r"FLASH_ERASE: .* outside"):
                device.erase_flash(offset)
        for offset, data in ((1, page), (0, page[1:]), (end, page), (end - FLASH_PAGE_BYTES, 2 * page)):
            with pytest.raises(DeviceError, match=r"FLASH_WRITE: .* outside"):
                device.write_flash(offset, data)
        device.write_flash(end - FLASH_PAGE_BYTES, page)
        with pytest.raises(DeviceError, match="FLASH_WRITE: the flash does not hold"):
            device.write_flash(end - FLASH_PAGE_BYTES, b"\xff" * FLASH_PAGE_BYTES)  # not erased


def test_models_that_the_firmware_cannot_run_are_refused(virtual: Board) -> None:
    with flashed(virtual).device as device:
        with pytest.raises(DeviceError, match=r"lacks kernels that the model needs: .*lstm") as error:
            update(device, virtual, prepare(load(OTHER_KERNELS), virtual))
        assert "sdk flash" in error.value.remedy
        assert device.info.holds(prepare(load(DIGITS), virtual).block)
    other = load_board("riscv32-virt")
    with flashed(other).device as device:
        with pytest.raises(UsageError, match="no region `programs`"):
            update(device, other, prepare(load(DIGITS), other))
        with pytest.raises(DeviceError, match="does not know this request"):
            device.flash_info()


def test_an_image_that_reaches_into_the_region_keeps_it(virtual: Board, retrained: Path) -> None:
    inside = replace(
        virtual, regions={**virtual.regions, "programs": MemoryRegion(4096, virtual.regions["programs"].bytes, 4096)}
    )
    with flashed(inside).device as device:
        assert device.flash_info().bytes == 0
        with pytest.raises(FitError, match="has 0 for updates"):
            update(device, inside, prepare(load(retrained), inside))
        with pytest.raises(DeviceError, match="outside"):
            device.erase_flash(0)


def test_the_command_updates(virtual: Board, retrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the options of lowering, which are another program's."""
    flashed(virtual).device.close()
    assert main(["flash", str(retrained), "--board", virtual.id, "--update", "--weights-in-ram", "2048", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["state_bytes"] <= 2048
    with restarted(virtual) as device:
        assert device.flash_info().updated
        assert device.open_resident().state_bytes == told["state_bytes"]
