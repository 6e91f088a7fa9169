"""Saves a picture whenever a class appears, a person for one: watch.py MODEL CLASS FOLDER [SOURCE]"""

import sys
from pathlib import Path

from sdk.camera import Classifier, open_source
from sdk.camera.sinks import Jpegs

model, wanted, folder, *rest = sys.argv[1:]
pictures = Jpegs(Path(folder))
with open_source(rest[0] if rest else "picamera2") as source, Classifier(model, source, debounce=2) as results:
    for result in results:
        if result.changed and result.label == wanted:
            pictures.take(result)
            print(f"{wanted}: picture {result.number} saved", flush=True)
