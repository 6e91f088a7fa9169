"""Operators of a user's own: found in a folder, tested and verified like the built-in ones, refused with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "custom_operator"
MODEL = FOLDER / "spikes.tflite"


def sdk(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: operators that are added stay in the registry."""
    command = [sys.executable, "-c", "import sys; from sdk.cli import main; sys.exit(main())", *words]
    environment = os.environ | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_model_is_what_its_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(FOLDER / "make_model.py"), str(tmp_path / "m")], cwd=ROOT, check=True)
    assert (tmp_path / "m").read_bytes() == MODEL.read_bytes()


def test_cases_and_model_on_a_board() -> None:
    cases = sdk("ops", "CUSTOM:Median3", "--ops", str(FOLDER), "--board", "native")
    assert cases.returncode == 0, cases.stderr
    model = sdk("verify", str(MODEL), "--board", "native", "--layers", MICROLITH_OPS=str(FOLDER))
    assert model.returncode == 0, model.stderr
    assert "against the reference of each operator" in model.stdout


def test_a_wrong_kernel_is_caught(tmp_path: Path) -> None:
    for name in ("median3.py", "median3.c"):
        text = (FOLDER / name).read_text().replace("time == 0 ||", "")
        (tmp_path / name).write_text(text)
    result = sdk("ops", "CUSTOM:Median3", "--ops", str(tmp_path), "--board", "native")
    assert result.returncode == 11
    assert "its own reference" in result.stdout


def test_without_the_folder_the_model_is_refused() -> None:
    result = sdk("verify", str(MODEL), "--board", "native")
    assert result.returncode == 4
    assert "CUSTOM:Median3" in result.stderr
    assert "--ops DIR" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere", "nowhere"),
        ("x = (", "cannot be used"),
        ("from median3 import OPS", "median3"),
    ],
)
def test_a_broken_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(text)
    result = sdk("ops", "--ops", str(tmp_path))
    assert result.returncode == 2
    assert "broken.py" in result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_number_of_the_sdk_is_refused(tmp_path: Path) -> None:
    text = (FOLDER / "median3.py").read_text().replace("    CUSTOM_KERNELS,\n", "    4711,\n")
    (tmp_path / "median3.py").write_text(text)
    result = sdk("ops", "--ops", str(tmp_path))
    assert result.returncode == 2
    assert "4711" in result.stderr


def test_a_folder_that_is_not_there() -> None:
    assert sdk("ops", "--ops", "/nowhere").returncode == 2


def test_a_folder_without_operators_is_named(tmp_path: Path) -> None:
    result = sdk("ops", "--ops", str(tmp_path))
    assert (result.returncode, str(tmp_path) in result.stderr) == (2, True)


def test_a_missing_c_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "median3.py").write_text((FOLDER / "median3.py").read_text())
    result = sdk("ops", "CUSTOM:Median3", "--ops", str(tmp_path), "--board", "native")
    assert result.returncode == 2
    assert f"no C file {tmp_path / 'median3.c'}" in result.stderr
