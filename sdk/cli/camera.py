"""sdk camera"""

from __future__ import annotations

import argparse

from sdk.cli.console import Console

SUMMARY = "show the frames of a camera, a folder or a video to a classifier or detector, on this computer"
DETAILS = """Prints what is seen when that changes. A model with the outputs of TFLite_Detection_PostProcess is a \
detector, and its boxes are told too. Live cameras are never waited for: the latest frame is computed, and \
those that came meanwhile are counted. On a board without the command sdk it is called python -m sdk.camera."""
EXAMPLES = (
    "sdk camera model.tflite --source /dev/video0 --labels labels.txt --smoothing 0.5 --debounce 3",
    "sdk camera model.tflite --source holiday.mp4 --json",
    "sdk camera model.tflite --source photos/ --every --save annotated/",
    "sdk camera detector.tflite --source 0 --on person --save people/ --run 'notify-send \"$MICROLITH_LABEL\"'",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    from sdk.camera.__main__ import arguments as of_the_loop

    of_the_loop(parser)


def run(args: argparse.Namespace, _console: Console) -> int:
    from sdk.camera.__main__ import run as loop

    loop(args)
    return 0
