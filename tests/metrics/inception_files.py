"""Files of Inception-v3 with the made-up weights of the reference vectors."""

from pathlib import Path

import torch
from conftest import fill
from torch import Tensor

from metrics.inception import InceptionV3


def made_up_weights(gain: float = 1.0) -> dict[str, Tensor]:
    """By the rule of tests/golden/README.md; every entry of two or more dimensions is multiplied by `gain`."""
    state = fill(InceptionV3()).state_dict()
    return {name: value * gain if value.ndim >= 2 else value for name, value in state.items()}


def saved(tensors: object, path: Path) -> Path:
    torch.save(tensors, path)
    return path
