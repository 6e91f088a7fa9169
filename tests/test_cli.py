"""The command line: what each command prints, and its exit codes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_models import EMULATED, FC_OPTIONS, dense, needs_arm, sdk

from sdk.cli import COMMANDS, main
from sdk.graph import DType, Node
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.oracle import Oracle
from sdk.paths import BOARDS
from sdk.runtime.origin import with_origin
from sdk.write import write

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs a command with --json: its exit code and the one object on stdout."""

    def call(*words: str) -> tuple[int, Any]:
        code = main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.mark.usefixtures("here")
def test_inspect_tells_all(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, report = run_json("inspect", "models/sound.tflite")
    assert code == 0
    assert (report["supported"], report["macs"], report["weight_bytes"]) == (True, 64, 64)
    assert report["operators"] == {"FULLY_CONNECTED": 1}
    assert report["kernels"] == ["fully_connected_s8"]
    assert report["inputs"][0]["shape"] == [1, 16]
    assert report["inputs"][0]["scale"] == [pytest.approx(0.05)]
    assert report["memory"]["arena_bytes"] == 32
    assert report["memory"]["steps"] == [{"name": "FULLY_CONNECTED (node 0)", "live_bytes": 32}]
    assert {board["id"]: board["fits"] for board in report["boards"]}["microbit"]


@pytest.mark.usefixtures("here")
def test_inspect_tells_what_is_missing(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, report = run_json("inspect", "models/much_ram.tflite")
    board = next(board for board in report["boards"] if board["id"] == "microbit")
    assert code == 0
    assert not board["fits"]
    assert board["ram_missing_bytes"] == board["ram_bytes"] - board["ram_room_bytes"] > 0


@pytest.mark.usefixtures("here")
def test_inspect_works_without_support(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "models/unsupported.tflite", "-v"]) == 0
    text = capsys.readouterr().out
    for words in ("CUSTOM:Mystery", "not an operator", "estimated", "int8[1, 16]", "microbit"):
        assert words in text


@pytest.mark.parametrize("wrong", [0.0, float("nan"), float("-inf")])
def test_inspect_shows_an_unsound_model(here: Path, wrong: float, run_json: Callable[..., tuple[int, Any]]) -> None:
    """A scale of 0, as some converters write, or worse: refused everywhere else."""
    data = bytearray((here / "models" / "sound.tflite").read_bytes())
    scale = np.float32(0.05).tobytes()
    assert data.count(scale) == 1
    data[data.index(scale) : data.index(scale) + 4] = np.float32(wrong).tobytes()
    (here / "odd.tflite").write_bytes(data)
    assert run_json("lower", "odd.tflite")[0] == 3
    code, report = run_json("inspect", "odd.tflite")
    assert code == 0
    assert report["supported"] is False
    assert report["operators"] == {"FULLY_CONNECTED": 1}
    assert len(report["tensors"]) == 3
    assert report["weight_bytes"] == 64
    [problem] = report["problems"]
    assert re.match("the model is not sound: tensor .* has a scale that is not a positive", problem["message"])


@pytest.mark.usefixtures("here")
def test_inspect_names_every_type_that_is_missing(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, report = run_json("inspect", "models/float64.tflite")
    assert code == 0
    assert report["supported"] is False
    assert [(p["node"], p["count"]) for p in report["problems"]] == [("FULLY_CONNECTED (node 0)", 1)]
    assert "float64" in report["problems"][0]["message"]


def test_lower_writes_four_files(here: Path, run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("lower", "models/sound.tflite", "-o", "out", "--board", "microbit")
    assert code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["kernels.def", "model.c", "model.h", "sound.mlith"]
    assert (here / "out" / "sound.mlith").stat().st_size == result["program_bytes"] + len(with_origin(b"", b""))
    assert f"ML_SOUND_ARENA_BYTES {result['arena_bytes']}u" in (here / "out" / "model.h").read_text()


@pytest.mark.usefixtures("here")
def test_lower_shows_the_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lower", "models/sound.tflite", "-v"]) == 0
    assert "after fold-constants:\ninputs %0 int8[1, 16]\n" in capsys.readouterr().out


def test_build_says_where_the_bytes_go(here: Path, run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("build", "models/sound.tflite", "--board", "native", "-o", "out")
    assert code == 0
    assert set(result["flash"]) == {"interpreter", "kernels", "program", "port"}
    assert result["flash_bytes"] == sum(result["flash"].values())
    assert [Path(name).name for name in result["files"]] == ["sound.elf"]
    assert (here / "out" / "sound.elf").read_bytes()[:4] == b"\x7fELF"


@needs_arm
def test_build_makes_a_binary_for_a_chip(here: Path, run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("build", "models/sound.tflite", "--board", "mps2-an386", "-o", "out")
    image = (here / "out" / "sound.bin").read_bytes()
    assert run_json("build", "out/sound.elf", "--board", "mps2-an386", "-o", "again")[0] == 0
    assert (here / "again" / "sound.bin").read_bytes() == image
    stack_end, entry = int.from_bytes(image[:4], "little"), int.from_bytes(image[4:8], "little")
    assert code == 0
    assert 0x20000000 < stack_end <= 0x20400000
    assert entry & 1
    assert entry < len(image)
    assert len(image) == pytest.approx(result["flash_bytes"], abs=64)


@pytest.mark.usefixtures("here")
def test_verify_compares_with_the_oracle(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, verdict = run_json("verify", "models/sound.tflite", "--board", "native", "--count", "7", "--layers")
    assert code == 0
    assert verdict["ok"] is True
    assert (verdict["compared"], verdict["mismatches"], verdict["inputs"]) == (7 * 2 * 4, 0, 7)
    assert verdict["first_difference"] is None


@pytest.mark.usefixtures("here")
def test_verify_says_what_differs(run_json: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is given another model, so that the device is wrong."""
    other = dense(outputs=4)
    weights = other.tensors[1].data
    assert weights is not None
    wrong = write(dense()).replace(weights.astype(np.int8).tobytes(), weights.astype(np.int8)[::-1].tobytes())
    monkeypatch.setattr("sdk.piecewise.Oracle", lambda _model, which: Oracle(wrong, which))
    code, verdict = run_json("verify", "models/sound.tflite", "--board", "native")
    assert code == 11
    assert verdict["ok"] is False
    assert verdict["mismatches"] > 0
    assert verdict["first_difference"]["device"] != verdict["first_difference"]["oracle"]


def test_run_answers_as_the_oracle(here: Path, run_json: Callable[..., tuple[int, Any]]) -> None:
    inputs = np.random.default_rng(1).integers(-128, 128, (3, 16)).astype(np.int8)
    np.save("in.npy", inputs)
    code, result = run_json("run", "models/sound.tflite", "--board", "native", "-i", "in.npy", "-o", "out.npz")
    with Oracle((here / "models" / "sound.tflite").read_bytes()) as oracle:
        expected = np.stack([oracle.run([row[np.newaxis]]).outputs[0] for row in inputs])
    assert code == 0
    [name] = result["samples"][0]["outputs"]
    np.testing.assert_array_equal(np.load("out.npz")[name], expected)
    assert [sample["outputs"][name] for sample in result["samples"]] == expected.tolist()
    assert [sample["top"][name] for sample in result["samples"]] == expected.reshape(3, 4).argmax(1).tolist()


BENCH_KEYS = {
    "macs",
    "instructions",
    "start_instructions",
    "arena_bytes",
    "state_bytes",
    "stack_bytes",
    "flash",
    "steps",
}


@pytest.mark.usefixtures("here")
def test_bench_without_a_counter_of_instructions(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("bench", "models/sound.tflite", "--board", "native")
    assert code == 0
    assert result.keys() > BENCH_KEYS
    assert result["instructions"] is None
    assert result["ns"] > 0


@pytest.mark.usefixtures("here")
@needs_arm
def test_bench_counts_instructions(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("bench", "models/sound.tflite", "--board", EMULATED)
    assert code == 0
    assert result.keys() > BENCH_KEYS
    assert (result["macs"], result["arena_bytes"], result["state_bytes"]) == (64, 32, 0)
    assert 64 < result["instructions"] < 10_000
    assert 0 < result["start_instructions"] < 20_000
    assert 0 < result["stack_bytes"] < 4096
    assert set(result["flash"]) == {"interpreter", "kernels", "program", "port"}
    assert [(step["name"], step["kernel"], step["macs"]) for step in result["steps"]] == [
        ("FULLY_CONNECTED (node 0)", "fully_connected_pair_s8", 64)
    ]
    assert 0 < result["steps"][0]["instructions"] <= result["instructions"]


@pytest.mark.usefixtures("here")
@needs_arm
def test_bench_compares_what_each_choice_costs(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("bench", "models/sound.tflite", "--board", EMULATED, "--compare", "--estimate")
    assert code == 0
    assert list(result["choices"]) == ["speed", "balanced", "size"]
    for choice in result["choices"].values():
        assert choice.keys() > BENCH_KEYS
        assert choice["estimate"]["cycles"] >= choice["instructions"] > 64
        # An input of 16, 4 outputs, 64 weights and more.
        assert 84 < choice["moved_bytes"] == sum(step["moved_bytes"] for step in choice["steps"]) < 400


@pytest.mark.usefixtures("here")
@needs_arm
@pytest.mark.parametrize(("name", "one"), [("mps2-an385", True), (EMULATED, False)])
def test_bench_says_which_choices_are_one(capsys: pytest.CaptureFixture[str], name: str, one: bool) -> None:
    """Boards whose kernels are portable ones have no faster ones for `speed`."""
    assert main(["bench", str(DIGITS), "--board", name, "--compare"]) == 0
    assert ("speed and balanced are the same here" in capsys.readouterr().out) == one


@pytest.mark.usefixtures("here")
@needs_arm
def test_flash_stays_until_the_next_command(
    run_json: Callable[..., tuple[int, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path / "cache"))  # tests beside this one flash the same board
    assert run_json("flash", "models/sound.tflite", "--board", EMULATED)[0] == 0
    code, info = run_json("monitor", "--board", EMULATED)
    assert code == 0
    assert info["board_id"] == EMULATED
    assert info["kernels"] == [registry().kernels["fully_connected_pair_s8"].number]
    assert info["resident_bytes"] > 0


def test_boards_and_doctor(run_json: Callable[..., tuple[int, Any]]) -> None:
    code, result = run_json("boards")
    assert code == 0
    assert {"native", "microbit"} <= {board["id"] for board in result["boards"]}
    code, result = run_json("doctor")
    assert code == (0 if result["ok"] else 8)
    assert {"python", "gcc", "cache"} <= {check["name"] for check in result["checks"]}


def test_broken_board_files_are_named(here: Path, run_json: Callable[..., tuple[int, Any]]) -> None:
    """And the others are listed all the same, by every command that goes through all of them."""
    boards = here / "boards"
    boards.mkdir()
    manifest = json.loads((BOARDS / "native.json").read_text())
    (boards / "mine.json").write_text(json.dumps(manifest))
    (boards / "typo.json").write_text(json.dumps({**manifest, "nmae": "x", "name": ""}))
    (boards / "cut.json").write_text(json.dumps(manifest)[:50])
    (boards / "deep.json").write_text("[" * 100_000)
    (boards / "folder.json").mkdir()
    (boards / "other.json").write_text('{"name": "no board at all"}')
    code, result = run_json("boards")
    assert code == 7
    assert {"mine", "native", "microbit"} <= {board["id"] for board in result["boards"]}
    names = [str(re.findall(r"boards/\w+.json", fault)[0]) for fault in result["faults"]]
    assert names == ["boards/cut.json", "boards/deep.json", "boards/folder.json", "boards/typo.json"]
    assert "name is empty" in result["faults"][-1]
    code, report = run_json("inspect", "models/sound.tflite")
    assert code == 0
    assert "mine" in {board["id"] for board in report["boards"]}
    code, result = run_json("doctor")
    assert code == 8
    assert sum(check["name"] == "boards" for check in result["checks"]) == 4


def test_boards_lists_a_line_a_fault(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "boards").mkdir()
    (here / "boards" / "cut.json").write_text("{")
    assert main(["boards"]) == 7
    said = capsys.readouterr().out
    assert re.search(r"^mps2-an386 .*  arm_dsp  ", said, re.MULTILINE)
    assert re.search(r"^- boards/cut.json is not a JSON file: .*", said, re.MULTILINE)


def test_doctor_ends_with_what_to_type(tmp_path: Path) -> None:
    done = sdk("doctor", env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 8
    last = done.stdout.strip().splitlines()[-1]
    assert last.strip().startswith("sudo apt-get install")
    assert "gcc-arm-none-eabi" in last
    assert "qemu-system-arm" in last


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"examples:\n  .*\bsdk {command}\b", said)
    assert ("--json" in said) == (command != "completion")


def test_help_lists_exit_codes_and_loads_nothing() -> None:
    program = (
        "import sys; from sdk.cli import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'rich', 'tflite', 'serial')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "   11  The device computed something else than the oracle." in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sdk verify models/sound.tflite --board mps2-an38", {EMULATED, "mps2-an385", "mps2-an385-m0plus"}),
        ("sdk inspect models/so", {"models/sound.tflite"}),
        ("sdk be", {"bench"}),
    ],
)
def test_tab_completes(here: Path, line: str, expected: set[str]) -> None:
    out = here / "completed"
    protocol = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "IFS": "\n"}
    done = sdk(env={**os.environ, **protocol, "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(out)})
    assert done.returncode == 0, done.stderr
    assert {word.strip() for word in out.read_text().split("\n")} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "sdk" in capsys.readouterr().out


def test_the_timeline_of_a_long_model_is_cut(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = CaseGraph()
    tensors = [g.input((1, 4), DType.INT8, 0.05, 3), *(g.tensor((1, 4), DType.INT8, 0.05) for _ in range(69))]
    tensors.append(g.output((1, 4), DType.INT8, 0.05))
    weights = g.constant(np.ones((4, 4)), DType.INT8, 0.01)
    nodes = [Node("FULLY_CONNECTED", (x, weights), (y,), FC_OPTIONS) for x, y in itertools.pairwise(tensors)]
    (here / "long.tflite").write_bytes(write(g.case_of(nodes, "long").graph))
    assert main(["inspect", "long.tflite"]) == 0
    brief = capsys.readouterr().out
    assert "the 60 largest of 70 steps" in brief
    assert brief.count("|####") == 60
    assert brief.count("<- peak") == 1
    assert main(["inspect", "long.tflite", "-v"]) == 0
    assert capsys.readouterr().out.count("|####") == 70


@pytest.mark.parametrize(("what", "last"), [("verify", "5 of 5"), ("run --count 3", "3 of 3"), ("bench", "3 of 3")])
def test_a_terminal_sees_progress_and_a_pipe_does_not(here: Path, what: str, last: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sdk", *what.split(), "models/sound.tflite", "--board", "native"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, cwd=here, text=True) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # a pty ends with an error
            while data := os.read(ours, 4096):
                seen += data
        os.close(ours)
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0
    assert f"inference {last}".encode() in seen
    assert "sound.tflite on native" in out or "random 2" in out
    assert "\x1b" not in out
