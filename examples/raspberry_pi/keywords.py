"""Says which words it hears: keywords.py MODEL SOUND

MODEL declares its sound and its labels (sdk convert --rate or --features, and --labels). SOUND is a .wav file of 16-bit
mono at that rate, or the name of a microphone as `arecord -L` lists it (default, plughw:1).
"""

import subprocess
import sys
import wave
from collections import deque

import numpy as np

from sdk.runtime import Listener, Runtime

PIECE_S = 0.1
model_name, sound = sys.argv[1:]
model = Runtime(model_name)
listener = Listener(model)
rate = listener.sound.rate_hz
names = listener.labels or range(1000)


def pieces(samples):
    """int16 sound, `samples` at a time."""
    if sound.endswith(".wav"):
        with wave.open(sound) as file:
            while data := file.readframes(samples):
                yield np.frombuffer(data, "<i2")
        return
    record = ["arecord", "-q", "-D", sound, "-t", "raw", "-f", "S16_LE", "-r", str(rate), "-c", "1"]
    with subprocess.Popen(record, stdout=subprocess.PIPE) as process:
        while len(data := process.stdout.read(2 * samples)) == 2 * samples:
            yield np.frombuffer(data, "<i2")


recent, before = deque(maxlen=3), None
for number, piece in enumerate(pieces(int(PIECE_S * rate)), 1):
    window = deque(listener.hear(piece), maxlen=1)  # the newest
    if not window:
        continue
    ((name, stored),) = model.run(window[0], raw=True).items()
    recent.append(model.outputs[name].real(stored).reshape(-1))
    scores = np.mean(recent, axis=0)
    word = names[int(scores.argmax())]
    if word != before and scores.max() > 0.5:
        print(f"{number * PIECE_S:.1f} s: {word} {scores.max():.0%}", flush=True)
        before = word
