"""One file an operator. `registry()` is made of what the files' `OPS` lists hold; nothing else lists operators."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from sdk.ops.base import Registry


@cache
def registry() -> Registry:
    """The operators that the SDK ships."""
    known = Registry()
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        ops = getattr(importlib.import_module(f"sdk.ops.{module}"), "OPS", [])
        known = known.extended(ops)
    return known
