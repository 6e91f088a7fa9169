"""The models of tests/models, as TensorFlow's converter makes them: layer by layer, on the host and in emulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.cli import main

MODELS = sorted((Path(__file__).parent / "models").glob("*.tflite"))
# No oracle takes it: tflite-runtime 2.14 does not know its version of FULLY_CONNECTED, tflite-micro no hybrid model.
WITHOUT_ORACLE = {"hybrid"}


@pytest.mark.parametrize("board_id", ["native", "mps2-an386"])
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_layer_equals_the_oracle(path: Path, board_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", str(path), "--board", board_id, "--layers", "--count", "3"])
    said = capsys.readouterr()
    if path.stem in WITHOUT_ORACLE:
        assert code == 4
        message, remedy = said.err.strip().splitlines()
        assert "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'; the oracle tflite-micro" in message
        assert "sdk run" in remedy
    else:
        assert code == 0, said.out + said.err
