"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sdk.errors import OutputError


def deliver(contents: Mapping[Path, bytes]) -> None:
    """Writes the files that a user has asked for: all of them, or nothing. OutputError, naming the one that failed."""
    try:
        write_all(contents)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free some space, or choose" if full else "Choose"
        raise OutputError(
            f"cannot write {error.filename}: {error.strerror}", f"{remedy} another place with --output."
        ) from error


def check_place(path: Path) -> None:
    """OutputError if `deliver` cannot write to `path`, as far as that can be seen beforehand: for what takes long."""
    folder = next(each for each in path.absolute().parents if each.exists())
    reason = errno.EISDIR if path.is_dir() else errno.ENOTDIR if not folder.is_dir() else 0
    if not reason and not os.access(folder, os.W_OK):
        reason = errno.EACCES
    if reason:
        raise OutputError(f"cannot write {path}: {os.strerror(reason)}", "Choose another place with --output.")


def write_whole(path: Path, data: bytes) -> None:
    """`write_all` for one file."""
    write_all({path: data})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Makes each value of `contents` the content of its path, and the folders that are missing. A reader sees the old
    content of a file or the new one, never a part. All are written beside their places before the first is moved
    there: if one cannot be written, or this is interrupted meanwhile, all stay as they were and nothing else stays
    behind. OSError passes through, with the path as its file name."""
    made: list[Path] = []
    aside: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            try:
                _make_folder(path.parent, made)
                aside[path] = _write_aside(path, data)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
        for path, temporary in aside.items():
            temporary.replace(path)
    except BaseException:
        for temporary in aside.values():
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # someone else uses it by now
                folder.rmdir()
        raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Makes `folder` and the ones above it; `made` gets those that were missing."""
    if not folder.is_dir():
        _make_folder(folder.parent, made)
        folder.mkdir(exist_ok=True)
        made.append(folder)


def _write_aside(path: Path, data: bytes) -> Path:
    """A temporary file beside `path` that holds `data`, with the rights of a new file."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary
