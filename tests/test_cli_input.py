"""Bad input of the command line costs a message and nothing else."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_models import EMULATED, dense, needs_arm, sdk

from sdk.cli import main
from sdk.write import write

CHIP = "microbit"
BAD: dict[str, tuple[str, int, str]] = {
    "service of no Linux board": ("flash models/sound.tflite --board native --service", 2, "native is none"),
    "kernels of no engine": (
        "verify models/sound.tflite --board native --reference-kernels",
        2,
        "Name it with --engine",
    ),
    "no command": ("frobnicate", 2, "no command 'frobnicate'"),
    "misspelt command": ("insepct m.tflite", 2, "Did you mean inspect"),
    "no model": ("inspect", 2, "MODEL"),
    "no board": ("verify models/sound.tflite", 2, "--board"),
    "bad count": ("verify models/sound.tflite --board native --count 0", 2, "at least 1"),
    "pixels of nothing": ("run models/sound.tflite --board native --pixel-range 0 1", 2, "none was given"),
    "pixels of an array": ("run models/sound.tflite --board native -i in.npy --pixel-range 0 1", 2, "none was given"),
    "unsigned": ("run models/sound.tflite --board native -i unsigned.npy", 6, r"Pixels.*\(x.astype\('int16'\) - 128\)"),
    "wrong name": ("run models/sound.tflite --board native -i name.npz", 6, "holds picture; the model's inputs are "),
    "unknown profile": ("lower models/sound.tflite --profile m4", 2, "portable"),
    "missing model": ("lower models/none.tflite", 2, "models/none.tflite"),
    "folder": ("inspect models", 3, "models"),
    "empty": ("lower models/empty.tflite", 3, "empty is empty"),
    "no model at all": ("lower models/text.tflite", 3, "not a .tflite"),
    "cut": ("lower models/cut.tflite", 3, "cut short|not sound"),
    "unsupported operator": ("lower models/unsupported.tflite", 4, "CUSTOM:Mystery .node 0."),
    "unsupported type": ("lower models/float64.tflite", 4, "float64"),
    "too much RAM": (f"lower models/much_ram.tflite --board {CHIP}", 5, "bytes of RAM too little"),
    "too much RAM to build": (f"build models/much_ram.tflite --board {CHIP}", 5, "bytes of RAM too little"),
    "too much flash": (f"build models/much_flash.tflite --board {CHIP}", 5, "flash"),
    "missing input": ("run models/sound.tflite --board native -i none.npy", 6, "none.npy"),
    "wrong shape": ("run models/sound.tflite --board native -i shape.npy", 6, r"int8\[1, 16\]"),
    "wrong type": ("verify models/sound.tflite --board native -i float.npy", 6, "Quantize real values .*: np.clip"),
    "damaged input": ("bench models/sound.tflite --board native -i damaged.npz", 6, "damaged.npz"),
    "unknown board": ("build models/sound.tflite --board mps2-an368", 7, "Did you mean .*mps2-an386"),
    "damaged board": ("build models/sound.tflite --board ./bad.json", 7, "bad.json"),
    "no such oracle": ("verify models/sound.tflite --board native --oracle pythia", 2, "tflite-micro"),
    "unwritable output": ("lower models/sound.tflite -o taken/out", 1, "taken"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_costs_a_message(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, expected, words = BAD[name]
    if CHIP in line and expected == 5 and "build" in line and not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("arm-none-eabi-gcc is not on this machine")
    np.save("shape.npy", np.zeros((2, 5), np.int8))
    np.save("in.npy", np.zeros((1, 16), np.int8))
    np.save("unsigned.npy", np.zeros((1, 16), np.uint8))
    np.savez("name.npz", picture=np.zeros((1, 16), np.int8))
    np.save("float.npy", np.zeros((1, 16), np.float32))
    Path("damaged.npz").write_bytes(b"PK\x03\x04 and nothing more")
    Path("bad.json").write_text('{"name": 3}')
    Path("taken").write_text("a file")
    before = sorted(here.rglob("*"))
    assert main(line.split()) == expected
    said = capsys.readouterr()
    assert_message(said.err, words)
    assert sorted(here.rglob("*")) == before
    assert main([*line.split(), "--json"]) == expected
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["exit_code"] == expected
    assert error["message"] in said.err
    assert error["class"].endswith("Error")


def assert_message(text: str, words: str) -> None:
    """One to three lines with a remedy, and no traceback."""
    lines = text.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert 1 <= len(lines) <= 3, text
    assert "Traceback" not in text
    assert re.search(words, " ".join(lines)), text


@pytest.mark.usefixtures("here")
def test_bits_flipped_in_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever they make of the model, it is one that can be lowered or is refused in words."""
    sound = write(dense())
    rng = random.Random(0)
    codes = []
    for _ in range(150):
        damaged = bytearray(sound)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        Path("flipped.tflite").write_bytes(damaged)
        assert main(["inspect", "flipped.tflite", "--json"]) in (0, 3)
        assert "InternalError" not in capsys.readouterr().out
        codes.append(main(["lower", "flipped.tflite", "-o", "out"]))
        said = capsys.readouterr()
        if codes[-1]:
            assert_message(said.err, "flipped|node|FULLY_CONNECTED|tensor")
            assert not Path("out").exists()
        shutil.rmtree("out", ignore_errors=True)
    assert set(codes) <= {0, 3, 4}
    assert 3 in codes


@pytest.mark.parametrize("target", ["native", "microbit"])
def test_missing_compiler(here: Path, target: str) -> None:
    done = sdk("build", "models/sound.tflite", "--board", target, "-o", "out", env={**os.environ, "PATH": "/nowhere"})
    assert done.returncode == 8
    assert_message(done.stderr, "gcc is missing.*apt-get install")
    assert not (here / "out").exists()


@needs_arm
def test_missing_emulator(here: Path) -> None:
    """The compiler is there, and what the link needs; the emulator is not."""
    (here / "bin").mkdir()
    for tool in ("arm-none-eabi-gcc", "mv"):
        (here / "bin" / tool).symlink_to(Path(str(shutil.which(tool))).resolve())
    done = sdk("verify", "models/sound.tflite", "--board", EMULATED, env={**os.environ, "PATH": str(here / "bin")})
    assert done.returncode == 8
    assert_message(done.stderr, "qemu-system-arm is missing.*apt-get install")


@pytest.mark.usefixtures("here")
def test_traceback_only_when_asked_for() -> None:
    assert "Traceback" not in sdk("lower", "models/empty.tflite").stderr
    asked = sdk("lower", "models/empty.tflite", "-v")
    assert "Traceback" in asked.stderr
    assert asked.returncode == 3
