"""Says which words it hears: keywords.py MODEL LABELS SOUND [FEATURES]

SOUND is a .wav file of 16-bit mono at 16 kHz, or the name of a microphone as `arecord -L` lists it (default, plughw:1).
LABELS is a list: silence,unknown,yes,no. MODEL takes sound, or what FEATURES, a model too, makes of 30 ms each 20 ms.
"""

import subprocess
import sys
import wave
from collections import deque

import numpy as np

from sdk.runtime import Runtime

RATE, WINDOW, STRIDE = 16000, 480, 320
model_name, labels, sound, *features_name = sys.argv[1:]
names = labels.split(",")


def chunks(samples):
    """int16 sound, `samples` at a time."""
    if sound.endswith(".wav"):
        with wave.open(sound) as file:
            while len(data := file.readframes(samples)) == 2 * samples:
                yield np.frombuffer(data, "<i2")
        return
    record = ["arecord", "-q", "-D", sound, "-t", "raw", "-f", "S16_LE", "-r", str(RATE), "-c", "1"]
    with subprocess.Popen(record, stdout=subprocess.PIPE) as process:
        while len(data := process.stdout.read(2 * samples)) == 2 * samples:
            yield np.frombuffer(data, "<i2")


model = Runtime(model_name)
features = Runtime(features_name[0], engine="microlith") if features_name else None  # others lack its operators
(tensor,) = model.inputs.values()
size = int(np.prod(tensor.shape))
stride = STRIDE if features else size // 4
heard, rows, recent, before = np.zeros(WINDOW, np.int16), deque(), deque(maxlen=3), None
for number, chunk in enumerate(chunks(stride)):
    heard = np.concatenate([heard, chunk])[-WINDOW:]
    row = next(iter(features.run(heard[None], raw=True).values())).reshape(-1) if features else chunk / 32768
    rows = deque(rows, maxlen=size // len(row))
    rows.append(row)
    if len(rows) < rows.maxlen or (features and (number + 1) % 5):
        continue
    inputs = {tensor.name: np.concatenate(rows).reshape(tensor.shape)}
    stored = inputs if features else {tensor.name: tensor.stored(inputs[tensor.name].astype(np.float32))}
    (output,) = model.outputs.values()
    recent.append(output.real(model.run(stored, raw=True)[output.name]).reshape(-1))
    scores = np.mean(recent, axis=0)
    word = names[int(scores.argmax())]
    if word != before and scores.max() > 0.5:
        print(f"{number * stride / RATE:.1f} s: {word} {scores.max():.0%}", flush=True)
        before = word
