"""Noise level as a function of time: the axes along which diffusion processes are commonly written."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class TimeAxis(Protocol):
    """An increasing noise level sigma(t) with its slope and inverse, elementwise on float64 tensors."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level at time `t`."""
        ...

    def slope(self, t: Tensor) -> Tensor:
        """d sigma / dt at time `t` > 0."""
        ...

    def time(self, sigma: Tensor) -> Tensor:
        """The time at which the noise level is `sigma`."""
        ...


class LinearTime:
    """sigma(t) = t, EDM's choice: time is the noise level."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level at time `t`."""
        return t

    def slope(self, t: Tensor) -> Tensor:
        """d sigma / dt, which is 1."""
        return torch.ones_like(t)

    def time(self, sigma: Tensor) -> Tensor:
        """The time at which the noise level is `sigma`."""
        return sigma


class VETime:
    """sigma(t) = sqrt(t), the variance-exploding process: time is the variance."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level at time `t`."""
        return t.sqrt()

    def slope(self, t: Tensor) -> Tensor:
        """d sigma / dt at time `t` > 0."""
        return 0.5 / t.sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """The time at which the noise level is `sigma`."""
        return sigma**2


@dataclass(frozen=True)
class VPTime:
    """The variance-preserving process with a linear noise rate.

    sigma(t) = sqrt(exp(beta_d t ** 2 / 2 + beta_min t) - 1)

    Reference: Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364

    Args:
        beta_d, beta_min: slope and offset of the linear noise rate beta(t).
    """

    beta_d: float
    beta_min: float

    @classmethod
    def fitted(cls, sigma_min: float, sigma_max: float, epsilon_s: float = 1e-3) -> "VPTime":
        """The process with sigma(1) = sigma_max and sigma(epsilon_s) = sigma_min."""
        low, high = math.log1p(sigma_min**2), math.log1p(sigma_max**2)
        beta_d = 2 * (low / epsilon_s - high) / (epsilon_s - 1)
        return cls(beta_d, high - beta_d / 2)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level at time `t`."""
        return torch.expm1(self.beta_d * t**2 / 2 + self.beta_min * t).sqrt()

    def slope(self, t: Tensor) -> Tensor:
        """d sigma / dt at time `t` > 0."""
        sigma = self.sigma(t)
        return (self.beta_min + self.beta_d * t) * (sigma + 1 / sigma) / 2

    def time(self, sigma: Tensor) -> Tensor:
        """The time at which the noise level is `sigma` >= 0."""
        return (
            (self.beta_min**2 + 2 * self.beta_d * torch.log1p(sigma**2)).sqrt() - self.beta_min
        ) / self.beta_d
