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
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_device(path):
            tempfile.TemporaryFile(dir=folder).close()  # no rights tell: /proc has those to write
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "Choose another place with --output.") from error


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
                if _is_device(path):
                    path.write_bytes(data)
                    continue
                target = path.resolve() if path.is_symlink() else path  # what it leads to is replaced, not the link
                _make_folder(target.parent, made)
                aside[target] = _write_aside(target, data)
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


def _is_device(path: Path) -> bool:
    """Whether this is /dev/null, a pipe or the like, which is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


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
