"""Skip-Tuning (https://arxiv.org/abs/2402.15170, ICML 2024) as a library; `skip-tuning --help` lists the programs.

    import skip_tuning

    skip_tuning.apply(pipe.unet, skip_tuning.SkipScale(bottom=0.8))        # a diffusers U-Net
    net = skip_tuning.load_network("demo")                                 # EDM's networks, and those of other families
    tuned = skip_tuning.SkipTuned(net, skip_tuning.SkipScale(bottom=0.8))

Each name is imported when it is first asked for: `apply` and `SkipScale` need torch alone.

Where this package is installed, the programs and folders of the repository lie in skip_tuning._app; in a checkout they
are beside this folder.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve().parent
_NAMES = {  # what this package gives -> where it is
    "EDMPipeline": "skip.diffusers.pipeline",  # needs diffusers
    "ImageSource": "skip.source",
    "SamplerSettings": "sampling.settings",
    "SkipScale": "skip.scale",
    "SkipTuned": "skip.tuned",
    "apply": "skip.diffusers",
    "generate": "sampling.generate",
    "load_network": "training.storage",
    "load_scale": "skip.scale_file",
    "load_skips": "skip.scale_file",
    "sample": "sampling.samplers",
    "save_network": "training.storage",
    "tune_pipeline": "skip.diffusers.tune",
}

__all__ = [*_NAMES, "part"]  # names of a literal table


def part(name: str) -> ModuleType:
    """A module of the repository, such as "metrics.frechet" or "fid".

    Args:
        name: as in the repository.
    """
    if (_HERE / "_app").is_dir():
        return importlib.import_module(f"{__name__}._app.{name}")
    checkout = str(_HERE.parent)
    if checkout not in sys.path:
        sys.path.append(checkout)
    return importlib.import_module(name)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(part(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
