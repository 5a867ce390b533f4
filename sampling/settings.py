"""Which solver, on which noise levels, with which ending: everything that determines a sampler, in one place."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from sampling.levels import NoiseLevels, NoiseRange
from sampling.names import Ending
from sampling.samplers import SOLVERS, Sampler, sample
from sampling.sigmas import with_ending


@dataclass(frozen=True)
class SamplerSettings:
    """A solver and its noise levels, as one flat list; None means the solver's or the grid's own default.

    Args:
        sampler: a name in SOLVERS: "heun", ..., or "ablation" for EDM's ablation space.
        steps: N, the number of noise levels before the ending; 18 by default, as in EDM.
        sigmas: a name in GRIDS, or the noise levels themselves, e.g. "80,10,1".
        sigma_min, sigma_max: range of the grid, cut to the network's own.
        exponent: of the edm grid.
        ending: see `sampling.sigmas.with_ending`.
        Others: those of the solver's own settings (`Solver.settings`) that are to have another value than there.
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
    eta: float | None = None
    tau: float | None = None
    corrector_order: int | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SOLVERS:
            raise ValueError(f"unknown sampler {self.sampler!r}; choose from {', '.join(SOLVERS)}")
        for name in _OF_SOLVERS:
            self._check_solver_setting(name, getattr(self, name))
        self.levels  # noqa: B018  # refuses what does not fit together now
        with_ending(torch.ones(1), self.ending)

    def _check_solver_setting(self, name: str, value: Any) -> None:
        if value is not None and name not in SOLVERS[self.sampler].names:
            having = [sampler for sampler, solver in SOLVERS.items() if name in solver.names]
            raise ValueError(
                f"{name}={value} is given, but the sampler {self.sampler} has no such setting; "
                f"it belongs to {', '.join(having)}"
            )
        if isinstance(value, float) and not (
            math.isfinite(value) or (name == "S_max" and value > 0)
        ):
            raise ValueError(f"{name} is {value}; it must be a finite number")

    @property
    def grid(self) -> str:
        """The grid's name, or the list of noise levels."""
        return SOLVERS[self.sampler].grid if self.sigmas is None else self.sigmas

    @cached_property
    def levels(self) -> NoiseLevels:
        """The noise levels before the ending."""
        return NoiseLevels(self.grid, self.steps, self.sigma_min, self.sigma_max, self.exponent)

    @cached_property
    def of_solver(self) -> Any:
        """The solver's own settings, with its defaults filled in."""
        solver = SOLVERS[self.sampler]
        given = {name: getattr(self, name) for name in solver.names}
        return solver.settings(
            **{name: value for name, value in given.items() if value is not None}
        )

    def nodes(self, net: NoiseRange) -> Tensor:
        """The noise levels before the ending: decreasing float64 [N], within the network's range.

        Raises:
            ValueError: as `NoiseLevels.nodes`.
        """
        return self.levels.nodes(net)

    def bound(self, net: NoiseRange, randn_like: Callable[[Tensor], Tensor]) -> Sampler:
        """The solver with every setting in place.

        Args:
            net: tells the noise levels it knows.
            randn_like: the churn's noise.
        """
        solver = SOLVERS[self.sampler]
        around: dict[str, Any] = {
            "randn_like": randn_like,
            "round_sigma": net.round_sigma,
            "sigma_range": self.levels.range_in(net),
            "boundary": net.sigma_min,
        }
        needs = {name: around[name] for name in solver.needs}
        return partial(solver.function, **vars(self.of_solver), **needs)

    def nfe(self, net: NoiseRange) -> int:
        """Network evaluations per image; see `evaluated`."""
        return len(self.evaluated(net))

    def evaluated(self, net: NoiseRange) -> list[float]:
        """The noise level of each network evaluation, seen by solving once with a denoiser that always answers 0.

        Raises:
            ValueError: for everything that `nodes` or the solver refuses, such as an order above the number of steps.
        """
        seen: list[float] = []

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            seen.append(float(sigma))
            return torch.zeros_like(x)

        sample(
            self.bound(net, torch.zeros_like),
            denoise,
            torch.zeros(1, 1, 1, 1),
            self.nodes(net),
            self.ending,
        )
        return seen

    def resolved(self, net: NoiseRange) -> dict[str, Any]:
        """Every setting with its default filled in, as JSON: what a record of a run should say.

        Raises:
            ValueError: as `nfe`.
        """
        nodes = self.nodes(net)
        record = {"sampler": self.sampler} | asdict(self.of_solver)
        record |= {
            "grid": self.grid if self.levels.is_grid else "listed",
            "steps": len(nodes),
            "ending": self.ending,
        }
        record |= {"sigmas": with_ending(nodes, self.ending).tolist(), "nfe": self.nfe(net)}
        return {name: "inf" if value == math.inf else value for name, value in record.items()}


# In alphabetical order, which decides what is refused first.
_OF_SOLVERS = sorted({name for solver in SOLVERS.values() for name in solver.names})
