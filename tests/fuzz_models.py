"""Coverage-guided fuzzing of everything that reads a model: `make fuzz`, or

    python tests/fuzz_models.py [-runs=N] [-seed=N] [options of libFuzzer] [folder of inputs to keep]

An input is a model file. Whatever it holds, only SdkError may come of it, within 5 s and 1 GB. What is lowered is run
by the interpreter under AddressSanitizer and UndefinedBehaviorSanitizer. libFuzzer leaves an input that fails as
crash-*, timeout-* or oom-* in the current directory; `python tests/fuzz_models.py FILE` runs it again.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["sdk"]):
    from fuzzing import attempt, mutated, seeds

    from sdk.errors import SdkError
    from sdk.ops import registry

    registry()  # imports the operators
from sanitized import Runner, build_driver

LIMITS = ["-timeout=5", "-rss_limit_mb=1024", "-max_len=32768"]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Of eight inputs libFuzzer makes one, by the bytes; it also splices those that it keeps."""
    rng = random.Random(seed)
    if rng.randrange(8) == 0:
        return bytes(atheris.Mutate(data, max_size))
    return mutated(data, rng)[:max_size]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        driver = build_driver(Path(folder))
        corpus = Path(folder) / "seeds"
        corpus.mkdir()
        for data in seeds():
            (corpus / f"{zlib.crc32(data):08x}").write_bytes(data)
        with Runner(driver) if driver is not None else contextlib.nullcontext() as runner:

            def one_input(data: bytes) -> None:
                with contextlib.suppress(SdkError):
                    attempt(data, runner)

            replayed = any(Path(argument).is_file() for argument in sys.argv[1:])
            arguments = [*sys.argv[:1], *LIMITS, *sys.argv[1:], *([] if replayed else [str(corpus)])]
            atheris.Setup(arguments, one_input, custom_mutator=mutate)
            atheris.Fuzz()


if __name__ == "__main__":
    main()
