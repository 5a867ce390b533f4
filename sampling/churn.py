"""Churn: noise put back before a step, which makes the deterministic solvers stochastic."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

MOST = 100.0  # of eta and tau: the steps forget all but the last denoised image


def churned(
    levels: list[float],
    S_churn: float,
    S_min: float = 0,
    S_max: float = math.inf,
    round_sigma: Callable[[Tensor], Tensor] | None = None,
) -> list[float]:
    r"""The noise level that each step starts from once noise was added.

    sigma_hat = sigma + gamma sigma,  gamma = min(S_churn / M, sqrt(2) - 1) if S_min <= sigma <= S_max, else 0

    Reference: Karras et al., 2022, Alg. 2, https://arxiv.org/abs/2206.00364

    Args:
        levels: M + 1 noise levels.
        S_churn: amount of noise over the whole run, >= 0; above 0 the levels must decrease.
        S_min, S_max: range of noise levels that receive noise.
        round_sigma: the levels a network was trained at, if it knows only some: `net.round_sigma`.
    Returns:
        M levels.
    Raises:
        ValueError: if S_churn is negative, or not 0 on increasing levels, or S_min is above S_max.
    """
    check_strength("S_churn", S_churn)
    check_window(S_min, S_max)
    if S_churn > 0 and levels[-1] > levels[0]:
        raise ValueError(f"S_churn must be 0 where the noise level increases, got {S_churn}")
    gamma = min(S_churn / (len(levels) - 1), math.sqrt(2) - 1)
    raised = [level + gamma * level if S_min <= level <= S_max else level for level in levels[:-1]]
    if round_sigma is None or S_churn == 0:
        return raised
    rounded = round_sigma(torch.tensor(raised, dtype=torch.float64)).tolist()
    return [max(level, hat) for level, hat in zip(levels, rounded, strict=False)]


def check_strength(name: str, value: float, most: float = math.inf) -> None:
    """Refuse an amount of noise that is none.

    Args:
        name: of the setting.
        value: of it; finite, from 0 to `most`.
        most: beyond it there is nothing but noise.
    Raises:
        ValueError: naming it.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be 0 or more, got {value}")
    if value > most:
        raise ValueError(f"{name} must be {most:g} or less, got {value:g}")


def check_window(S_min: float, S_max: float) -> None:
    """Refuse a range of noise levels without any.

    Raises:
        ValueError: naming both ends.
    """
    if not S_min <= S_max:
        raise ValueError(
            f"S_min is {S_min:g} and S_max {S_max:g}: no noise level would receive noise"
        )


def stir(
    x: Tensor,
    sigma: float,
    sigma_hat: float,
    S_noise: float,
    randn_like: Callable[[Tensor], Tensor],
) -> Tensor:
    r"""Raise the noise level from `sigma` to `sigma_hat`: x + sqrt(sigma_hat ** 2 - sigma ** 2) S_noise eps.

    Args:
        x: state at `sigma`.
        sigma, sigma_hat: noise levels, sigma <= sigma_hat.
        S_noise: standard deviation of eps.
        randn_like: draws eps; called even between equal levels: S_min and S_max then do not move draws.
    Returns:
        The state at `sigma_hat`.
    """
    return x + math.sqrt(sigma_hat**2 - sigma**2) * S_noise * randn_like(x)
