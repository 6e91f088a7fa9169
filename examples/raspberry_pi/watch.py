"""Saves a picture whenever a person appears, or whatever LABEL is: watch.py MODEL LABEL FOLDER [SOURCE]

MODEL is a detector, whose boxes are drawn, or a classifier; its labels are those that it was given by `sdk convert`.
"""

import sys
from pathlib import Path

from sdk.camera import open_source, watch
from sdk.camera.actions import Only
from sdk.camera.sinks import Jpegs

model, wanted, folder, *rest = sys.argv[1:]
pictures = Only(Jpegs(Path(folder)), [wanted])
with open_source(rest[0] if rest else "picamera2") as source, watch(model, source, debounce=2) as results:
    for result in results:
        pictures.take(result)
        if result.changed:
            print(f"{result.number}: {', '.join(result.labels) or 'nothing'}", flush=True)
