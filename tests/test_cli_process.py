"""The command line as a process: signals, pipes, full disks, and no traceback of any of them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdk.cli import main
from sdk.paths import FIRMWARE

MODEL = str(FIRMWARE.parent / "examples" / "digits" / "digits_int8.tflite")
EMULATED = "mps2-an386"
SDK = [sys.executable, "-m", "sdk"]
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
needs_arm = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started_by(mark: str) -> list[int]:
    """Processes with `mark` in their environment, that are not zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("target", ["native", pytest.param(EMULATED, marks=needs_arm)])
def test_signals_leave_nothing_behind(here: Path, target: str, sent: signal.Signals, code: int) -> None:
    assert main(["build", MODEL, "--board", target, "-o", "out"]) == 0  # so that it soon runs
    shutil.rmtree("out")
    mark = f"MICROLITH_TEST={uuid.uuid4()}"
    command = [*SDK, "verify", MODEL, "--board", target, "--count", "50000"]
    environment = {**os.environ, mark.split("=")[0]: mark.split("=")[1]}
    with subprocess.Popen(command, **PIPES, env=environment, start_new_session=True) as process:
        wait_until(lambda: process.poll() is not None or any("elf" in command_line(pid) for pid in started_by(mark)))
        time.sleep(0.3)
        # A terminal sends Ctrl-C to all that the command has started.
        os.killpg(process.pid, sent) if sent is signal.SIGINT else process.send_signal(sent)
        out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert out == ""
    wait_until(lambda: not started_by(mark))
    assert list(here.iterdir()) == []


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("loaded", ["argparse", "sdk.cli.run", "numpy.core._multiarray_umath", "sdk.ops.arithmetic"])
def test_ctrl_c_while_modules_are_loaded(here: Path, loaded: str) -> None:
    """Sent when the interpreter says that it has loaded the module `loaded`."""
    command = [sys.executable, "-X", "importtime", "-m", "sdk", "lower", MODEL]
    with subprocess.Popen(command, **PIPES) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.split("|")[-1].strip() == loaded:
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.read()
    last = [line for line in said.splitlines() if not line.startswith("import time:")]
    assert last == ["interrupted"], said[-2000:]
    assert process.returncode == 130
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("buffered", [True, False])
def test_a_closed_pipe_is_no_error(buffered: bool) -> None:
    with subprocess.Popen([*SDK, "inspect", MODEL], **PIPES, env=with_buffer(buffered)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [["boards"], ["boards", "--json"], ["inspect", MODEL], ["inspect", "none.tflite"]])
def test_a_full_disk_behind_stdout(words: list[str], buffered: bool) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*SDK, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=with_buffer(buffered)
        )
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    if "none.tflite" in words:
        assert "none.tflite" in lines[0]
        return
    assert done.returncode == 1
    assert lines[0] == "error: cannot write the result to standard output: No space left on device"


def with_buffer(wanted: bool) -> dict[str, str]:
    """An environment whose Python buffers its output, or does not: errors come at the end or at once."""
    return {**os.environ, "PYTHONUNBUFFERED": "" if wanted else "1"}


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    done = subprocess.run(f"{' '.join(SDK)} boards {closed}", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_any_terminal_can_show_any_name(here: Path) -> None:
    """Also bytes that are no text in any encoding."""
    name = os.fsdecode(b"caf\xe9-\xff.tflite")
    shutil.copy(MODEL, here / name)
    done = subprocess.run(
        [*SDK, "inspect", name], **PIPES, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"caf\udce9" in done.stdout


@pytest.mark.parametrize("words", [["lower", MODEL, "-o", "out/deep"], ["build", MODEL, "-b", "native", "-o", "out"]])
def test_a_full_disk_leaves_nothing_behind(here: Path, words: list[str]) -> None:
    """A limit to the size of files stands for the disk that is full: the first files still fit, the last does not."""
    assert subprocess.run([*SDK, *words], **PIPES, check=False).returncode == 0  # so that the cache is warm
    sizes = sorted(path.stat().st_size for path in (here / "out").rglob("*") if path.is_file())
    shutil.rmtree(here / "out")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[-1] - 1, sizes[-1] - 1))

    done = subprocess.run([*SDK, *words], **PIPES, check=False, preexec_fn=limit)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: cannot write {words[-1]}/")
    assert "--output" in done.stderr
    assert list(here.iterdir()) == []
