"""Files that appear whole, and places where none can."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sdk.errors import OutputError
from sdk.files import check_place, deliver


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """/dev/null would be gone for every program of the machine."""
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    check_place(pipe)
    deliver({pipe: b"model"})
    reader.join()
    assert got == [b"model"]
    assert pipe.is_fifo()


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for content in (b"one", b"two"):
        deliver({tmp_path / "link": content})
        assert (tmp_path / "real").read_bytes() == content
    assert (tmp_path / "link").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("place", ["/proc/model.tflite", "/proc/folder/model.tflite", "."])
def test_a_place_that_takes_no_file_is_said_beforehand(place: str) -> None:
    with pytest.raises(OutputError, match=f"cannot write {place}: "):
        check_place(Path(place))


def test_looking_at_a_place_leaves_nothing(tmp_path: Path) -> None:
    check_place(tmp_path / "folder" / "model.tflite")
    assert list(tmp_path.iterdir()) == []
