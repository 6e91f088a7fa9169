"""What the SDK keeps between commands: compiled objects, images, and the flash of emulated boards.

All of it lies in one folder, $MICROLITH_CACHE or ~/.cache/microlith, and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdk.errors import ToolError
from sdk.files import write_whole

Progress = Callable[[str], None]  # takes a line of text for the user, without its newline


def silent(_line: str) -> None:
    """A Progress for callers that show none."""


def cache_dir(*parts: str) -> Path:
    """The folder `parts` of the cache, made if it is missing. ToolError if it cannot be made."""
    root = os.environ.get("MICROLITH_CACHE") or Path.home() / ".cache" / "microlith"
    folder = Path(root).absolute().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def unwritable(path: Path, error: OSError) -> ToolError:
    """What to say when the cache takes no more."""
    return ToolError(
        f"cannot write {path}: {error.strerror or error}",
        "Free some space, or set MICROLITH_CACHE to a folder that can be written.",
    )


def put(path: Path, data: bytes) -> None:
    """Makes `data` the content of the file `path`: whole or not at all. A file that holds the same already stays as it
    is, so that nothing is built again because of it. ToolError if it cannot be written."""
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        write_whole(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


@contextmanager
def locked(
    folder: Path, progress: Progress = silent, waiting: str = "waiting for another build of this board"
) -> Iterator[None]:
    """Keeps other processes out of `folder` meanwhile; `waiting` is said while one is in there. The lock ends with the
    process, however that ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
