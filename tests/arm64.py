"""The runtime on 64-bit Arm: a Debian root of that architecture under qemu-aarch64-static, compared with this computer.

python tests/arm64.py [MODEL.tflite ...]      `make test-arm64` installs what it needs

On each model the C interpreter's integers, and those of LiteRT's reference kernels, must be equal bit for bit to what
the same engine gives here. The root is made once, in the cache.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import sdk
from sdk.cache import cache_dir
from sdk.runtime import Runtime
from sdk.shared_library import make_wheel

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
MODELS = [DIGITS / "digits_int8.tflite", DIGITS / "digits_float32.tflite"]
RELEASE = "bookworm"
# numpy as of the host half of the SDK; LiteRT's wheels name several platforms.
PACKAGES = ["ai-edge-litert==2.3.0", "numpy<2"]
PLATFORMS = ["manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]
# LiteRT asks /proc/cpuinfo what the core can do, and QEMU passes the host's on. `-cpu max` gives wrong int8 results.
CPU = "cortex-a72"
CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
START_LIMIT_S = 10.0  # of the emulated core's time
# Runs a model with an engine on the inputs of stdin; its outputs go to stdout.
CHILD = """
import io, json, sys, time
from sdk.runtime import Runtime
import numpy as np
model, engine, reference = sys.argv[1:]
inputs = dict(np.load(io.BytesIO(sys.stdin.buffer.read())))
with Runtime(model, engine=engine, reference=bool(int(reference))) as runtime:
    outputs = runtime.run(dict(zip(runtime.inputs, inputs.values())), raw=True)
    warm_s = time.process_time()
    ms = runtime.measure_ms(0.5)
print(json.dumps({"warm_s": warm_s, "ms": ms}), file=sys.stderr)
np.savez(sys.stdout.buffer, **{f"output_{i}": value for i, value in enumerate(outputs.values())})
"""


def make_root() -> Path:
    """A folder with Python for 64-bit Arm, made if it is not there."""
    folder = cache_dir("arm64")
    root = folder / "root"
    if not (folder / "ready").is_file():
        print(f"making an arm64 root in {root}: a few minutes")
        command = ["debootstrap", "--foreign", "--variant=minbase", "--arch=arm64", "--include=python3", RELEASE]
        subprocess.run([*command, str(root)], check=True, stdout=subprocess.DEVNULL)
        for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
        (root / "proc" / "cpuinfo").write_text(CPUINFO)
        install(folder / "site")
        (folder / "ready").touch()
    return folder


def install(site: Path) -> None:
    """numpy and LiteRT for 64-bit Arm."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "--only-binary=:all:"]
    platforms = [word for each in PLATFORMS for word in ("--platform", each)]
    subprocess.run([*command, *platforms, "--python-version", "311", *PACKAGES], check=True)


def run_there(
    folder: Path, runtime: Path, words: Sequence[str], data: bytes
) -> tuple[list[sdk.graph.Array], dict[str, float]]:
    """The outputs of CHILD in the root, and its times."""
    root = folder / "root"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{runtime}:{folder / 'site'}"}
    emulator = ["qemu-aarch64-static", "-cpu", CPU, "-L", str(root)]
    command = [*emulator, str(root / "usr/bin/python3.11"), "-c", CHILD, *words]
    done = subprocess.run(command, input=data, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed there:\n{done.stderr.decode(errors='replace')}")
    times = json.loads(done.stderr.decode().splitlines()[-1])
    return list(np.load(io.BytesIO(done.stdout)).values()), times


def compare(folder: Path, runtime: Path, model: Path, engine: str, reference: bool) -> bool:
    """Whether `engine` computes the same there and here; says what it found."""
    rng = np.random.default_rng(0)
    with Runtime(model, engine=engine, reference=reference) as own:
        inputs = {}
        for name, tensor in own.inputs.items():
            real = rng.random(tensor.shape)
            inputs[name] = tensor.stored(real)
        here = list(own.run(inputs, raw=True).values())
    data = io.BytesIO()
    np.savez(data, **{f"input_{i}": value for i, value in enumerate(inputs.values())})
    path = model
    if engine == "microlith":
        path = folder / f"{model.stem}.mlith"
        path.write_bytes(sdk.lower(sdk.load(model), sdk.Target()).block)
    there, times = run_there(folder, runtime, [str(path.absolute()), engine, str(int(reference))], data.getvalue())
    wrong = sum(int(np.count_nonzero(a != b)) for a, b in zip(here, there, strict=True))
    far = max(float(np.abs(a.astype(float) - b.astype(float)).max()) for a, b in zip(here, there, strict=True))
    exact = all(array.dtype.kind != "f" for array in here)
    right = (wrong == 0 if exact else far < 1e-5) and times["warm_s"] < START_LIMIT_S
    count = sum(array.size for array in here)
    name = f"{engine}{' (reference)' if reference else ''}"
    print(
        f"{'ok' if right else 'WRONG'}: {model.name} with {name}: {wrong} of {count} values differ, {far:.3g} at most; "
        f"imported and warm in {times['warm_s']:.1f} s of CPU time, {times['ms']:.2f} ms an inference (emulated)"
    )
    return right


def main() -> int:
    """See the module's text."""
    start = time.monotonic()
    folder = make_root()
    wheel = make_wheel(folder, ["aarch64"])
    site = folder / "runtime"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    models = [Path(word) for word in sys.argv[1:]] or MODELS
    ways = [("microlith", False), ("litert", True), ("litert", False)]
    results = [compare(folder, site, model, *way) for model in models for way in ways]
    print(f"{sum(results)} of {len(results)} right, {time.monotonic() - start:.0f} s")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
