"""Says what a camera sees, when that changes: classify.py MODEL [SOURCE]"""

import sys

from sdk.camera import Classifier, open_source

model, source_name = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "picamera2"
with (
    open_source(source_name) as source,
    Classifier(model, source, smoothing=0.5, debounce=3, threads="measure") as results,
):
    for result in results:
        if result.changed:
            print(f"{result.label or 'nothing known'} ({result.score:.0%}, {result.latency_ms:.0f} ms)", flush=True)
