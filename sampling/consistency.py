"""The sampler of consistency models: denoise, put noise back, denoise again."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.denoiser import Denoiser
from sampling.sigmas import falling
from sampling.solver import Solver


@dataclass(frozen=True)
class ConsistencySettings:
    """The setting of `consistency`, which explains it."""

    clip: bool = True


def consistency(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    clip: bool = ConsistencySettings.clip,
    boundary: float = 0.002,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    r"""Consistency sampling, one step or several: each step denoises, then returns to the next noise level.

    x_s = D(x_{s-1}; sigma_{s-1}) + sqrt(sigma_s^2 - e^2) z,  z ~ N(0, I);  without noise if sigma_s = 0

    D gives images of noise level e: for a consistency model its lowest level, 0.002; for other denoisers 0. The levels
    80, 0 are one-step sampling, of consistency models and of every other network that was distilled into one step.

    Reference: Song et al., 2023, Alg. 1, https://arxiv.org/abs/2303.01469

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] decreasing noise levels, the last may be 0; positive ones are e or more.
        clip: clamp each denoised image to [-1, 1], as the published sampler does.
        boundary: e.
        randn_like: the noise z; called once in each step to a positive level.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels out of range.
    """
    levels = falling(sigmas, "consistency sampling")
    lowest = min(level for level in levels if level > 0)
    if lowest < boundary * (1 - 1e-9):  # a grid's last level is sigma_min up to rounding
        raise ValueError(
            f"noise levels must be {boundary:g} or more, where the network's images are; got {lowest:g}"
        )

    sigmas = sigmas.to(x)
    for i, end in enumerate(levels[1:]):
        D = denoise(x, sigmas[i])
        if clip:
            D = D.clamp(-1, 1)
        x = D if end == 0 else D + math.sqrt(max(end**2 - boundary**2, 0)) * randn_like(x)
    return x


CONSISTENCY = Solver(
    consistency, ConsistencySettings, needs=("boundary", "randn_like"), inverts=False
)
