"""One file an operator. `registry()` is made of what the files' `OPS` lists hold; nothing else lists operators.

A user's own operators live in a folder of their own (docs/custom-operators.md): `add_folder`, `sdk --ops DIR`, or the
environment variable MICROLITH_OPS.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType

from sdk.errors import UsageError
from sdk.ops.base import CUSTOM_KERNELS, Registry

_folders: list[Path] = []


@cache
def registry() -> Registry:
    """The operators that the SDK ships, and those of the user's folders."""
    from sdk.variants import all_variants  # they name the operators' kernels

    known = Registry()
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        known = known.extended(getattr(importlib.import_module(f"sdk.ops.{module}"), "OPS", []))
    known = known.extended([], [kernel for variant in all_variants() for kernel in variant.kernels])
    named = [Path(part) for part in os.environ.get("MICROLITH_OPS", "").split(os.pathsep) if part]
    for folder in dict.fromkeys([*named, *_folders]):
        known = _with_folder(known, folder)
    return known


def add_folder(folder: Path) -> None:
    """Adds the operators of `folder`'s Python files. UsageError, naming the file, where they are not sound."""
    _folders.append(folder.resolve())
    registry.cache_clear()
    registry()


def _with_folder(known: Registry, folder: Path) -> Registry:
    files = sorted(folder.glob("*.py"))
    if not files:
        what = "holds no Python files" if folder.is_dir() else "is not there"
        raise UsageError(f"the folder of operators {folder} {what}", "See docs/custom-operators.md.")
    for file in files:
        known = _with_file(known, file)
    return known


def _with_file(known: Registry, file: Path) -> Registry:
    try:
        ops = getattr(_module(file), "OPS", [])
        for kernel in (kernel for op in ops for kernel in op.kernels):
            if known.kernels.get(kernel.name) == kernel:
                continue
            if kernel.number < CUSTOM_KERNELS:
                raise ValueError(f"kernel {kernel.name} has the number {kernel.number}, below {CUSTOM_KERNELS:#x}")
            if not Path(kernel.source).is_file():
                raise ValueError(f"kernel {kernel.name} has no C file {kernel.source}")
        return known.extended(ops)
    except Exception as error:  # a user's file can raise anything
        raise UsageError(f"the operators in {file} cannot be used: {error}", "See docs/custom-operators.md.") from error


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"microlith_ops_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
