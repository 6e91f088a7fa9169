"""Environments of converters, and the processes in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from sdk.convert import environment as environments
from sdk.convert.conversion import convert
from sdk.convert.environment import VARIABLE, Environment, python_of
from sdk.convert.process import Worker
from sdk.errors import ToolError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment of one package of one line, which needs no network."""
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    wheel = tmp_path / "tiny_microlith_part-1.0-py3-none-any.whl"
    about = "tiny_microlith_part-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_microlith_part.py", "VALUE = 7\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-microlith-part\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return Environment("quantizer", "Tiny", (str(wheel),), ("tiny_microlith_part",), 30, "1")


def test_an_environment_is_made_once(tiny: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    made: list[Path] = []
    (environments.cache_dir("convert") / "quantizer-old.part").mkdir()  # of a process that was killed
    threads = [threading.Thread(target=lambda: made.append(python_of(tiny, note=said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    python = made[0]
    assert made[1] == python
    assert "about 30 MB" in said[0]
    assert "minutes" in said[0]
    assert subprocess.run([python, "-c", "import tiny_microlith_part"], check=False).returncode == 0
    assert list(python.parents[2].glob("*.part")) == []
    start = time.monotonic()
    assert python_of(tiny, note=said.append) == python
    assert time.monotonic() - start < 0.5
    assert len(said) == 2
    python.unlink()  # somebody removed it, and was interrupted
    assert python_of(tiny) == python
    assert subprocess.run([python, "-c", "import tiny_microlith_part"], check=False).returncode == 0
    # A Python that has the packages is used as it is, one that has not is refused.
    monkeypatch.setenv(VARIABLE, f"{sys.executable}{os.pathsep}{python}")
    assert python_of(tiny) == python
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(ToolError, match=r"no Python of .* has tiny_microlith_part"):
        python_of(tiny)
    monkeypatch.setenv(VARIABLE, "/no/python")
    with pytest.raises(ToolError, match="cannot be run"):
        python_of(tiny)


@pytest.mark.parametrize(
    ("requirement", "megabytes", "message"),
    [
        ("no-such-package-of-microlith==9", 1, "pip has no no-such-package|no network"),
        ("x", 10**9, "takes 1,000,000,000 MB; .* has .* MB left"),
    ],
)
def test_an_environment_that_cannot_be_made_leaves_nothing(
    requirement: str, megabytes: int, message: str, tiny: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ToolError, match=message):
        python_of(replace(tiny, requirements=(requirement,), megabytes=megabytes))
    assert [path.name for path in environments.cache_dir("convert").iterdir()] == ["lock"]


def test_without_a_network_it_is_said(tiny: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    with pytest.raises(ToolError, match="there is no network"):
        python_of(replace(tiny, requirements=("tiny-microlith-part",)))


def test_ctrl_c_leaves_nothing(tiny: Environment) -> None:
    script = (
        "import sys; from sdk.convert.environment import *; "
        f"python_of(Environment('tiny', 'Tiny', {tiny.requirements!r}, ('none_such',), 1, '1'), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL)
    parts = environments.cache_dir("convert")
    while not list(parts.glob("*.part")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert list(parts.glob("tiny-*")) == []


def test_a_converter_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    here = Environment("quantizer", "Tiny", (), ("numpy",), 1, "1")
    with Worker(here) as worker, pytest.raises(ToolError, match="Tiny failed: ModuleNotFoundError"):
        worker.call("convert")  # it has not the packages that the session imports
    with Worker(here) as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(ToolError, match="ended by SIGKILL") as caught:
            worker.call("convert")
    assert "memory" in caught.value.remedy


def test_pins_agree_with_the_extra() -> None:
    """`pip install microlith[convert]` brings what the environment would."""
    from importlib.metadata import requires

    extra = [line for line in requires("microlith") or [] if 'extra == "convert"' in line.replace("'", '"')]
    names = {line.split(">=")[0].split("<")[0].strip() for line in extra}
    assert names == {each.partition("==")[0] for each in environments.TENSORFLOW.requirements}


def test_the_core_imports_no_converter() -> None:
    words = "import sys, sdk.convert.conversion, sdk.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "torch", "keras", "tf_keras", "onnx", "litert_quantizer"} & set(modules.split())


def test_a_python_without_the_converter_is_refused(source_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(ToolError, match="no Python of"):
        convert(source_files / "net.keras", quantize="float32")
