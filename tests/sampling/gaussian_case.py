"""Gaussian data: the denoiser, the solution of the ODE and the noise behind an image in closed form."""

import torch
from torch import Tensor

MEAN = torch.tensor([0.5, -0.2, 0.1, 0.9], dtype=torch.float64).reshape(1, 4, 1, 1)
STD = torch.tensor([0.3, 0.8, 1.5, 0.05], dtype=torch.float64).reshape(1, 4, 1, 1)


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; sigma) = mean + (x - mean) s^2 / (s^2 + sigma^2) for data N(mean, s^2)."""
    return MEAN + (x - MEAN) * STD**2 / (STD**2 + sigma**2)


def solution(x: Tensor, start: float, end: float) -> Tensor:
    """The state at sigma = end of the ODE through x at sigma = start."""
    return MEAN + (x - MEAN) * ((STD**2 + end**2) / (STD**2 + start**2)).sqrt()


def state(sigma: float) -> Tensor:
    """Two states [2, 4, 1, 1] as they occur at a noise level."""
    noise = torch.tensor(
        [[1.0, -2.0, 0.5, 1.5], [-0.3, 0.8, 2.0, -1.1]], dtype=torch.float64
    ).reshape(2, 4, 1, 1)
    return MEAN + noise * (STD**2 + sigma**2).sqrt()
