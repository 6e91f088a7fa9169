"""Where the files lie that come with the SDK and are not Python: the firmware's sources and the board files."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"  # made by the wheel, see pyproject.toml; a checkout has them beside the package

_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent

FIRMWARE = _ROOT / "firmware"
BOARDS = _ROOT / "boards"
