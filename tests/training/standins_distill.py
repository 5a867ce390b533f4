"""What the tests of distillation share: Gaussian data, whose denoiser is known."""

from typing import Any

import torch
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


RUN: dict[str, Any] = {
    "duration": 96,
    "batch": 16,
    "lr": 1e-3,
    "lr_rampup": 0,
    "snap": 32,
    "tick": 32,
}
