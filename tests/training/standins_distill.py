"""What the tests of distillation share: Gaussian data, whose denoiser is known, and a data set of small images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

CPU = torch.device("cpu")


class Gaussian(nn.Module):
    """D(x; sigma) = x s^2 / (s^2 + sigma^2), the denoiser of N(0, s^2)."""

    label_dim, img_channels, img_resolution = 0, 1, 2
    sigma_min, sigma_max, sigma_data = 0.0, float("inf"), 0.5

    def __init__(self, std: float = 0.5) -> None:
        super().__init__()
        self.std = nn.Parameter(torch.tensor(std), requires_grad=False)

    def set_dtype(self, dtype: torch.dtype) -> "Gaussian":
        """Nothing: it computes in the dtype of x."""
        return self

    def forward(self, x: Tensor, sigma: Tensor | float, labels: Tensor | None = None) -> Tensor:
        """D(x; sigma)."""
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return x * self.std**2 / (self.std**2 + level**2)


def image_folder(tmp_path: Path) -> Path:
    """Forty 8x8 images of three classes, as `small_network.SMALL` draws them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i, image in enumerate(np.random.RandomState(0).randint(0, 256, [40, 8, 8], dtype=np.uint8)):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    labels = [[f"{i:02d}.png", i % 3] for i in range(40)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


RUN: dict[str, Any] = {
    "duration": 96,
    "batch": 16,
    "lr": 1e-3,
    "lr_rampup": 0,
    "snap": 32,
    "tick": 32,
}
