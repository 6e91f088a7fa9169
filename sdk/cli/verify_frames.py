"""sdk verify --camera: the frames of a camera, and what a device made of each, against the reference."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.console import Console
from sdk.cli.samples import declared_by
from sdk.errors import UsageError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sdk.boards import Board
    from sdk.camera.prepare import Preparation
    from sdk.camera.record import Recorded
    from sdk.graph import Array
    from sdk.lower import Lowered
    from sdk.verify import Reference

KEPT = 100  # pictures of frames that differ: whoever has so many has seen enough


@dataclass
class Agreement:
    """How many frames were recorded, and each that differs. A frame differs if the device has made another input of it
    than this computer does, or other outputs of the input than the reference."""

    frames: int = 0
    values: int = 0
    differing: list[dict[str, Any]] = field(default_factory=list)


def verify_frames(
    args: argparse.Namespace, lowered: Lowered, board: Board, port: str | None, oracle: Reference, console: Console
) -> int:
    """Records, compares and says; the exit code."""
    preparation = _preparation(args, lowered)
    folder = args.output or Path("build") / f"frames-{Path(args.model).stem}-{board.id}"
    agreement = Agreement()
    with _recorded(args, lowered, board, port, preparation, console) as records:
        for recorded in records:
            console.progress(f"frame {agreement.frames + 1}: {recorded.name}")
            _check(recorded, lowered, preparation, oracle, folder, agreement)
    if not agreement.frames:
        raise UsageError(f"{args.camera or 'the camera'} has given no frame", "Check the source.")
    _say(agreement, args, board, console)
    about = {"model": args.model, "board": board.id, "emulated": board.emulated, "camera": args.camera or "default"}
    ok = not agreement.differing
    console.result({"ok": ok, "frames": agreement.frames, "differing": agreement.differing, **about})
    return 0 if ok else VerifyError.exit_code


def _preparation(args: argparse.Namespace, lowered: Lowered) -> Preparation:
    from sdk.camera.prepare import Preparation
    from sdk.runtime import Tensor

    sides = (
        [Tensor(spec.name, spec.shape, spec.dtype.numpy, spec.scale, spec.zero_point) for spec in specs]
        for specs in (lowered.inputs, lowered.outputs)
    )
    declared = declared_by(args)
    return Preparation(declared.picture if declared is not None else None, *sides)


@contextmanager
def _recorded(
    args: argparse.Namespace,
    lowered: Lowered,
    board: Board,
    port: str | None,
    preparation: Preparation,
    console: Console,
) -> Iterator[Iterable[Recorded]]:
    """The frames with the device's outputs: of a Linux board's own camera, or of this computer's over the line."""
    if board.flasher == "ssh":
        from sdk.flash.ssh import Host
        from sdk.linux import install_model, install_runtime
        from sdk.remote import RemoteFrames

        host = Host(board, port)
        install_runtime(host, progress=console.progress)
        path = install_model(host, Path(args.model), lowered.block, console.progress).path
        source = args.camera or str(board.flashers["ssh"]["camera"])
        options = {"reference": args.reference_kernels, "count": args.count}
        with RemoteFrames(host, path, source, args.engine or "microlith", **options) as remote:
            yield remote
        return
    if args.engine is not None or not args.camera:
        missing = "--engine is for Linux boards" if args.engine else f"{board.id} has no camera of its own"
        raise UsageError(missing, "Name a camera of this computer, a folder or a video: --camera photos/")
    from sdk.camera.record import record
    from sdk.camera.sources import open_source
    from sdk.deploy import deployed

    with (
        contextlib.closing(open_source(args.camera)) as here,
        deployed(lowered, board, port=port, progress=console.progress) as target,
    ):
        target.device.reset_state()
        yield record(here, preparation, target.device.run, args.count)


def _check(
    recorded: Recorded,
    lowered: Lowered,
    preparation: Preparation,
    oracle: Reference,
    folder: Path,
    agreement: Agreement,
) -> None:
    import numpy as np

    from sdk.verify import compare

    number = agreement.frames
    expected = oracle.run([recorded.input]).outputs
    verdict = compare(lowered, recorded.outputs, expected, number)
    mine = preparation.stored(recorded.pixels)
    inputs = int(np.count_nonzero(mine != recorded.input)) if mine.shape == recorded.input.shape else mine.size
    agreement.frames, agreement.values = number + 1, agreement.values + verdict.compared
    if verdict.ok and not inputs:
        return
    far = max(_far(*pair) for pair in zip(recorded.outputs, expected, strict=True))
    classes = [int(np.argmax(outputs[0])) for outputs in (recorded.outputs, expected)]
    about: dict[str, Any] = {"frame": number, "name": recorded.name, "outputs": verdict.mismatches, "inputs": inputs}
    about |= {"apart": far, "device": classes[0], "reference": classes[1], "picture": None}
    if len(agreement.differing) < KEPT:
        about["picture"] = str(_keep(recorded, folder / f"frame-{number:06}.png"))
    agreement.differing.append(about)


def _far(got: Array, want: Array) -> float:
    import numpy as np

    apart = np.abs(np.nan_to_num(got.astype(np.float64) - want.astype(np.float64)))
    return float(apart.max(initial=0.0))


def _keep(recorded: Recorded, path: Path) -> Path:
    """Without loss: what differs can be tried again from it."""
    import io

    from PIL import Image

    from sdk.files import deliver

    data = io.BytesIO()
    Image.fromarray(recorded.pixels).save(data, "PNG")
    deliver({path: data.getvalue()})
    return path


def _say(agreement: Agreement, args: argparse.Namespace, board: Board, console: Console) -> None:
    wrong, count = agreement.differing, agreement.frames
    console.say(f"{'DIFFERENT' if wrong else 'ok'}: {Path(args.model).name} on {board.id}")
    console.say(f"{count - len(wrong):,} of {count:,} frames are equal, {agreement.values:,} values of the outputs")
    if not wrong:
        return
    changed = sum(each["device"] != each["reference"] for each in wrong)
    console.say(f"the largest output is another one in {changed:,}")
    keys = ("frame", "name", "inputs", "outputs", "apart", "device", "reference")
    rows = [[str(each[key]) for key in keys] for each in wrong]
    columns = [">frame", "name", ">inputs differ", ">outputs differ", ">most apart", ">device", ">reference"]
    console.table(columns, rows)
    console.say(f"pictures: {Path(wrong[0]['picture']).parent}; `sdk verify --camera` takes that folder, too")
