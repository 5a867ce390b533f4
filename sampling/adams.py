"""Adams-Bashforth solvers: the past derivatives dx/dsigma, extrapolated by a polynomial and integrated."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sampling.denoiser import Denoiser
from sampling.multistep import Scheme, Step, multistep, positive_steps, step_orders
from sampling.solver import Solver
from sampling.time_axes import VPTime

Variant = Literal["tab", "rhoab"]

PUBLISHED_POINTS = 10_000  # evenly spaced in VP time over each step, both ends included
# Weights of Adams-Bashforth for equal steps, newest derivative first, by order.
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@dataclass(frozen=True)
class IPNDMSettings:
    """The settings of `ipndm`, which explains them."""

    order: int = 4


@dataclass(frozen=True)
class DEISSettings:
    """The settings of `deis`, which explains them."""

    order: int = 3
    variant: Variant = "tab"
    exact: bool = False


def ipndm(denoise: Denoiser, x: Tensor, sigmas: Tensor, order: int = IPNDMSettings.order) -> Tensor:
    r"""iPNDM: the Adams-Bashforth weights for equal steps, used on any grid; it converges with order 2.

    x_s = x_{s-1} + (sigma_s - sigma_{s-1}) sum_j w_j d_{s-1-j},  d = (x - D) / sigma

    Reference: Zhang and Chen, 2022, https://arxiv.org/abs/2204.13902

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        order: 1 to 4, at most M.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or an order out of range.
    """

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("ipndm", levels, order, 4, lower_order_final=False)
        return Scheme(
            tuple(
                Step(
                    1.0, tuple((levels[s + 1] - levels[s]) * w for w in ADAMS_BASHFORTH[orders[s]])
                )
                for s in range(positive_steps(levels))
            ),
            derivative=True,
        )

    return multistep(denoise, x, sigmas, scheme)


IPNDM = Solver(ipndm, IPNDMSettings)


def deis(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = DEISSettings.order,
    variant: Variant = DEISSettings.variant,
    exact: bool = DEISSettings.exact,
) -> Tensor:
    r"""DEIS: Adams-Bashforth with weights made for the grid.

    x_s = x_{s-1} + sum_j d_{s-1-j} integral of L_j(tau(sigma)) d sigma from sigma_{s-1} to sigma_s,
    d = (x - D) / sigma, L_j the Lagrange polynomials of the past nodes, tau = VP time (tab) or sigma (rhoab)

    Reference: Zhang and Chen, 2022, https://arxiv.org/abs/2204.13902

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        order: 1 to 4 derivatives used, at most M.
        variant: the axis of the polynomials. `tab`: the VP time of the range 0.002 to 80, whatever the grid.
        exact: take the integrals of `tab` to rounding; the published code sums 10,000 points, which leaves an
            error of up to 3e-5 of a weight, and so does False.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or an order out of range, or an unknown variant.
    """
    if variant not in ("tab", "rhoab"):
        raise ValueError(f"unknown DEIS variant {variant!r}: choose from tab, rhoab")

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("deis", levels, order, 4, lower_order_final=False)
        return Scheme(
            tuple(
                Step(1.0, deis_weights(levels[s - orders[s] + 1 : s + 2], variant, exact))
                for s in range(positive_steps(levels))
            ),
            derivative=True,
        )

    return multistep(denoise, x, sigmas, scheme)


DEIS = Solver(deis, DEISSettings)


def deis_weights(levels: list[float], variant: Variant, exact: bool) -> tuple[float, ...]:
    """Weights of the derivatives for the step to levels[-1], newest first.

    Args:
        levels: where the derivatives stand, oldest first, then the end of the step.
        variant, exact: see `deis`.
    Returns:
        len(levels) - 1 weights in units of sigma; exact, their sum is the length of the step.
    """
    if len(levels) == 2:
        return (levels[1] - levels[0],)

    start, end = levels[-2:]
    roots, masses = (torch.tensor(values) for values in _legendre())
    points, masses = (start + end) / 2 + (end - start) / 2 * roots, (end - start) / 2 * masses
    nodes = torch.tensor(levels[-2::-1], dtype=torch.float64)

    if variant == "tab":
        vp = VPTime.fitted(0.002, 80.0)
        nodes = vp.time(nodes)
        points = vp.time(points)
        if not exact:
            t_start, t_end = vp.time(torch.tensor([start, end], dtype=torch.float64)).tolist()
            points = torch.linspace(t_start, t_end, PUBLISHED_POINTS, dtype=torch.float64)
            masses = vp.slope(points) * (t_end - t_start) / PUBLISHED_POINTS

    weights = []
    for j, node in enumerate(nodes):
        others = torch.cat([nodes[:j], nodes[j + 1 :]])
        lagrange = ((points[:, None] - others) / (node - others)).prod(dim=1)  # (points,)
        weights.append(float((masses * lagrange).sum()))
    return tuple(weights)


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """The Gauss-Legendre rule on [-1, 1]; VP time is analytic in sigma, so 128 points reach rounding."""
    return np.polynomial.legendre.leggauss(128)
