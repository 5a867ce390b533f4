"""One-step solvers of the probability-flow ODE."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.churn import churned, stir
from sampling.denoiser import Denoiser
from sampling.multistep import Scheme, Step, multistep, positive_steps
from sampling.sigmas import checked
from sampling.solver import Solver


def euler(denoise: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    r"""Euler's method, which is DDIM: order 1.

    x_s = x_{s-1} + (sigma_s - sigma_{s-1}) d,  d = (x_{s-1} - D) / sigma_{s-1}

    Reference: Song et al., 2021, https://arxiv.org/abs/2010.02502; Karras et al., 2022, Alg. 1 without its
    correction, https://arxiv.org/abs/2206.00364

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels out of range.
    """

    def scheme(levels: list[float]) -> Scheme:
        steps = (Step(1.0, (levels[s + 1] - levels[s],)) for s in range(positive_steps(levels)))
        return Scheme(tuple(steps), derivative=True)

    return multistep(denoise, x, sigmas, scheme)


@dataclass(frozen=True)
class HeunSettings:
    """The settings of `heun`, which explains them."""

    S_churn: float = 0
    S_min: float = 0
    S_max: float = math.inf
    S_noise: float = 1


def heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    S_churn: float = HeunSettings.S_churn,
    S_min: float = HeunSettings.S_min,
    S_max: float = HeunSettings.S_max,
    S_noise: float = HeunSettings.S_noise,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
    round_sigma: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""EDM's sampler: Heun's method (order 2), with noise added before each step where S_churn > 0.

    x_hat = x_{s-1} + sqrt(sigma_hat^2 - sigma_{s-1}^2) S_noise eps,  sigma_hat = (1 + gamma) sigma_{s-1}
    x' = x_hat + (sigma_s - sigma_hat) d_hat
    x_s = x_hat + (sigma_s - sigma_hat) (d_hat + d') / 2,  x' itself if sigma_s = 0

    Reference: Karras et al., 2022, Alg. 1 and 2, https://arxiv.org/abs/2206.00364

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or, without churn, increasing; the last may be 0.
        S_churn: noise added over the whole run: gamma = min(S_churn / M, sqrt(2) - 1); 0 for none.
        S_min, S_max: the noise levels that receive it; gamma is 0 for others.
        round_sigma: the nearest level that the network knows; None if it knows all.
        S_noise: standard deviation of the added noise eps; slightly above 1 makes up for lost detail.
        randn_like: the noise; called once in each step, even where gamma is 0, unless S_churn is 0.
    Returns:
        The state at sigmas[-1]; NFE = 2 M, or 2 M - 1 if the last level is 0.
    Raises:
        ValueError: for noise levels or churn out of range.
    """
    levels = checked(sigmas)
    raised = churned(levels, S_churn, S_min, S_max, round_sigma)
    sigmas, sigmas_hat = sigmas.to(x), torch.tensor(raised, dtype=torch.float64).to(x)
    for i, (level, hat, end) in enumerate(zip(levels, raised, levels[1:], strict=False)):
        if S_churn > 0:
            x = stir(x, level, hat, S_noise, randn_like)
        D = denoise(x, sigmas_hat[i])
        if end == 0:
            return D
        d = (x - D) / hat
        x_end = x + (end - hat) * d
        d_end = (x_end - denoise(x_end, sigmas[i + 1])) / end
        x = x + (end - hat) * (d + d_end) / 2
    return x


def dpm_2(denoise: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    r"""DPM-2, the midpoint rule with the middle in log sigma: order 2. DPM-Solver-2 written in sigma.

    x_m = x_{s-1} + (sigma_m - sigma_{s-1}) d,  sigma_m = sqrt(sigma_{s-1} sigma_s)
    x_s = x_{s-1} + (sigma_s - sigma_{s-1}) d_m,  Euler if sigma_s = 0

    Reference: Lu et al., 2022, Alg. 1, https://arxiv.org/abs/2206.00927

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
    Returns:
        The state at sigmas[-1]; NFE = 2 M, or 2 M - 1 if the last level is 0.
    Raises:
        ValueError: for noise levels out of range.
    """
    levels = checked(sigmas)
    middles = [math.sqrt(a * b) for a, b in itertools.pairwise(levels)]
    sigmas, sigmas_mid = sigmas.to(x), torch.tensor(middles, dtype=torch.float64).to(x)
    for i, (level, middle, end) in enumerate(zip(levels, middles, levels[1:], strict=False)):
        D = denoise(x, sigmas[i])
        if end == 0:
            return D
        x_mid = x + (middle - level) * (x - D) / level
        d_mid = (x_mid - denoise(x_mid, sigmas_mid[i])) / middle
        x = x + (end - level) * d_mid
    return x


EULER = Solver(euler)
HEUN = Solver(heun, HeunSettings, needs=("randn_like", "round_sigma"))
DPM_2 = Solver(dpm_2)
