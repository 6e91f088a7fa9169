"""Other shapes of inputs: what follows from them is inferred, and the result is exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.cli import main
from sdk.errors import InputError
from sdk.load import load
from sdk.shapes import parse_shape, with_shapes

MODELS = Path(__file__).parent / "models"
MODEL = MODELS / "dynamic_batch_int8.tflite"


def test_shapes_follow_from_the_inputs() -> None:
    graph = with_shapes(load(MODEL), {"image": (3, 8, 8, 2)})
    assert graph.tensor(graph.outputs[0]).shape == (3, 5)
    assert with_shapes(graph, {}) is graph


def test_a_larger_batch_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(MODEL), "--shape", "image=3,8,8,2", "--board", "native", "--layers"]) == 0
    assert "equal" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["image", "image=", "=1,2", "image=0,8", "image=a", "image=-1,8,8,2", "i=70000,70000"])
def test_what_is_no_shape_is_said(text: str) -> None:
    with pytest.raises(InputError, match="not a shape"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"x": (1,)}, "no input 'x'"), ({"image": (8, 8)}, "4 dimensions"), ({"image": (1, 8, 8, 3)}, "does not work")],
)
def test_shapes_that_do_not_work_are_refused(wanted: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        with_shapes(load(MODEL), wanted)
