"""Tiny checkpoints in the format of U-ViT's published ones."""

from pathlib import Path
from typing import Any

import torch
from conftest import fill

from training.families.uvit.network import UViT

TINY: dict[str, Any] = {
    "img_size": 8, "patch_size": 2, "in_chans": 4, "embed_dim": 64, "depth": 6, "num_heads": 1,
    "num_classes": 4, "conv": False,
}  # fmt: skip


def write_uvit(path: Path, **changes: Any) -> UViT:
    """Save the state_dict of a tiny U-ViT as its authors do: torch.save, names without a prefix."""
    net = fill(UViT(**(TINY | changes)))
    torch.save(net.state_dict(), path)
    return net.eval()  # type: ignore[return-value]
