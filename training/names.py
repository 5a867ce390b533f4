"""What can be chosen of networks and their training: quick to import, as torch is not."""

from typing import Literal

from dnnlib.keywords import read_toml
from dnnlib.places import NETWORKS_TOML

# What in a decoder block sees the scaled skip: the block, or a part of it.
SkipTarget = Literal["full", "shortcut", "norm_input", "norm_output"]

# Of images, in consistency distillation -> MODULE:NAME, of a module of training/distillation.
DISTANCES = {"l2": "consistency:l2", "huber": "consistency:pseudo_huber"}


def networks() -> list[str]:
    """The networks that load by name.

    Raises:
        OSError, ValueError: see `dnnlib.keywords.read_toml`.
    """
    return list(read_toml(NETWORKS_TOML))
