"""A network small enough that a program can be run on it dozens of times: 8x8 images, 4 long skips."""

from pathlib import Path
from typing import Any

from conftest import fill

from training.checkpoint import save_network
from training.precond import EDMPrecond, Precond


def tiny_network(
    label_dim: int = 10,
    channels: int = 1,
    kind: type[Precond] = EDMPrecond,
    resolution: int = 8,
    **settings: Any,
) -> Precond:
    """A DDPM++ of deterministic weights; from 5 steps on half of its pixels are neither black nor white."""
    layout: dict[str, Any] = {
        "model_channels": 16,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [],
    }
    net = kind(
        img_resolution=resolution, img_channels=channels, label_dim=label_dim, model_type="SongUNet",
        **layout | settings,
    )  # fmt: skip
    fill(net)
    return net.eval().requires_grad_(False)


def saved(folder: Path, name: str = "tiny", **settings: Any) -> str:
    """The path of a `tiny_network` in the folder."""
    path = folder / f"{name}.safetensors"
    save_network(tiny_network(**settings), path)
    return str(path)
