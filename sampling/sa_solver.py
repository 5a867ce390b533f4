"""SA-Solver: stochastic Adams predictor and corrector."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.churn import MOST, check_strength, check_window
from sampling.denoiser import Denoiser
from sampling.lagrange import lagrange_weights, legendre
from sampling.multistep import Scheme, Step, multistep, positive_steps, step_orders
from sampling.sigmas import falling
from sampling.solver import Solver


@dataclass(frozen=True)
class SASettings:
    """The settings of `sa_solver`, which explains them."""

    order: int = 3
    corrector_order: int = 4
    tau: float = 1.0
    # The VP process, beta from 0.1 to 20, at times 0.2 and 0.8.
    S_min: float = 0.72
    S_max: float = 25.1
    exact: bool = False
    lower_order_final: bool = True


def sa_solver(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = SASettings.order,
    corrector_order: int = SASettings.corrector_order,
    tau: float = SASettings.tau,
    S_min: float = SASettings.S_min,
    S_max: float = SASettings.S_max,
    exact: bool = SASettings.exact,
    lower_order_final: bool = SASettings.lower_order_final,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    r"""SA-Solver in sigma, predicting the denoised image: Adams' methods for the SDE of variance tau^2.

    x_s = e^{-tau^2 h} (sigma_s / sigma_{s-1}) x_{s-1} + sum_j b_j D_j + sigma_s sqrt(1 - e^{-2 tau^2 h}) eps,
    b_j = integral of a e^{-a (h - u)} L_j(u) du from 0 to h,  a = 1 + tau^2,  h = lambda_s - lambda_{s-1}

    with N(0, I) draws eps, and L_j the Lagrange polynomials of the nodes in u = lambda - lambda_{s-1}, lambda =
    -log sigma. The predictor takes the last `order` of them, the corrector the new one and the last
    `corrector_order` - 1, with the same eps; the new value serves the next prediction too. tau is 0 in steps that end
    at noise levels outside [S_min, S_max].

    Of two nodes the published code has b_0 + b_1 = 1 - e^{-a h} as above, but takes a h^2 / 2 as the first moment of
    the integral, which it is but for O(h^3).

    Reference: Xue et al., 2023, Alg. 1, https://arxiv.org/abs/2309.05019; tau of the end of a step, orders, and tau's
    times: the authors' https://github.com/scxue/SA-Solver

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] decreasing noise levels, the last may be 0.
        order: of the predictor, 1 to 4, at most M.
        corrector_order: 1 to 4; 0 for no corrector.
        tau: strength of the noise: 0 is the ODE, 1 the SDE that reverses the diffusion.
        S_min, S_max: the noise levels that receive noise.
        exact: take the integrals for two nodes too.
        lower_order_final: lower the orders in the last steps.
        randn_like: eps; called once in each step to a positive level, even where tau is 0, unless it is so everywhere.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels, an order or tau out of range, or if S_min is above S_max.
    """
    falling(sigmas, "sa_solver")
    check_strength("tau", tau, MOST)
    check_window(S_min, S_max)
    if corrector_order not in range(5):
        raise ValueError(
            f"the corrector of sa_solver has orders 1 to 4, or 0 for none, got {corrector_order}"
        )

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("sa_solver", levels, order, 4, lower_order_final)
        M = len(levels) - 1
        predict, correct, noise = [], [], []
        for s in range(1, positive_steps(levels) + 1):
            end = levels[s]
            strength = tau**2 if S_min <= end <= S_max else 0.0
            kept = (end / levels[s - 1]) ** strength  # e^{-tau^2 h}
            noise.append(end * math.sqrt(1 - kept**2))

            past = levels[:s][::-1]
            predict.append(_step(past[: orders[s - 1]], past[0], end, strength, exact))
            c = min(corrector_order, s + 1, M + 2 - s if lower_order_final else corrector_order)
            correct.append(_step([end, *past][:c], past[0], end, strength, exact))
        return Scheme(
            tuple(predict),
            tuple(correct) if corrector_order > 0 else (),
            noise=tuple(noise) if tau > 0 else (),
        )

    return multistep(denoise, x, sigmas, scheme, randn_like)


# The grid is not its authors': on the uneven one of EDM few steps are unstable, as 10 on the demo network.
SA_SOLVER = Solver(sa_solver, SASettings, needs=("randn_like",), grid="logsnr", inverts=False)


def _step(used: list[float], start: float, end: float, strength: float, exact: bool) -> Step:
    """From `start` to `end` with values at the levels `used`, newest first; strength is tau^2."""
    a, h = 1 + strength, math.log(start / end)
    nodes = [math.log(start / level) for level in used]
    keep = (end / start) ** a
    if len(nodes) == 2 and not exact:
        older = (a * h**2 / 2 - (1 - keep) * nodes[0]) / (nodes[1] - nodes[0])
        return Step(keep, (1 - keep - older, older))

    # Before, the exponential is below rounding; with large tau it would fall between the points.
    points, masses = legendre(max(0.0, h - 40 / a), h)
    masses = masses * a * (-a * (h - points)).exp()
    return Step(keep, lagrange_weights(torch.tensor(nodes, dtype=torch.float64), points, masses))
