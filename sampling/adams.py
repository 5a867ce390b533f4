"""Adams-Bashforth solvers: the past derivatives dx/dsigma, extrapolated by a polynomial and integrated."""

import itertools
import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from sampling.denoiser import Denoiser
from sampling.lagrange import lagrange_weights, legendre
from sampling.multistep import Scheme, Step, multistep, positive_steps, step_orders
from sampling.names import DEISVariant as Variant
from sampling.solver import Solver
from sampling.time_axes import VPTime

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
class IPNDMvSettings:
    """The settings of `ipndm_v`, which explains them."""

    order: int = 4
    exact: bool = False


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


def ipndm_v(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = IPNDMvSettings.order,
    exact: bool = IPNDMvSettings.exact,
) -> Tensor:
    r"""iPNDM with variable steps: Adams-Bashforth whose weights know the steps of the grid.

    x_s = x_{s-1} + h_0 (d_0 + h_0 / 2 [d_0 d_1] + c_2 [d_0 d_1 d_2] + c_3 [d_0 d_1 d_2 d_3])

    with d_j = (x - D) / sigma at sigma_{s-1-j}, their divided differences in brackets, and the steps h_0 to sigma_s,
    h_1 to sigma_{s-1}, and so on. The integrals of the interpolating polynomial are

    c_2 = h_0^2 / 3 + h_0 h_1 / 2,  c_3 = h_0^3 / 4 + (2 h_1 + h_2) h_0^2 / 3 + h_1 (h_1 + h_2) h_0 / 2

    The published code has c_2 = h_1 (h_1 + h_2) / 2 - h_0^2 / 6, which is the same for equal steps only, a c_3 that
    is larger by h_0^3 / 6 + h_1 h_0^2 / 3, and in the oldest weight h_1 / h_2 for h_2 / h_3; so does `exact=False`.

    Reference: Zhou et al., 2024, ipndm_v of https://github.com/zju-pi/diff-sampler

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        order: 1 to 4, at most M.
        exact: take the integrals, which makes it DEIS in sigma (rhoab); they differ from order 3 on.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or an order out of range.
    """

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("ipndm_v", levels, order, 4, lower_order_final=False)
        steps = []
        for s in range(positive_steps(levels)):
            used = levels[s - orders[s] + 1 : s + 2]
            weights = deis_weights(used, "rhoab", exact=True) if exact else _published(used)
            steps.append(Step(1.0, weights))
        return Scheme(tuple(steps), derivative=True)

    return multistep(denoise, x, sigmas, scheme)


IPNDM_V = Solver(ipndm_v, IPNDMvSettings)


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
    d = (x - D) / sigma, L_j the Lagrange polynomials of the past nodes, tau = VP time (tab), sigma (rhoab) or
    log sigma (logrho; DEIS's rho is sigma)

    Reference: Zhang and Chen, 2022, https://arxiv.org/abs/2204.13902; logrho is what diffusers' DEIS integrates,
    https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_deis_multistep.py

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
    if variant not in get_args(Variant):
        raise ValueError(
            f"unknown DEIS variant {variant!r}: choose from {', '.join(get_args(Variant))}"
        )

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
    nodes = torch.tensor(levels[-2::-1], dtype=torch.float64)
    if variant == "logrho":
        # d sigma = e^tau d tau, which is smooth on this axis and steep on that of sigma.
        points, masses = legendre(math.log(start), math.log(end))
        return lagrange_weights(nodes.log(), points, masses * points.exp())

    points, masses = legendre(start, end)
    if variant == "tab":
        vp = VPTime.fitted(0.002, 80.0)
        nodes = vp.time(nodes)
        points = vp.time(points)
        if not exact:
            t_start, t_end = vp.time(torch.tensor([start, end], dtype=torch.float64)).tolist()
            points = torch.linspace(t_start, t_end, PUBLISHED_POINTS, dtype=torch.float64)
            masses = vp.slope(points) * (t_end - t_start) / PUBLISHED_POINTS
    return lagrange_weights(nodes, points, masses)


def _published(levels: list[float]) -> tuple[float, ...]:
    """Weights of the derivatives in ipndm_v's published code for the step to levels[-1], newest first."""
    order = len(levels) - 1
    h = [end - start for start, end in itertools.pairwise(levels)][::-1]  # the newest step first
    weights = [h[0], 0.0, 0.0, 0.0]

    def add(coefficient: float, difference: tuple[float, ...]) -> None:
        for j, factor in enumerate(difference):
            weights[j] += coefficient * factor

    # Each difference is a divided one, in units that make the newest derivative's factor 1.
    if order >= 2:
        add(h[0] ** 2 / (2 * h[1]), (1, -1))
    if order >= 3:
        ratio = h[1] / h[2]
        second = 1 / 2 - h[0] ** 2 / (6 * h[1] * (h[1] + h[2]))
        add(h[0] * second, (1, -1 - ratio, ratio))
    if order == 4:
        reach = h[1] * (h[1] + h[2])
        third = 5 / 12 * h[0] ** 3 + (h[1] + h[2] / 3) * h[0] ** 2 + reach * h[0] / 2
        third /= reach * (h[1] + h[2] + h[3])
        older = reach / (h[2] * (h[2] + h[3]))
        difference = (1, -1 - ratio - older, ratio + older * (1 + h[2] / h[3]), -older * ratio)
        add(h[0] * third, difference)
    return tuple(weights[:order])
