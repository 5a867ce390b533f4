"""DPM-Solver++ for the diffusion SDE: with two calls a step, and multistep."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.ancestral import ancestral_step
from sampling.churn import MOST, check_strength
from sampling.denoiser import Denoiser
from sampling.dpmpp import dpmpp_step
from sampling.multistep import Scheme, multistep, positive_steps, step_orders
from sampling.sigmas import falling
from sampling.solver import Solver


@dataclass(frozen=True)
class SDESettings:
    """The settings of `dpmpp_sde`, which explains them."""

    eta: float = 1.0
    S_noise: float = 1.0


@dataclass(frozen=True)
class MultistepSDESettings:
    """The settings of `dpmpp_m_sde`, which explains them."""

    order: int = 2
    eta: float = 1.0
    S_noise: float = 1.0
    lower_order_final: bool = True


def dpmpp_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    eta: float = SDESettings.eta,
    S_noise: float = SDESettings.S_noise,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    r"""DPM++ SDE: ancestral steps with a stage in the middle, in log sigma.

    x_m = (down_m / sigma_{s-1}) x_{s-1} + (1 - down_m / sigma_{s-1}) D   + up_m S_noise eps_m,
    x_s = (down_s / sigma_{s-1}) x_{s-1} + (1 - down_s / sigma_{s-1}) D_m + up_s S_noise eps_s

    with sigma_m = sqrt(sigma_{s-1} sigma_s), D_m = D(x_m; sigma_m), and down and up of `ancestral_step`. Both noises
    are of one Brownian path in sigma, as in k-diffusion: eps_s goes on where eps_m ends.

    Reference: sample_dpmpp_sde of https://github.com/crowsonkb/k-diffusion, after Lu et al., 2022,
    https://arxiv.org/abs/2211.01095

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] decreasing noise levels, the last may be 0.
        eta: 0 is the ODE, with order 2; 1 an ancestral step.
        S_noise: standard deviation of the added noise.
        randn_like: the noise; called twice in each step to a positive level, unless eta is 0.
    Returns:
        The state at sigmas[-1]; NFE = 2 M, or 2 M - 1 if the last level is 0.
    Raises:
        ValueError: for noise levels or eta out of range.
    """
    levels = falling(sigmas, "dpmpp_sde")
    check_strength("eta", eta, MOST)
    middles = [math.sqrt(a * b) for a, b in itertools.pairwise(levels)]
    sigmas, sigmas_mid = sigmas.to(x), torch.tensor(middles, dtype=torch.float64).to(x)
    for i, (level, middle, end) in enumerate(zip(levels, middles, levels[1:], strict=False)):
        D = denoise(x, sigmas[i])
        if end == 0:
            return D

        down_mid, up_mid = ancestral_step(level, middle, eta)
        down, up = ancestral_step(level, end, eta)
        x_mid = torch.lerp(D, x, down_mid / level)
        if eta > 0:
            eps = randn_like(x)
            x_mid = x_mid + up_mid * S_noise * eps

        x = torch.lerp(denoise(x_mid, sigmas_mid[i]), x, down / level)
        if eta > 0:
            first, rest = math.sqrt(level - middle), math.sqrt(middle - end)
            eps = (first * eps + rest * randn_like(x)) / math.sqrt(level - end)
            x = x + up * S_noise * eps
    return x


DPMPP_SDE = Solver(dpmpp_sde, SDESettings, needs=("randn_like",), inverts=False)


def dpmpp_m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = MultistepSDESettings.order,
    eta: float = MultistepSDESettings.eta,
    S_noise: float = MultistepSDESettings.S_noise,
    lower_order_final: bool = MultistepSDESettings.lower_order_final,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    r"""DPM++ 2M SDE (order 2) and 3M SDE (order 3): multistep DPM-Solver++ with noise in every step.

    x_s = e^{-h eta} (sigma_s / sigma_{s-1}) x_{s-1} + (1 - e^{-g}) D_0 + c_1 D' + c_2 D''
        + sigma_s sqrt(1 - e^{-2 h eta}) S_noise eps,  h = lambda_s - lambda_{s-1},  g = (1 + eta) h

    D', D'', c_1 and c_2 are those of `dpmpp`, with g in place of h in the weights.

    Reference: Lu et al., 2022, Appendix D, https://arxiv.org/abs/2211.01095; eta and order 3: sample_dpmpp_2m_sde
    and sample_dpmpp_3m_sde of https://github.com/crowsonkb/k-diffusion

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] decreasing noise levels, the last may be 0.
        order: 1, 2 or 3, at most M.
        eta: 0 is the ODE and `dpmpp`, 1 the SDE.
        S_noise: standard deviation of the added noise.
        lower_order_final: lower the order in the last steps.
        randn_like: the noise; called once in each step to a positive level, unless eta is 0.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels, an order or eta out of range.
    """
    falling(sigmas, "dpmpp_m_sde")
    check_strength("eta", eta, MOST)

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("dpmpp_m_sde", levels, order, 3, lower_order_final)
        steps, noise = [], []
        for s in range(positive_steps(levels)):
            steps.append(dpmpp_step(levels[: s + 2], orders[s], eta))
            kept = (levels[s + 1] / levels[s]) ** (2 * eta)  # e^{-2 h eta}
            noise.append(levels[s + 1] * math.sqrt(1 - kept) * S_noise)
        return Scheme(tuple(steps), noise=tuple(noise) if eta > 0 else ())

    return multistep(denoise, x, sigmas, scheme, randn_like)


DPMPP_M_SDE = Solver(dpmpp_m_sde, MultistepSDESettings, needs=("randn_like",), inverts=False)
