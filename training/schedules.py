"""The noise schedules that published networks were trained with: VP and iDDPM.

Grids for samplers are in sampling/, which imports nothing of ours; what they share with these is written there as well.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LEVELS = 10_000  # of iDDPM's table, ten times as many as published; each takes a step in Python


@dataclass(frozen=True)
class VPSchedule:
    r"""Noise levels and times of the variance-preserving process.

    log(1 + sigma(t)^2) = beta_d t^2 / 2 + beta_min t,  0 <= t <= 1

    Reference: Song et al., 2021, Appendix B, https://arxiv.org/abs/2011.13456, as in Karras et al., 2022, Table 1

    Args:
        beta_d, beta_min: slope and offset of the rate at which noise is added.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1

    def log_gain(self, t: Tensor) -> Tensor:
        """log(1 + sigma(t)^2)."""
        return 0.5 * self.beta_d * t**2 + self.beta_min * t

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level at time t."""
        return self.log_gain(t).expm1().sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """Time at which the noise level is sigma."""
        gain = (sigma**2).log1p()
        # The root of beta_d t^2 / 2 + beta_min t = gain, in the form that keeps its digits near 0.
        return 2 * gain / ((self.beta_min**2 + 2 * self.beta_d * gain).sqrt() + self.beta_min)


def iddpm_levels(M: int = 1000, C_1: float = 0.001, C_2: float = 0.008) -> Tensor:
    r"""The table of the improved DDPM's cosine schedule: u_0 > .. > u_{M-1} > u_M = 0.

    u_{j-1} = sqrt((u_j^2 + 1) / max(abar_{j-1} / abar_j, C_1) - 1),  abar_j = sin^2(pi j / (2 M (C_2 + 1)))

    In float32, whose rounding the published tables carry.

    Reference: Nichol & Dhariwal, 2021, https://arxiv.org/abs/2102.09672, as in Karras et al., 2022, Table 1

    Args:
        M: number of levels, 1 to MAX_LEVELS.
        C_1, C_2: floor of the ratio and offset of the cosine.
    Returns:
        float32 [M + 1] on the CPU.
    Raises:
        ValueError: if M is out of range.
    """
    if not 1 <= M <= MAX_LEVELS:
        raise ValueError(f"M is {M}; it must be from 1 to {MAX_LEVELS}")

    with torch.device("cpu"):  # real numbers even where a network is built on the meta device
        alpha_bar = (0.5 * math.pi * torch.arange(M + 1) / M / (C_2 + 1)).sin() ** 2
        ratios = (alpha_bar[:-1] / alpha_bar[1:]).clip(min=C_1)

        rising = [torch.zeros(())]
        for ratio in reversed(ratios.unbind()):
            rising.append(((rising[-1] ** 2 + 1) / ratio - 1).sqrt())
        return torch.stack(rising[::-1])
