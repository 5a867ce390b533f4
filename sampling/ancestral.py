"""Ancestral sampling: each step goes further down than it should, and noise makes up for it."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.churn import MOST, check_strength
from sampling.denoiser import Denoiser
from sampling.sigmas import falling
from sampling.solver import Solver


@dataclass(frozen=True)
class EulerASettings:
    """The settings of `euler_a`, which explains them."""

    eta: float = 1.0
    S_noise: float = 1.0


def euler_a(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    eta: float = EulerASettings.eta,
    S_noise: float = EulerASettings.S_noise,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    r"""Euler's method with ancestral steps, of the diffusion SDE for eta = 1: order 1.

    x_s = x_{s-1} + (sigma_down - sigma_{s-1}) d + sigma_up S_noise eps,  d = (x_{s-1} - D) / sigma_{s-1}

    sigma_down and sigma_up: see `ancestral_step`. In DDIM's words eta is its eta.

    Reference: Song et al., 2021 (DDIM), Eq. 16, https://arxiv.org/abs/2010.02502; in sigma, as Euler a:
    sample_euler_ancestral of https://github.com/crowsonkb/k-diffusion

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] decreasing noise levels, the last may be 0.
        eta: 0 is Euler's method, 1 an ancestral step.
        S_noise: standard deviation of the added noise eps.
        randn_like: the noise; called once in each step to a positive level, unless eta is 0.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or eta out of range.
    """
    levels = falling(sigmas, "euler_a")
    check_strength("eta", eta, MOST)
    sigmas = sigmas.to(x)
    for i, (level, end) in enumerate(itertools.pairwise(levels)):
        D = denoise(x, sigmas[i])
        if end == 0:
            return D

        down, up = ancestral_step(level, end, eta)
        x = x + (down - level) * (x - D) / level
        if eta > 0:
            x = x + up * S_noise * randn_like(x)
    return x


EULER_A = Solver(euler_a, EulerASettings, needs=("randn_like",), inverts=False)


def ancestral_step(start: float, end: float, eta: float) -> tuple[float, float]:
    r"""How far down to go from `start`, and how much noise to add there, to be at noise level `end`.

    sigma_up = min(end, eta end sqrt(1 - end^2 / start^2)),  sigma_down = sqrt(end^2 - sigma_up^2)

    Returns:
        sigma_down and sigma_up.
    """
    up = min(end, eta * end * math.sqrt(1 - (end / start) ** 2))
    return math.sqrt(end**2 - up**2), up
