"""Every command in the documentation runs, and every Python test in it passes; links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sdk.cli import exit_codes

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
# Each block on its own; the commands of one block come in order, and find what those before them have written.
BLOCKS = sorted(
    {
        tuple(line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))
        for page in PAGES
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    }
)
PYTHON = [(page, block) for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
# Code that a page shows of a file: the file and the block, which may leave out lines at "...".
SHOWN = [
    (page, source, block)
    for page in PAGES
    for source, block in re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("commands", BLOCKS, ids=" && ".join)
def test_commands_run(commands: tuple[str, ...], tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert commands
    for command in commands:
        # Commands read files of the checkout and write below `build/`, which here is a temporary folder.
        words = [word.replace("build/", f"{tmp_path}/") for word in shlex.split(command)]
        result = subprocess.run(
            words, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip()


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[page.name for page, _ in PYTHON])
def test_python_examples_pass(page: Path, block: str, tmp_path: Path) -> None:
    file = tmp_path / "test_example.py"
    file.write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(file)]
    result = subprocess.run(
        [*command, "--board", "native"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, f"{page.name}: {result.stdout}{result.stderr}"


def test_every_exit_code_is_explained() -> None:
    """In the words of `sdk --help`."""
    table = re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs" / "first-steps.md").read_text(), re.MULTILINE)
    assert table == [tuple(line.split(None, 1)) for line in exit_codes().splitlines()[1:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in targets if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(("page", "source", "block"), SHOWN, ids=[source for _, source, _ in SHOWN])
def test_code_shown_is_the_code(page: Path, source: str, block: str) -> None:
    text, at = (ROOT / source).read_text(), 0
    for part in re.split(r"^ *\.\.\.\n", block, flags=re.MULTILINE):
        at = text.find(part.strip("\n"), at)
        assert at >= 0, f"{page.name} shows of {source} what is not there:\n{part}"
        at += len(part.strip("\n"))


def test_contributing_shows_an_operator() -> None:
    assert {source for _, source, _ in SHOWN} >= {"sdk/ops/one_hot.py", "firmware/src/kernels/one_hot.c"}
