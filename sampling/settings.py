"""Which solver, on which noise levels, with which ending: everything that determines a sampler, in one place."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from sampling.ablation import ablation
from sampling.consistency import consistency
from sampling.denoiser import Counted
from sampling.samplers import SAMPLERS, Sampler, sample
from sampling.sigmas import SIGMAS, Ending, default_range, explicit, with_ending

SOLVERS: dict[str, Callable[..., Tensor]] = {
    **SAMPLERS,
    "ablation": ablation,
    "consistency": consistency,
}
# Of networks with a table of times: net.sigma_grids[name](steps).
NETWORK_GRIDS = ("ddim", "timesteps")
GRIDS = (*SIGMAS, *NETWORK_GRIDS)
DEFAULT_STEPS = 18
# Ten times the levels of networks with a table; more are a slip of the keyboard.
MOST_STEPS = 10_000
_LOGSNR_BY_DEFAULT = ("unipc", "dpmpp")  # the grid these solvers are published with
_NOT_SETTINGS = {
    "denoise", "x", "sigmas", "randn_like", "round_sigma", "sigma_range", "epsilon_s", "boundary",
}  # fmt: skip


class NoiseRange(Protocol):
    """What a network tells of the noise levels it knows."""

    sigma_min: float
    sigma_max: float

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest known noise level."""
        ...


