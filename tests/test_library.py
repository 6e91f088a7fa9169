"""A model as a PlatformIO library: complete, and the example that uses it classifies as the reference does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sdk.cli import main
from sdk.oracle import Oracle
from sdk.program import Profile

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "digits" / "digits_int8.tflite"
EXAMPLE = ROOT / "examples" / "platformio"
PROGRAM = """
#include <stdio.h>
#include "classify.h"
int main(void) {{
    static const uint8_t ink[64] = {{{ink}}};
    printf("%d %d", classify(ink), classify(ink));
}}
"""


def compiled(library: Path, folder: Path, *options: str) -> Path:
    """A program of the library's sources, the example's classify.c and PROGRAM, with the flags of library.json."""
    flags = json.loads((library / "library.json").read_text())["build"]["flags"]
    sources = [*sorted((library / "src").rglob("*.c")), EXAMPLE / "classify.c", folder / "main.c"]
    command = ["gcc", *options, *flags, f"-I{library / 'src'}", f"-I{EXAMPLE}", *map(str, sources)]
    subprocess.run([*command, "-o", str(folder / "program")], check=True)
    return folder / "program"


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not on this machine")
def test_example_classifies_as_the_reference(tmp_path: Path) -> None:
    library = tmp_path / "digits"
    assert main(["lower", str(MODEL), "--library", "-o", str(library)]) == 0
    ink = re.findall(r"static const uint8_t five\[64\] = {(.*?)}", (EXAMPLE / "main.cpp").read_text(), re.DOTALL)[0]
    (tmp_path / "main.c").write_text(PROGRAM.format(ink=ink))
    pixels = np.array([int(each) for each in re.findall(r"\d+", ink)]).reshape(1, 8, 8, 1) * 255 // 16 - 128
    with Oracle(MODEL.read_bytes()) as oracle:
        expected = int(oracle.run([pixels.astype(np.int8)]).outputs[0].argmax())
    program = compiled(library, tmp_path, "-Wl,--gc-sections")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == f"{expected} {expected}"
    assert expected == 5


@pytest.mark.parametrize("profile", [profile.name for profile in Profile])
def test_library_holds_every_header_that_it_includes(profile: str, tmp_path: Path) -> None:
    assert main(["lower", str(MODEL), "--library", "--profile", profile, "-o", str(tmp_path)]) == 0
    files = list((tmp_path / "src").rglob("*.[ch]"))
    for path in files:
        for name in set(re.findall(r'^#include "(.*)"', path.read_text(), re.MULTILINE)) - {"ml_custom.h"}:
            assert (path.parent / name).exists() or (tmp_path / "src" / name).exists(), f"{path.name}: {name}"
    sources = {path.name for path in files if path.suffix == ".c"}
    assert {"model.c", "interpreter.c", "softmax.c"} <= sources
    assert not sources & {"server.c", "main.c"}
    assert "lstm.c" not in sources
