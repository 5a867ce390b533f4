"""Skip-Tuning (https://arxiv.org/abs/2402.15170, ICML 2024), and what the paper does with it.

`skip.apply(pipe.unet, skip.SkipScale(...))` tunes a diffusers U-Net, and `skip.tune_pipeline` finds the coefficients
that suit a pipeline. None needs diffusers; each is imported when it is first asked for, as torch takes seconds.
"""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skip.diffusers import apply
    from skip.diffusers.tune import tune_pipeline
    from skip.scale import SkipScale

_PLACES = {
    "SkipScale": "scale:SkipScale",
    "apply": "diffusers:apply",
    "tune_pipeline": "diffusers.tune:tune_pipeline",
}

__all__ = ["SkipScale", "apply", "tune_pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(f"{__name__}.{_PLACES[name]}")