@dataclass(frozen=True)
class SamplerSettings:
    """A solver and its noise levels; None means the solver's or the grid's own default.

    Args:
        sampler: a name in SAMPLERS, or "ablation" for EDM's ablation space.
        steps: N, the number of noise levels before the ending; 18 by default, as in EDM.
        sigmas: a name in GRIDS, or the noise levels themselves, e.g. "80,10,1".
        sigma_min, sigma_max: range of the grid, cut to the network's own.
        exponent: of the edm grid.
        ending: see `sampling.sigmas.with_ending`.
        S_churn, S_min, S_max, S_noise: see `sampling.samplers.heun`.
        order, variant, predict, exact, thresholding, lower_order_final: see the multistep solvers.
        solver, schedule, scaling, alpha: see `sampling.ablation.ablation`.
        clip: see `sampling.consistency.consistency`.
    Raises:
        ValueError: if a name is unknown, or a setting is given that the sampler does not have.
    """

    sampler: str = "heun"
    steps: int | None = None
    sigmas: str | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    exponent: float | None = None
    ending: Ending = "zero"
    S_churn: float | None = None
    S_min: float | None = None
    S_max: float | None = None
    S_noise: float | None = None
    order: int | None = None
    variant: str | None = None
    predict: str | None = None
    exact: bool | None = None
    thresholding: bool | None = None
    lower_order_final: bool | None = None
    solver: str | None = None
    schedule: str | None = None
    scaling: str | None = None
    alpha: float | None = None
    clip: bool | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SOLVERS:
            raise ValueError(f"unknown sampler {self.sampler!r}; choose from {', '.join(SOLVERS)}")
        for name in _SOLVER_SETTINGS:
            self._check_solver_setting(name, getattr(self, name))
        if self.grid in GRIDS:
            if self.steps is not None and self.steps < 2:
                raise ValueError(
                    f"steps is {self.steps}, but a grid has 2 noise levels or more; "
                    "for a single step list its level, as 80"
                )
            if self.steps is not None and self.steps > MOST_STEPS:
                raise ValueError(
                    f"steps is {self.steps}; at most {MOST_STEPS:,} noise levels are computed"
                )
        else:
            self._check_listed()
        if self.grid in NETWORK_GRIDS and (self.sigma_min, self.sigma_max) != (None, None):
            raise ValueError(
                f"the {self.grid} grid has the range of the network's table: drop sigma_min and sigma_max"
            )
        if self.exponent is not None and self.grid not in ("edm", "time_uniform"):
            raise ValueError(
                f"the time step exponent {self.exponent:g} is given, but the {self.grid} grid has none; "
                "drop it, or use the edm grid"
            )
        with_ending(torch.ones(1), self.ending)

    def _check_solver_setting(self, name: str, value: Any) -> None:
        if value is not None and name not in _settings_of(self.sampler):
            having = [sampler for sampler in SOLVERS if name in _settings_of(sampler)]
            raise ValueError(
                f"{name}={value} is given, but the sampler {self.sampler} has no such setting; "
                f"it belongs to {', '.join(having)}"
            )
        if isinstance(value, float) and not (
            math.isfinite(value) or (name == "S_max" and value > 0)
        ):
            raise ValueError(f"{name} is {value}; it must be a finite number")

    def _check_listed(self) -> None:
        try:
            listed = len(explicit(self.grid))
        except ValueError as error:
            raise ValueError(f"{error}; or name a grid: {', '.join(GRIDS)}") from None
        for name in ("sigma_min", "sigma_max", "exponent"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is given, but the noise levels are listed: drop one of the two"
                )
        if self.steps not in (None, listed):
            raise ValueError(
                f"steps is {self.steps}, but {listed} noise levels are listed: drop one of the two"
            )

    @property
    def grid(self) -> str:
        """The grid's name, or the list of noise levels."""
        if self.sigmas is not None:
            return self.sigmas
        return "logsnr" if self.sampler in _LOGSNR_BY_DEFAULT else "edm"

    def nodes(self, net: NoiseRange) -> Tensor:
        """The noise levels before the ending: decreasing float64 [N], within the network's range.

        Raises:
            ValueError: if the range is empty or left, or rounding to the network's levels makes two of them equal.
        """
        steps = DEFAULT_STEPS if self.steps is None else self.steps
        if self.grid in NETWORK_GRIDS:
            own = getattr(net, "sigma_grids", {})
            if self.grid not in own:
                raise ValueError(
                    f"the {self.grid} grid belongs to networks with a table of times (LDM, U-ViT), which this one has "
                    f"not; use {', '.join(SIGMAS)}"
                )
            nodes = own[self.grid](steps)
        elif self.grid not in SIGMAS:
            nodes = explicit(self.grid)
            if not net.sigma_min <= nodes[-1] <= nodes[0] <= net.sigma_max:
                raise ValueError(
                    f"noise levels from {nodes[0]:g} to {nodes[-1]:g} are listed, but the network knows those "
                    f"between {net.sigma_min:g} and {net.sigma_max:g}"
                )
        else:
            options = {} if self.exponent is None else {"exponent": self.exponent}
            low, high = self._range(net)
            nodes = SIGMAS[self.grid](steps, low, high, **options)
            # VP time, fitted to a range that the VP process does not have.
            if (nodes.diff() >= 0).any():
                raise ValueError(
                    f"the {self.grid} grid does not fall from {high:g} to {low:g}; lower sigma_min"
                )

        nodes = net.round_sigma(nodes).to("cpu", torch.float64)
        if (nodes.diff() >= 0).any():
            raise ValueError(
                f"{len(nodes)} steps are more than the network has noise levels for; use fewer steps"
            )
        return nodes

    def bound(self, net: NoiseRange, randn_like: Callable[[Tensor], Tensor]) -> Sampler:
        """The solver with every setting in place.

        Args:
            net: tells the noise levels it knows.
            randn_like: the churn's noise.
        """
        options: dict[str, Any] = {
            n: getattr(self, n) for n in _SOLVER_SETTINGS if getattr(self, n) is not None
        }
        parameters = inspect.signature(SOLVERS[self.sampler]).parameters
        context: dict[str, Any] = {
            "randn_like": randn_like,
            "round_sigma": net.round_sigma,
            "boundary": net.sigma_min,
        }
        if self.grid in SIGMAS:
            context["sigma_range"] = self._range(net)
        options |= {name: value for name, value in context.items() if name in parameters}
        return partial(SOLVERS[self.sampler], **options)

    def nfe(self, net: NoiseRange) -> int:
        """Network evaluations per image, counted by solving once with a denoiser that always answers 0.

        Raises:
            ValueError: for everything that `nodes` or the solver refuses, such as an order above the number of steps.
        """
        denoise = Counted(lambda x, sigma: torch.zeros_like(x))
        sample(
            self.bound(net, torch.zeros_like),
            denoise,
            torch.zeros(1, 1, 1, 1),
            self.nodes(net),
            self.ending,
        )
        return denoise.nfe

    def resolved(self, net: NoiseRange) -> dict[str, Any]:
        """Every setting with its default filled in, as JSON: what a record of a run should say.

        Raises:
            ValueError: as `nfe`.
        """
        parameters = inspect.signature(SOLVERS[self.sampler]).parameters
        record: dict[str, Any] = {"sampler": self.sampler}
        for name in _settings_of(self.sampler):
            value = getattr(self, name)
            record[name] = parameters[name].default if value is None else value
        nodes = self.nodes(net)
        record |= {
            "grid": self.grid if self.grid in GRIDS else "listed",
            "steps": len(nodes),
            "ending": self.ending,
        }
        record |= {"sigmas": with_ending(nodes, self.ending).tolist(), "nfe": self.nfe(net)}
        return {name: "inf" if value == math.inf else value for name, value in record.items()}

    def _range(self, net: NoiseRange) -> tuple[float, float]:
        low, high = default_range(self.grid)
        low = max(low if self.sigma_min is None else self.sigma_min, net.sigma_min)
        high = min(high if self.sigma_max is None else self.sigma_max, net.sigma_max)
        if not low < high:
            raise ValueError(
                f"noise levels from {low:g} to {high:g}: nothing is left of the range within the network's own, "
                f"{net.sigma_min:g} to {net.sigma_max:g}"
            )
        return low, high


def _settings_of(sampler: str) -> list[str]:
    return [
        name for name in inspect.signature(SOLVERS[sampler]).parameters if name not in _NOT_SETTINGS
    ]


_SOLVER_SETTINGS = sorted({name for sampler in SOLVERS for name in _settings_of(sampler)})
