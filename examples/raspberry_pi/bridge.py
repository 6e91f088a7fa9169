"""Lets a microcontroller look through this computer's camera, and watches it: bridge.py BOARD PORT SOURCE [MODEL]

The microcontroller runs the model that `sdk flash` has put there. This computer, a Raspberry Pi for one, prepares the
frames and prints what it answers, as lines of JSON. MODEL is the file that was flashed, for what it declares of its
input and its labels. A board that goes is told, and waited for. It needs the whole SDK.
"""

import json
import sys
import time
from pathlib import Path

from sdk.boards import load_board
from sdk.camera import open_source
from sdk.camera.prepare import Preparation
from sdk.errors import LinkError
from sdk.link import connect
from sdk.preprocess import Preprocessing, declaration
from sdk.runtime import Tensor

board_id, port, source_name, *model = sys.argv[1:]
declared = declaration(Path(model[0])) if model else Preprocessing()
labels = dict(enumerate(declared.labels))


def say(**line):
    """Prints a line of JSON."""
    print(json.dumps(line), flush=True)


def watch(device, source):
    """Shows all frames to the board."""
    device.open_resident()
    inputs, outputs = (
        [Tensor(each.name, each.shape, each.dtype.numpy, each.scale, each.zero_point) for each in side]
        for side in (device.inputs, device.outputs)
    )
    preparation = Preparation(declared.picture, inputs, outputs)
    while (frame := source.read()) is not None:
        start = time.monotonic()
        scores = outputs[0].real(device.run([preparation.stored(frame.pixels)])[0]).reshape(-1)
        best, ms = int(scores.argmax()), round(1000 * (time.monotonic() - start))
        say(name=frame.name, label=labels.get(best, best), score=round(float(scores[best]), 3), ms=ms)


with open_source(source_name) as source:
    while True:
        try:
            with connect(load_board(board_id), port=None if port == "-" else port) as device:
                watch(device, source)
                break
        except LinkError as error:
            say(lost=error.message)
            time.sleep(1)
