"""The camera loop as a program, on a board without the command `sdk`: python -m sdk.camera MODEL --source picamera2"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.camera.sinks import Sink
    from sdk.camera.web import WebPage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sdk camera`, too."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a .tflite file, or a .mlith file")
    parser.add_argument(
        "--source",
        "-s",
        default="picamera2",
        metavar="S",
        help="picamera2 (the default), a V4L2 camera (/dev/video0), an image, a folder of images, a video file",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to tell (default: 3)")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="T", help="what counts (default: 0.5)")
    parser.add_argument("--smoothing", type=float, default=0.0, metavar="S", help="share of older scores (default: 0)")
    parser.add_argument("--debounce", type=int, default=1, metavar="N", help="frames until a label holds (default: 1)")
    parser.add_argument("--engine", metavar="E", help="litert, tflite or microlith (default: the first that is there)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the engine (default: 1)")
    parser.add_argument(
        "--web",
        nargs="?",
        const="127.0.0.1:8080",
        metavar="ADDRESS:PORT",
        help="a live page (default: 127.0.0.1:8080); an address of the network, as 0.0.0.0:8080, gets a token",
    )
    parser.add_argument("--every", action="store_true", help="tell every frame, not only changes")
    parser.add_argument("--count", "-n", type=int, metavar="N", help="end after N frames")
    parser.add_argument("--json", action="store_true", help="print one JSON object a frame")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write all frames, annotated, to an .avi file")
    seen = parser.add_argument_group("when something new is seen")
    seen.add_argument("--on", action="append", metavar="LABEL", help="what counts as something (default: any label)")
    seen.add_argument("--save", type=Path, metavar="DIR", help="write an annotated picture; the last 1000 stay")
    seen.add_argument("--gpio", metavar="PIN", help="set a pin high, as long as it is seen (17, GPIO17, BOARD11)")
    seen.add_argument("--serial", metavar="PORT", help="send a line with label and score, at 115200 baud")
    seen.add_argument("--run", metavar="CMD", help="run a command, with $MICROLITH_LABEL and $MICROLITH_SCORE")


def run(args: argparse.Namespace) -> None:
    """The loop, until the source ends."""
    from sdk.camera.detector import watch
    from sdk.camera.sources import open_source

    if args.count is not None and args.count < 1:
        raise UsageError(f"--count is {args.count}", "Give a number of frames from 1 on.")
    labels = _labels(args.labels) if args.labels is not None else ()
    options = {name: getattr(args, name) for name in ("top", "threshold", "smoothing", "debounce", "engine", "threads")}
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(sink) for sink in _sinks(args)]
        source = open_source(args.source)
        stack.callback(source.close)
        results = stack.enter_context(watch(args.model, source, labels=labels, **options))
        for wanted in args.on or ():
            if results.labels and wanted not in results.labels:
                raise UsageError(f"the model has no label '{wanted}'", f"It has {', '.join(results.labels[:20])}.")
        for result in itertools.islice(results, args.count):
            for sink in sinks:
                sink.take(result)


def _sinks(args: argparse.Namespace) -> Iterator[Sink]:
    """One after the other, each to be closed."""
    from sdk.camera import actions
    from sdk.camera.sinks import Jpegs, Lines
    from sdk.camera.video import Video

    yield Lines(sys.stdout, as_json=args.json, every=args.every)
    made: dict[str, Callable[[], Sink]] = {
        "save": lambda: Jpegs(args.save, every=args.every),
        "gpio": lambda: actions.Pin(args.gpio),
        "serial": lambda: actions.SerialLine(args.serial),
        "run": lambda: actions.Command(args.run),
    }
    given = [name for name in made if getattr(args, name) is not None]
    if args.on and not given:
        raise UsageError("--on says nothing without something to do", "Add --save, --gpio, --serial or --run.")
    for name in given:
        yield actions.Only(made[name](), args.on) if args.on else made[name]()
    if args.video is not None:
        yield Video(args.video)
    if args.web is not None:
        page = _page(args.web)
        sys.stderr.write(f"live page: {page.url}\n")
        yield page


def _page(text: str) -> WebPage:
    from sdk.camera.web import WebPage

    address, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"'{text}' is no address and port", "Write it like 127.0.0.1:8080.")
    return WebPage(address.removeprefix("[").removesuffix("]"), int(port))  # [::1]


def _labels(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels {path}: {error}", "Give a text file with one name a line.") from error


def main() -> int:
    """See the module's text."""
    from sdk.runtime.program import call

    parser = argparse.ArgumentParser(prog="python -m sdk.camera", description="Shows a camera's frames to a model.")
    arguments(parser)
    args = parser.parse_args()
    return call(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
