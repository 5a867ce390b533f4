"""SkipScale: the skip coefficient rho as a function of decoder layer and noise level."""

import math
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from sampling.guidance import inside
from skip.names import Axis, Spacing, Time

SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
TIMES: tuple[Time, ...] = get_args(Time)
AXES: tuple[Axis, ...] = get_args(Axis)
ENDS = (0.002, 80.0)  # of the time axis: EDM's
MOST_RHO = 1000  # far beyond what leaves images, and far below where float32 ends


@dataclass(frozen=True)
class SkipScale:
    r"""rho_i(sigma), the factor on the long skip that decoder layer i takes, deepest layer first.

    Over layers, for k skips:   rho_i = bottom + (top - bottom) * position_i
        paper       position_i = i / k,        i = 0 .. k-1   (as the paper writes it; the top layer stays below `top`)
        one-based   position_i = i / k,        i = 1 .. k
        inclusive   position_i = i / (k - 1),  i = 0 .. k-1   (both ends reached)
    Over time, with tau = (a(sigma) - a(sigma_min)) / (a(sigma_max) - a(sigma_min)) clamped to [0, 1]:
        constant    rho_i
        increasing  rho_i + (1 - rho_i) tau      rho_i in clean images, 1 in pure noise
        decreasing  1 + (rho_i - 1) tau          1 in clean images, rho_i in pure noise
        a(sigma) = sigma^(1/7) (edm: the coordinate of EDM's steps), sigma, or ln sigma (log-sigma)
        axis "time": tau = (t - t_min) / (t_max - t_min) of the time t that the network is told at sigma. The network
        says it, so that whoever calls this hands tau over; see `training.precond_base.Precond.relative_time`.
    Outside a window, rho = 1.

    Reference: Skip-Tuning, section 3 and section 5.2, https://arxiv.org/abs/2402.15170

    Args:
        bottom, top: rho of the deepest layer, and what the layers approach or reach; 1 leaves the network as it is,
            0 cuts the skip.
        spacing: how the layers lie between the two.
        layers: rho of each layer, deepest first, instead of bottom and top.
        time, axis: how rho depends on the noise level.
        sigma_min, sigma_max: ends of the time axis, in data units; not of axis "time", which the network ends.
        window: (low, high): Skip-Tuning acts only where low < sigma <= high.
    Raises:
        ValueError: if a value is not finite, a choice is unknown, a range is empty or without effect.
    """

    bottom: float = 1.0
    top: float = 1.0
    spacing: Spacing = "paper"
    layers: tuple[float, ...] | None = None
    time: Time = "constant"
    axis: Axis = "edm"
    sigma_min: float = ENDS[0]
    sigma_max: float = ENDS[1]
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _choice("spacing", self.spacing, SPACINGS)
        _choice("time", self.time, TIMES)
        _choice("axis", self.axis, AXES)

        for rho in self.layers or (self.bottom, self.top):
            if not math.isfinite(rho):
                raise ValueError(f"a skip coefficient is {rho}; it must be a finite number")
            if abs(rho) > MOST_RHO:
                raise ValueError(
                    f"a skip coefficient is {rho:g}; useful ones are near 1, {MOST_RHO} is the most"
                )

        if self.layers is not None:
            if not self.layers:
                raise ValueError("layers is empty; give one rho for each long skip")
            if (self.bottom, self.top) != (1.0, 1.0):
                raise ValueError("give either rho of each layer or bottom and top, not both")

        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"the time axis runs from {self.sigma_min} to {self.sigma_max}; need 0 < low < high"
            )
        if self.axis == "time" and (self.sigma_min, self.sigma_max) != ENDS:
            raise ValueError(
                f"the range {self.sigma_min:g} to {self.sigma_max:g} does nothing with axis time, whose ends are the "
                "network's own; leave it out, or choose another axis"
            )
        if self.window is not None and not 0 <= self.window[0] < self.window[1]:
            raise ValueError(
                f"the sigma window is {self.window[0]} to {self.window[1]}; need 0 <= low < high"
            )

    @property
    def is_identity(self) -> bool:
        """Whether rho is 1 in every layer at every noise level."""
        return all(rho == 1 for rho in self.layers or (self.bottom, self.top))

    @property
    def needs_time(self) -> bool:
        """Whether coefficients depend on the network's own time, which `__call__` and `strength` must then be told."""
        return self.axis == "time" and self.time != "constant"

    def per_layer(self, num_skips: int) -> Tensor:
        """rho_i before it depends on time: float64 [k].

        Raises:
            ValueError: if `layers` has another length than the network has skips.
        """
        if self.layers is not None:
            if len(self.layers) != num_skips:
                raise ValueError(
                    f"{len(self.layers)} skip coefficients given; this network has {num_skips} long skips"
                )
            return torch.tensor(self.layers, dtype=torch.float64)
        i = torch.arange(num_skips, dtype=torch.float64)
        if self.spacing == "inclusive":
            position = i / max(num_skips - 1, 1)
        else:
            position = (i if self.spacing == "paper" else i + 1) / num_skips
        return self.bottom + (self.top - self.bottom) * position

    def resolved(self, num_skips: int) -> dict[str, Any]:
        """What determines rho in a network of k long skips, as JSON; equal coefficients give equal ones, however put.

        Raises:
            ValueError: as `per_layer`.
        """
        if self.is_identity:
            return {"rho": None}
        return {"rho": self.per_layer(num_skips).tolist()} | self.schedule()

    def schedule(self) -> dict[str, Any]:
        """When it acts, whatever its coefficients are, as JSON; equal schedules give equal ones, however put."""
        found: dict[str, Any] = {"time": self.time}
        if self.window is not None:
            found["window"] = as_json(self.window)
        if self.time != "constant":
            found["axis"] = self.axis
        if self.time != "constant" and self.axis != "time":
            found |= {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}
        return found

    def __call__(
        self, num_skips: int, sigma: float | Tensor, relative_time: Tensor | None = None
    ) -> Tensor:
        """rho_i(sigma) for every layer.

        Args:
            num_skips: k, as `net.num_skips` tells.
            sigma: noise level, a scalar or one per image [N].
            relative_time: tau of axis "time", like sigma; needed where `needs_time`, and used nowhere else.
        Returns:
            float32 [k], or [N, k] for a vector of noise levels, on the device of sigma.
        Raises:
            ValueError: if the time is needed and not given, or as `per_layer`.
        """
        sigma = torch.as_tensor(sigma).to(torch.float64)
        rho = self.per_layer(num_skips).to(sigma.device, non_blocking=True)
        level = sigma.unsqueeze(-1)  # [] -> [1], [N] -> [N, 1]
        if self.time != "constant" and not self.is_identity:
            tau = self._tau(level, relative_time)
            rho = rho + (1 - rho) * tau if self.time == "increasing" else 1 + (rho - 1) * tau
        if self.window is not None:
            rho = torch.where(inside(level, self.window), rho, 1.0)
        return rho.expand(*sigma.shape, num_skips).to(torch.float32)

    def strength(self, sigma: Tensor, relative_time: Tensor | None = None) -> Tensor:
        """How far from 1 a coefficient is at a noise level, as a part of its whole: 0 to 1, by time and window.

        Args:
            sigma: noise level, a scalar or one per image [N].
            relative_time: as of `__call__`.
        Returns:
            float32 of that shape, on the device of sigma.
        Raises:
            ValueError: as `__call__`.
        """
        sigma = sigma.to(torch.float64)
        found = torch.ones_like(sigma)
        if self.time != "constant":
            tau = self._tau(sigma, relative_time)
            found = 1 - tau if self.time == "increasing" else tau
        if self.window is not None:
            found = torch.where(inside(sigma, self.window), found, 0.0)
        return found.to(torch.float32)

    def _tau(self, sigma: Tensor, relative_time: Tensor | None) -> Tensor:
        """How far each noise level [N, 1] or [1] lies on the axis, from 0 to 1."""
        if self.axis == "time":
            if relative_time is None:
                raise ValueError("axis time is of the network's own time: give relative_time too")
            return relative_time.to(sigma).reshape(sigma.shape).clamp(0, 1)

        def coordinate(s: Tensor) -> Tensor:
            return {"edm": s ** (1 / 7), "sigma": s, "log-sigma": s.log()}[self.axis]

        low, high = (
            coordinate(torch.tensor(s, dtype=torch.float64))
            for s in (self.sigma_min, self.sigma_max)
        )
        return ((coordinate(sigma) - low) / (high - low)).clamp(0, 1)


def as_json(value: Any) -> Any:
    """A field of SkipScale as JSON has it: a tuple is a list, and a level without end in it is "inf"."""
    if not isinstance(value, tuple):
        return value
    return ["inf" if part == math.inf else part for part in value]


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")
