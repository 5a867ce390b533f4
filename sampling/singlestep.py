"""DPM-Solver and DPM-Solver++, the singlestep kind: nothing is remembered from one step to the next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from sampling.denoiser import Denoiser, Thresholded
from sampling.multistep import Step, positive_steps
from sampling.names import Prediction
from sampling.sigmas import checked
from sampling.solver import Solver


@dataclass(frozen=True)
class SinglestepSettings:
    """The settings of `dpm_singlestep`, which explains them."""

    order: int = 3
    predict: Prediction = "x0"
    thresholding: bool = False


def dpm_singlestep(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = SinglestepSettings.order,
    predict: Prediction = SinglestepSettings.predict,
    thresholding: bool = SinglestepSettings.thresholding,
) -> Tensor:
    r"""Singlestep DPM-Solver: steps over one, two or three noise levels, with the levels inside as stages.

    x_t = e^z x_s + (1 - e^z) D_s + c / r (D_u - D_s),  z = -h = lambda_s - lambda_t,  lambda = -log sigma,

    u the last stage before t, r = (lambda_u - lambda_s) / h. c is the integral 1 - (e^z - 1) / z in a step of order
    3 and on the way to its second stage, but, as published, (1 - e^z) / 2 in a step of order 2. Noise prediction has
    z = h, (x - D) / sigma for D, x for e^z x, and all the rest times sigma_t.

    Each level is evaluated once. Steps take three of the P levels each; the official rule for the rest: P = 3k ends
    in a step of order 2 and one of order 1, 3k + 1 in one of order 1, 3k + 2 in one of order 2. It is U-ViT's
    sampler, there on the grid `timesteps`: for 50 evaluations 51 levels, and the ending `sigma_min`.

    Reference: Lu et al., 2022, Alg. 1 and 2, https://arxiv.org/abs/2206.00927; x0:
    https://arxiv.org/abs/2211.01095; the rule, and stages on the levels of any grid: `method="fast"` of the authors'
    code as U-ViT has it, https://github.com/baofff/U-ViT

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        order: of the steps, 1, 2 or 3: how many levels each takes.
        predict: interpolate the denoised image (`x0`, DPM-Solver++) or the noise (`noise`, DPM-Solver).
        thresholding: clip each D to the 99.5% quantile of its image where that is above 1, and divide by it.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or an order out of range, or an unknown prediction.
    """
    levels = checked(sigmas)
    orders = singlestep_orders(positive_steps(levels), order)
    if predict not in get_args(Prediction):
        raise ValueError(f"unknown dpm_singlestep prediction {predict!r}: choose from x0, noise")
    if thresholding:
        denoise = Thresholded(denoise)

    sigmas, i = sigmas.to(x), 0
    for taken in orders:
        values: list[Tensor] = []
        x_stage = x
        for stage in _stages(levels[i : i + taken + 1], predict):
            D = denoise(x_stage, sigmas[i])
            values = [D if predict == "x0" else (x_stage - D) / levels[i], *values]
            x_stage, i = stage(x, values), i + 1
        x = x_stage
    return denoise(x, sigmas[-2]) if levels[-1] == 0 else x


DPM_SINGLESTEP = Solver(dpm_singlestep, SinglestepSettings, grid="logsnr")


def singlestep_orders(evaluations: int, order: int) -> list[int]:
    """How many noise levels each step takes; their sum is the number of evaluations.

    Args:
        evaluations: how many there are to spend.
        order: the highest, 1, 2 or 3.
    Raises:
        ValueError: if the order is another.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"dpm_singlestep has orders 1 to 3, got {order}")
    whole, rest = divmod(evaluations, order)
    if order == 3 and rest == 0 and whole > 0:
        return [3] * (whole - 1) + [2, 1]
    return [order] * whole + [rest] * (rest > 0)


def _stages(levels: Sequence[float], predict: Prediction) -> list[Step]:
    """How to reach each level but the first from there; the values stand at the levels before it, newest first."""
    start, *stages, end = levels
    if not stages:
        return [_first(start, end, predict)]
    if len(stages) == 1:
        return [_first(start, stages[0], predict), _second(start, stages[0], end, predict, True)]
    one, two = stages
    last = _second(start, two, end, predict)
    return [
        _first(start, one, predict),
        _second(start, one, two, predict),
        Step(last.keep, (last.weights[0], 0.0, last.weights[1])),
    ]


def _first(start: float, end: float, predict: Prediction) -> Step:
    if predict == "x0":
        return Step(end / start, (1 - end / start,))
    return Step(1.0, (end - start,))


def _second(
    start: float, stage: float, end: float, predict: Prediction, published: bool = False
) -> Step:
    """The step from `start`, its values at `stage` and at `start`."""
    h, r = math.log(start / end), math.log(start / stage) / math.log(start / end)
    z, scale = (-h, 1.0) if predict == "x0" else (h, end)
    slope = -math.expm1(z) / 2 if published else 1 - math.expm1(z) / z
    first = _first(start, end, predict)
    return Step(first.keep, (scale * slope / r, first.weights[0] - scale * slope / r))
