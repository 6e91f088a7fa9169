"""The whole way, once: a digit classifier from its .tflite file to a verdict on an emulated Cortex-M4.

    python examples/digits/demo.py [--board ID] [--count N]

Lowers digits_int8.tflite, emits C arrays, builds the firmware, flashes it into the board, sends it real held-out digits
over the serial protocol, and compares every output with the oracle, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import sdk
from sdk.link.device import Measurement

MODEL = Path(__file__).parent / "digits_int8.tflite"
COLUMNS = 20


def main() -> int:
    """0 if every digit's output equals the oracle's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default="mps2-an386", help="board to run on (default: an emulated Cortex-M4)")
    parser.add_argument("--count", type=int, default=100, help="how many held-out digits, at most 400")
    arguments = parser.parse_args()
    try:
        return demo(sdk.load_board(arguments.board), arguments.count)
    except sdk.SdkError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def demo(board: sdk.Board, count: int) -> int:
    """Lowers, builds, flashes, runs and reports."""
    say("digits", f"{count} that the model has never seen, from scikit-learn")
    import data  # scikit-learn takes seconds to load: the reader sees why

    images, labels = data.held_out(count)
    lowered = sdk.lower(sdk.load(MODEL), sdk.Target(profile=board.profile))
    say("lower", f"{MODEL.name}: {len(lowered.steps)} steps, {lowered.macs:,} multiply-accumulates")
    arena, bound = lowered.program.arena_bytes, lowered.plan.lower_bound_bytes
    say("", f"arena {arena:,} bytes (no plan can be below {bound:,}), program {len(lowered.block):,} bytes")
    image = sdk.build(board, sdk.emit(lowered), progress=progress)
    say("build", f"{image.flash_bytes:,} bytes of flash for {board.name}")
    with sdk.Device(sdk.flash(board, image, progress=progress), board_id=board.id) as device:
        device.open_resident()
        say("flash", "the board answers")
        outputs = run(device, images)
        cost = device.measure([images[:1]])
    with sdk.Oracle(MODEL.read_bytes()) as oracle:
        wanted = np.stack([oracle.run([image[np.newaxis]]).outputs[0][0] for image in images])
    equal = (outputs == wanted).all(axis=1)
    report(board, image, lowered, cost, outputs.argmax(axis=1), labels, equal)
    return 0 if equal.all() else 11


def run(device: sdk.Device, images: np.ndarray) -> np.ndarray:
    """The outputs, int8 [n, 10], of the device for int8 [n, 8, 8, 1]."""
    outputs = []
    for number, image in enumerate(images, 1):
        outputs.append(device.run([image[np.newaxis]])[0][0])
        progress(f"digit {number} of {len(images)}")
    return np.stack(outputs)


def report(
    board: sdk.Board,
    image: sdk.Image,
    lowered: sdk.Lowered,
    cost: Measurement,
    predicted: np.ndarray,
    labels: np.ndarray,
    equal: np.ndarray,
) -> None:
    """Prints what came out, and what to type next."""
    progress("")
    print("\nWhat the board read; a wrong one is followed by what was written:\n")
    cells = [f"{p}" if p == y else f"{p}({y})" for p, y in zip(predicted, labels, strict=True)]
    for i in range(0, len(cells), COLUMNS):
        print("  " + " ".join(f"{cell:<4}" for cell in cells[i : i + COLUMNS]).rstrip())
    right = int((predicted == labels).sum())
    rows = [
        ("right", f"{right} of {len(labels)} held-out digits"),
        ("equal to the oracle", f"{int(equal.sum())} of {len(labels)}, bit for bit"),
    ]
    if board.counter.unit == "instructions":
        instructions = board.counter.units(cost.invoke_ticks)
        rows.append(("instructions", f"{instructions:,} an inference, {instructions / lowered.macs:.2f} a MAC"))
    parts = ", ".join(f"{name} {size:,}" for name, size in image.flash.items())
    rows += [
        ("arena", f"{lowered.program.arena_bytes:,} bytes"),
        ("stack", f"{cost.stack_bytes:,} bytes at most, of {board.stack_bytes:,} reserved"),
        ("flash", f"{image.flash_bytes:,} bytes: {parts}"),
    ]
    print()
    for name, text in rows:
        print(f"  {name:<20} {text}")
    print(f"""
Next, with a model of your own:

  .venv/bin/sdk inspect model.tflite                     what it needs, and which boards it fits
  .venv/bin/sdk boards                                   the boards there are
  .venv/bin/sdk verify model.tflite --board {board.id}   flash it, and compare it with the oracle

On a board of yours, connected (none has been tried yet):

  .venv/bin/sdk flash model.tflite --board esp32         or pico, nucleo-f446re, nrf52840-dk, rpi5, ...
""")


def say(what: str, text: str) -> None:
    """One line of the story; clears the progress line."""
    progress("")
    print(f"  {what:<7} {text}", flush=True)


def progress(text: str) -> None:
    """Shows `text` in the place of the last one, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
