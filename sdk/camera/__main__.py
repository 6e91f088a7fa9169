"""The camera loop as a program, on a board without the command `sdk`: python -m sdk.camera MODEL --source picamera2"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.errors import SdkError, UsageError

if TYPE_CHECKING:
    from sdk.camera.web import WebPage

INTERRUPTED = 130


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
    parser.add_argument("--jpegs", type=Path, metavar="DIR", help="write annotated pictures, the last 1000 stay")
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


def run(args: argparse.Namespace) -> None:
    """The loop, until the source ends."""
    from sdk.camera.detector import watch
    from sdk.camera.sinks import Jpegs, Lines, Sink
    from sdk.camera.sources import open_source

    sinks: list[Sink] = [Lines(sys.stdout, as_json=args.json, every=args.every)]
    if args.jpegs is not None:
        sinks.append(Jpegs(args.jpegs, every=args.every))
    labels = _labels(args.labels) if args.labels is not None else ()
    options = {name: getattr(args, name) for name in ("top", "threshold", "smoothing", "debounce", "engine", "threads")}
    with contextlib.ExitStack() as stack:
        if args.web is not None:
            page = stack.enter_context(_page(args.web))
            sinks.append(page)
            sys.stderr.write(f"live page: {page.url}\n")
        source = open_source(args.source)
        stack.callback(source.close)
        results = stack.enter_context(watch(args.model, source, labels=labels, **options))
        for result in itertools.islice(results, args.count):
            for sink in sinks:
                sink.take(result)


def _page(text: str) -> WebPage:
    from sdk.camera.web import WebPage

    address, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"'{text}' is no address and port", "Write it like 127.0.0.1:8080.")
    return WebPage(address, int(port))


def _labels(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels {path}: {error}", "Give a text file with one name a line.") from error


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sdk.camera", description="Shows a camera's frames to a model.")
    arguments(parser)
    try:
        run(parser.parse_args())
    except SdkError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
