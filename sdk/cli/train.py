"""sdk train"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.cli.arguments import add_json, complete_files, positive
from sdk.cli.console import Console
from sdk.cli.convert import as_json, exit_code, floats, say_cost, share

if TYPE_CHECKING:
    from sdk.convert.training import Trained

SUMMARY = "teach a small network your own classes, from a folder of pictures for each"
DETAILS = """It learns on a MobileNet that has seen many pictures before (--weights), is quantized to int8, and \
measured before and after on pictures that it has never seen. The classes' names and the preprocessing are kept in the \
model. TensorFlow is fetched into an environment of its own on first use: docs/convert.md.
--json prints classes, trained, held_out, guessing, parameters, history (loss, accuracy, held_out of each epoch), and \
what `sdk convert --json` prints."""
EXAMPLES = (
    "sdk train --images photos/ -o model.tflite              # photos/cat/*.jpg, photos/dog/*.jpg, ...",
    "sdk train --images photos/ -o model.tflite --weights mobilenet_v2_weights_0.35_96_no_top.h5 --fine-tune 10",
    "sdk train --images digits/ -o model.tflite --weights none --size 32 --gray --epochs 30",
    "sdk verify model.tflite --board mps2-an386 --dataset photos/   # then, on a board",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="a folder with a subfolder a class")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FILE", help="the .tflite file to write")
    _add_network(parser)
    _add_training(parser)
    add_json(parser)


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the network")
    action = group.add_argument(
        "--weights",
        default="imagenet",
        metavar="W",
        help="a .h5 or .keras file: a whole network, or the weights of this one; imagenet (the default: Keras fetches "
        "them once); or none, to train from scratch",
    )
    complete_files(action, "h5", "keras")
    group.add_argument(
        "--backbone", choices=("mobilenet_v1", "mobilenet_v2"), default="mobilenet_v2", help="default: mobilenet_v2"
    )
    group.add_argument("--alpha", type=float, metavar="A", help="its width (default: 0.35, of mobilenet_v1 0.25)")
    group.add_argument("--size", type=positive, default=96, metavar="PIXELS", help="of its pictures (default: 96)")
    group.add_argument("--gray", action="store_true", help="pictures without colour")
    group.add_argument(
        "--fit", choices=("crop", "stretch", "pad"), default="crop", help="pictures of another shape (default: crop)"
    )
    group.add_argument("--mean", type=floats, default=(127.5,), metavar="M", help="of pixels 0..255 (default: 127.5)")
    group.add_argument("--std", type=floats, default=(127.5,), metavar="S", help="real = (pixel - mean) / std")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive, metavar="N", help="times that every picture is shown")
    group.add_argument(
        "--fine-tune", type=positive, default=0, metavar="N", help="epochs of the whole pretrained network after that"
    )
    group.add_argument("--held-out", type=share, default=0.2, metavar="PERCENT", help="kept to measure (default: 20%%)")
    group.add_argument("--seed", type=int, default=1, metavar="S", help="of what is held out and of training")


def run(args: argparse.Namespace, console: Console) -> int:
    from dataclasses import fields

    from sdk.convert.training import Settings, train

    settings = {each.name: getattr(args, each.name) for each in fields(Settings)}
    made = train(args.images, args.output, progress=console.progress, note=console.note, **settings)
    _say(made, args.output, console)
    about = {name: getattr(made, name) for name in ("trained", "held_out", "guessing", "parameters")}
    history = list(map(dict, made.history))
    console.result({"classes": list(made.classes), **about, "history": history, **as_json(made.converted)})
    return exit_code(made.converted, args.output, console)


def _say(made: Trained, output: Path, console: Console) -> None:
    converted, scored = made.converted, made.converted.accuracy
    assert scored is not None
    console.say(f"{output}: {len(converted.model):,} bytes, {len(made.classes)} classes: {', '.join(made.classes)}")
    console.say(f"{made.parameters:,} parameters, trained with {made.trained:,} pictures; {made.held_out:,} held out")
    console.say(
        f"accuracy on what was held out: {scored.before:.2%} in float32, {scored.after:.2%} in int8; always saying the "
        f"most frequent class: {made.guessing:.2%}"
    )
    say_cost(converted, console)
