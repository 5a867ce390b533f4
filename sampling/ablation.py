"""EDM's ablation space: the same ODE along other time axes, in other scalings, with other 2nd-order steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.churn import churned, stir
from sampling.denoiser import Denoiser
from sampling.names import Rule, Scaling, Schedule
from sampling.sigmas import checked
from sampling.solver import Solver
from sampling.time_axes import LinearTime, TimeAxis, VETime, VPTime


@dataclass(frozen=True)
class AblationSettings:
    """The settings of `ablation`, which explains them."""

    solver: Rule = "heun"
    schedule: Schedule = "linear"
    scaling: Scaling = "none"
    alpha: float = 1.0
    S_churn: float = 0
    S_min: float = 0
    S_max: float = math.inf
    S_noise: float = 1


def ablation(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    solver: Rule = AblationSettings.solver,
    schedule: Schedule = AblationSettings.schedule,
    scaling: Scaling = AblationSettings.scaling,
    alpha: float = AblationSettings.alpha,
    S_churn: float = AblationSettings.S_churn,
    S_min: float = AblationSettings.S_min,
    S_max: float = AblationSettings.S_max,
    S_noise: float = AblationSettings.S_noise,
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
    round_sigma: Callable[[Tensor], Tensor] | None = None,
    sigma_range: tuple[float, float] | None = None,
    epsilon_s: float = 1e-3,
) -> Tensor:
    r"""EDM's generalised sampler: y(t) = s(t) x, integrated over t with the inner point at alpha.

    dy/dt = s sigma' (x - D(x; sigma)) / sigma + s' x,  y' = y + alpha h dy/dt
    y_next = y + h ((1 - 1 / (2 alpha)) dy/dt + 1 / (2 alpha) dy'/dt),  Euler if sigma_next = 0

    The grid (EDM's `discretization`) is that of `sigmas`. The state passed in and out is unscaled.

    Reference: Karras et al., 2022, Table 1 and App. D.2 (general 2nd order), https://arxiv.org/abs/2206.00364

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] decreasing noise levels, the last may be 0.
        solver: `euler`, or `heun` for the 2nd-order rule.
        schedule: sigma(t): `linear` t, `ve` sqrt(t), `vp` see `sampling.time_axes.VPTime`.
        scaling: s(t): `none` 1, `vp` 1 / sqrt(1 + sigma ** 2).
        alpha: in (0, 1]: 1 is Heun's rule, 1/2 the midpoint rule, 2/3 Ralston's.
        S_churn, S_min, S_max, S_noise, randn_like, round_sigma: as for `sampling.onestep.heun`.
        sigma_range: (sigma_min, sigma_max) that the vp schedule is fitted to; None: the ends of `sigmas`.
            They differ where the grid, or the network's rounding, does not meet its range.
        epsilon_s: VP time of sigma_min.
    Returns:
        The state at sigmas[-1]; NFE = M for euler, else 2 M, or 2 M - 1 if the last level is 0.
    Raises:
        ValueError: for noise levels or a setting out of range.
    """
    levels = checked(sigmas)
    if levels[-1] > levels[0]:
        raise ValueError(
            "the ablation sampler needs decreasing noise levels: invert with another solver"
        )
    if solver not in ("euler", "heun"):
        raise ValueError(f"unknown solver {solver!r}: choose from euler, heun")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must lie in (0, 1], got {alpha}")
    positive = [level for level in levels if level > 0]
    axis = _axis(schedule, sigma_range or (positive[-1], positive[0]), epsilon_s)
    scale = _Scaling(axis, scaling)

    hats = churned(levels, S_churn, S_min, S_max, round_sigma)
    t_hats = axis.time(torch.tensor(hats, dtype=torch.float64))
    ends = torch.tensor(levels[1:], dtype=torch.float64)
    t_ends = torch.where(ends > 0, axis.time(ends), 0.0)
    t_inner = t_hats + alpha * (t_ends - t_hats)
    sigmas_hat, sigmas_inner = axis.sigma(t_hats).to(x), axis.sigma(t_inner).to(x)
    steps = zip(levels, hats, t_hats, t_inner, t_ends, strict=False)
    for i, (level, hat, t_hat, t_mid, t_end) in enumerate(steps):
        if S_churn > 0:
            x = stir(x, level, hat, S_noise, randn_like)
        h = float(t_end - t_hat)
        y = scale.s(t_hat) * x
        slope = scale.derivative(t_hat, x, denoise(x, sigmas_hat[i]))
        if solver == "heun" and t_end > 0:
            x_inner = (y + alpha * h * slope) / scale.s(t_mid)
            slope_inner = scale.derivative(t_mid, x_inner, denoise(x_inner, sigmas_inner[i]))
            slope = (1 - 1 / (2 * alpha)) * slope + slope_inner / (2 * alpha)
        x = (y + h * slope) / scale.s(t_end)
    return x


ABLATION = Solver(
    ablation,
    AblationSettings,
    needs=("randn_like", "round_sigma", "sigma_range"),
    inverts=False,
)


class _Scaling:
    """s(t), and dy/dt of the scaled state y = s x, in Python floats."""

    def __init__(self, axis: TimeAxis, name: str) -> None:
        if name not in ("vp", "none"):
            raise ValueError(f"unknown scaling {name!r}: choose from vp, none")
        self.axis = axis
        self.preserves_variance = name == "vp"

    def s(self, t: Tensor) -> float:
        return float(1 / (1 + self.axis.sigma(t) ** 2).sqrt()) if self.preserves_variance else 1.0

    def derivative(self, t: Tensor, x: Tensor, D: Tensor) -> Tensor:
        s, sigma, slope = self.s(t), float(self.axis.sigma(t)), float(self.axis.slope(t))
        result = (s * slope / sigma) * (x - D)
        return result - (sigma * slope * s**3) * x if self.preserves_variance else result


def _axis(schedule: str, sigma_range: tuple[float, float], epsilon_s: float) -> TimeAxis:
    axes: dict[str, Callable[[], TimeAxis]] = {
        "linear": LinearTime,
        "ve": VETime,
        "vp": lambda: VPTime.fitted(*sigma_range, epsilon_s),
    }
    if schedule not in axes:
        raise ValueError(f"unknown schedule {schedule!r}: choose from {', '.join(axes)}")
    return axes[schedule]()
