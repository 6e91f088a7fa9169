"""Microlith: put a trained neural network, working and proven, on a microcontroller.

    import sdk

    graph = sdk.load("model.tflite")
    board = sdk.load_board("mps2-an386")
    lowered = sdk.lower(graph, sdk.Target(profile=board.profile))
    image = sdk.build(board, sdk.emit(lowered))
    with sdk.Device(sdk.flash(board, image), board_id=board.id) as device, sdk.Oracle(model_bytes) as oracle:
        device.open_resident()
        verdict = sdk.verify(device, lowered, oracle, [[x]])

Names are looked up when they are used: importing `sdk` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sdk.boards import Board, all_boards, load_board
    from sdk.build import Image, build
    from sdk.convert.conversion import convert
    from sdk.convert.training import train
    from sdk.emit import Emitted, emit, write_files
    from sdk.errors import SdkError
    from sdk.flash import flash
    from sdk.link import connect
    from sdk.link.device import Device
    from sdk.load import load, load_bytes
    from sdk.lower import Lowered, lower
    from sdk.oracle import Oracle
    from sdk.target import Optimize, Target
    from sdk.verify import Verdict, verify

_HOMES = {
    "sdk.boards": ("Board", "all_boards", "load_board"),
    "sdk.build": ("Image", "build"),
    "sdk.convert.conversion": ("convert",),
    "sdk.convert.training": ("train",),
    "sdk.emit": ("Emitted", "emit", "write_files"),
    "sdk.errors": ("SdkError",),
    "sdk.flash": ("flash",),
    "sdk.link": ("connect",),
    "sdk.link.device": ("Device",),
    "sdk.load": ("load", "load_bytes"),
    "sdk.lower": ("Lowered", "lower"),
    "sdk.oracle": ("Oracle",),
    "sdk.target": ("Optimize", "Target"),
    "sdk.verify": ("Verdict", "verify"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Board",
    "Device",
    "Emitted",
    "Image",
    "Lowered",
    "Optimize",
    "Oracle",
    "SdkError",
    "Target",
    "Verdict",
    "all_boards",
    "build",
    "connect",
    "convert",
    "emit",
    "flash",
    "load",
    "load_board",
    "load_bytes",
    "lower",
    "train",
    "verify",
    "write_files",
]


class _Package(ModuleType):
    """The package, whose functions are not hidden by the modules of the same names when those are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'sdk' has no attribute '{name}'")
        return getattr(importlib.import_module(_HOME[name]), name)


sys.modules[__name__].__class__ = _Package
