"""Fast variants of kernels, a file a profile or a family of kernels. What the files' `VARIANTS` lists hold is all there
is; nothing else lists them, and operators do not know them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from sdk.program import Profile
from sdk.variants.base import Variant


@cache
def all_variants() -> tuple[Variant, ...]:
    """Every variant, in the order of files and of their lists."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(variant for module in modules for variant in getattr(module, "VARIANTS", []))


@cache
def variants_for(profile: Profile) -> tuple[Variant, ...]:
    """The variants that run on `profile`, its own before those that it inherits."""
    return tuple(variant for each in profile.runs for variant in all_variants() if variant.profile is each)
