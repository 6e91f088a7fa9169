"""The emitted C files in a project of the user's own: the page's example compiles, runs and is right, in C and C++."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sdk.emit import emit, symbol_of, write_files
from sdk.load import load
from sdk.lower import lower
from sdk.oracle import Oracle
from sdk.paths import FIRMWARE

ROOT = FIRMWARE.parent
MODEL = ROOT / "examples" / "digits" / "digits_int8.tflite"
INCLUDES = [FIRMWARE / name for name in ("include", "src", "gen")]
C_MAIN = """
#include <stdio.h>
int main(void) {
    int8_t pixels[64], scores[10];
    if (fread(pixels, 1, 64, stdin) != 64 || classify(pixels, scores) != 0) return 1;
    return fwrite(scores, 1, 10, stdout) != 10;
}
"""
CPP_MAIN = """
#include "microlith.h"
#include "model.h"
alignas(16) static unsigned char arena[ML_DIGITS_INT8_ARENA_BYTES];
int main() {
    ml_session session;
    ml_memory memory = {};
    memory.arena = arena;
    memory.arena_bytes = sizeof arena;
    if (ml_open(&session, ml_digits_int8, ml_digits_int8_bytes) != ML_OK) return 1;
    return ml_start(&session, &memory) == ML_OK && ml_invoke(&session) == ML_OK ? 0 : 1;
}
"""

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not on this machine")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the emitted files, and objects of all that the page says to compile."""
    write_files(emit(lower(load(MODEL)), MODEL.stem), tmp_path, MODEL.stem, MODEL.read_bytes())
    sources = [FIRMWARE / "src" / name for name in ("interpreter.c", "crc32.c", "kernel_table.c")]
    sources += sorted((FIRMWARE / "src" / "kernels").glob("*.c"))
    run(tmp_path, "gcc", "-std=c11", "-c", "-O0", "-w", "-ffunction-sections", *flags(tmp_path), "model.c", *sources)
    return tmp_path


def flags(folder: Path) -> list[str]:
    return [f"-I{path}" for path in (*INCLUDES, folder)]


def run(folder: Path, *command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


def test_the_example_of_the_page_answers_as_the_oracle(project: Path) -> None:
    page = (ROOT / "docs" / "own-firmware.md").read_text()
    [example] = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    (project / "main.c").write_text(example + C_MAIN)
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wl,--gc-sections")
    run(project, "gcc", *strict, *flags(project), "main.c", *project.glob("*.o"), "-lm", "-o", "main")
    pixels = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
    done = subprocess.run([project / "main"], input=pixels.tobytes(), capture_output=True, check=True)
    with Oracle(MODEL.read_bytes()) as oracle:
        assert done.stdout == oracle.run([pixels]).outputs[0].tobytes()


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not on this machine")
def test_a_program_in_cpp_links_it(project: Path) -> None:
    (project / "main.cpp").write_text(CPP_MAIN)
    strict = ("-Wall", "-Wextra", "-Werror", "-Wl,--gc-sections")
    run(project, "g++", *strict, *flags(project), "main.cpp", *project.glob("*.o"), "-lm", "-o", "main")
    run(project, project / "main")


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("model", "ml_model"),
        ("Person Detect-v1.2", "ml_person_detect_v1_2"),
        ("2x2", "ml_2x2"),
        ("*/ évil", "ml_vil"),
        ("", "ml_model"),
        ("open", "ml_open_model"),
        ("arena", "ml_arena_model"),
        ("session", "ml_session_model"),
    ],
)
def test_any_file_name_makes_an_identifier(name: str, symbol: str) -> None:
    assert symbol_of(name) == symbol


def test_nothing_of_the_models_own_names_is_in_the_files() -> None:
    lowered = lower(load(MODEL))
    texts = "".join(emit(lowered, "digits").files.values())
    assert "ml_digits[]" in texts
    assert lowered.name not in texts
