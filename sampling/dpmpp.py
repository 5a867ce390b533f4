"""DPM-Solver++, the multistep kind."""

import math
from dataclasses import dataclass

from torch import Tensor

from sampling.denoiser import Denoiser, Thresholded
from sampling.multistep import Scheme, Step, multistep, positive_steps, step_orders
from sampling.solver import Solver


@dataclass(frozen=True)
class DPMppSettings:
    """The settings of `dpmpp`, which explains them."""

    order: int = 2
    lower_order_final: bool = True
    thresholding: bool = False


def dpmpp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = DPMppSettings.order,
    lower_order_final: bool = DPMppSettings.lower_order_final,
    thresholding: bool = DPMppSettings.thresholding,
) -> Tensor:
    r"""DPM-Solver++ 1, 2M and 3M: exponential integrator in lambda = -log sigma with past denoised images.

    x_s = e^{-h} x_{s-1} + (1 - e^{-h}) D_0 + c_1 D' + c_2 D'',  h = lambda_s - lambda_{s-1}

    with D' and D'' the first and second divided differences of the past D, in units of h. As in the published
    code, 2M has c_1 = (1 - e^{-h}) / 2, and 3M has half of the c_2 that integrates D'' exactly, so that 3M
    converges with order 2, not 3. For a true third order use UniPC.

    Reference: Lu et al., 2022, Alg. 2, https://arxiv.org/abs/2211.01095

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        order: 1, 2 or 3, at most M.
        lower_order_final: lower the order in the last steps.
        thresholding: clip each D to the 99.5% quantile of its image where that is above 1, and divide by it.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or an order out of range.
    """

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("dpmpp", levels, order, 3, lower_order_final)
        return Scheme(
            tuple(dpmpp_step(levels[: s + 2], orders[s]) for s in range(positive_steps(levels)))
        )

    return multistep(Thresholded(denoise) if thresholding else denoise, x, sigmas, scheme)


DPMPP = Solver(dpmpp, DPMppSettings, grid="logsnr")


def dpmpp_step(levels: list[float], order: int, eta: float = 0.0) -> Step:
    """The step to levels[-1]; the remembered D stand at levels[-2], levels[-3], ...

    Args:
        levels: oldest first.
        order: 1, 2 or 3.
        eta: of the SDE that `dpmpp_m_sde` solves; 0 is the ODE.
    """
    # End, start, the one before, ...
    lam = [-math.log(level) for level in reversed(levels[-order - 1 :])]
    h = lam[0] - lam[1]
    g = (1 + eta) * h
    keep, gain = math.exp(-g), -math.expm1(-g)
    if order == 1:
        return Step(keep, (gain,))
    r0 = (lam[1] - lam[2]) / h
    if order == 2:
        return Step(keep, (gain * (1 + 1 / (2 * r0)), -gain / (2 * r0)))
    r1 = (lam[2] - lam[3]) / h
    # first = (D0 - D1) / r0, second = (D1 - D2) / r1, bend = (first - second) / (r0 + r1); the step adds
    # c1 * (first + r0 * bend) + c2 * bend.
    c1 = 1 - gain / g
    c2 = 1 / 2 - c1 / g
    bend = (c1 * r0 + c2) / (r0 + r1)
    first, second = c1 + bend, -bend
    return Step(keep, (gain + first / r0, second / r1 - first / r0, -second / r1))
