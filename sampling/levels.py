"""Which noise levels a sampler visits: a grid within a network's range, a grid of the network's own, or a list."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sampling.names import GRIDS, MOST_STEPS, NETWORK_GRIDS
from sampling.sigmas import SIGMAS, default_range, explicit

DEFAULT_STEPS = 18


class NoiseRange(Protocol):
    """What a network tells of the noise levels it knows."""

    sigma_min: float
    sigma_max: float

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest known noise level."""
        ...


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels of a run; None means the grid's own default.

    Args:
        grid: a name in GRIDS, or the noise levels themselves, e.g. "80,10,1".
        steps: N, the number of noise levels; 18 by default, as in EDM.
        sigma_min, sigma_max: range of the grid, cut to the network's own.
        exponent: of the edm grid.
    Raises:
        ValueError: if the grid is unknown, or a setting is given that it does not have.
    """

    grid: str = "edm"
    steps: int | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    exponent: float | None = None

    def __post_init__(self) -> None:
        if not self.is_grid:
            self._check_listed()
        elif self.steps is not None:
            self._check_steps(self.steps)
        if self.grid in NETWORK_GRIDS and (self.sigma_min, self.sigma_max) != (None, None):
            raise ValueError(
                f"the {self.grid} grid has the range of the network's table: drop sigma_min and sigma_max"
            )
        if self.exponent is not None and self.grid not in ("edm", "time_uniform"):
            raise ValueError(
                f"the time step exponent {self.exponent:g} is given, but the {self.grid} grid has none; "
                "drop it, or use the edm grid"
            )

    @property
    def is_grid(self) -> bool:
        """Whether the levels are those of a grid, rather than listed."""
        return self.grid in GRIDS

    @staticmethod
    def _check_steps(steps: int) -> None:
        if steps < 2:
            raise ValueError(
                f"steps is {steps}, but a grid has 2 noise levels or more; "
                "for a single step list its level, as 80"
            )
        if steps > MOST_STEPS:
            raise ValueError(f"steps is {steps}; at most {MOST_STEPS:,} noise levels are computed")

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

    def nodes(self, net: NoiseRange) -> Tensor:
        """The noise levels: decreasing float64 [N], within the network's range.

        Raises:
            ValueError: if the range is empty or left, or rounding to the network's levels makes two of them equal.
        """
        if self.grid in NETWORK_GRIDS:
            nodes = self._of_network(net)
        elif self.is_grid:
            nodes = self._of_grid(net)
        else:
            nodes = self._listed(net)

        nodes = net.round_sigma(nodes).to("cpu", torch.float64)
        if (nodes.diff() >= 0).any():
            others = " or ".join(["fewer steps", *getattr(net, "sigma_grids", {})])
            raise ValueError(
                f"{len(nodes)} steps are more than the network has noise levels for; use {others}"
            )
        return nodes

    def range_in(self, net: NoiseRange) -> tuple[float, float] | None:
        """The lowest and the highest noise level of the grid; None if it is no grid of a range.

        Raises:
            ValueError: if nothing is left of the range within the network's own.
        """
        return self._range(net) if self.grid in SIGMAS else None

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

    @property
    def _count(self) -> int:
        return DEFAULT_STEPS if self.steps is None else self.steps

    def _of_network(self, net: NoiseRange) -> Tensor:
        own = getattr(net, "sigma_grids", {})
        if self.grid not in own:
            raise ValueError(
                f"the {self.grid} grid belongs to networks with a table of times (LDM, U-ViT), which this one has "
                f"not; use {', '.join(SIGMAS)}"
            )
        return own[self.grid](self._count)

    def _of_grid(self, net: NoiseRange) -> Tensor:
        low, high = self._range(net)
        options = {} if self.exponent is None else {"exponent": self.exponent}
        nodes = SIGMAS[self.grid](self._count, low, high, **options)

        # VP time, fitted to a range that the VP process does not have.
        if (nodes.diff() >= 0).any():
            raise ValueError(
                f"the {self.grid} grid does not fall from {high:g} to {low:g}; lower sigma_min"
            )
        return nodes

    def _listed(self, net: NoiseRange) -> Tensor:
        nodes = explicit(self.grid)
        if not net.sigma_min <= nodes[-1] <= nodes[0] <= net.sigma_max:
            raise ValueError(
                f"noise levels from {nodes[0]:g} to {nodes[-1]:g} are listed, but the network knows those "
                f"between {net.sigma_min:g} and {net.sigma_max:g}"
            )
        return nodes
