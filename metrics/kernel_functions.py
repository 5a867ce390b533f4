"""Kernels: k(x, y) of every pair of two chunks of rows, and the median heuristic for their width."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike, as_pair
from metrics.neighbours import squared_distances

Kernel = Callable[[Tensor, Tensor], Tensor]  # ([m, d], [n, d]) -> [m, n], symmetric


@dataclass(frozen=True)
class RBF:
    r"""Gaussian kernel k(x, y) = exp(-|x - y|^2 / (2 s^2)), or the mean of several.

    Args:
        bandwidths: s > 0, one or a list; a list gives the mean of their kernels, so that k(x, x) stays 1.
    Raises:
        ValueError: if a bandwidth is not a positive number.
    """

    bandwidths: float | tuple[float, ...]

    def __post_init__(self) -> None:
        several = tuple(np.atleast_1d(self.bandwidths).tolist())
        object.__setattr__(self, "bandwidths", several)
        if not several:
            raise ValueError("bandwidths is empty; give one or several")
        for bandwidth in several:
            _require_positive("bandwidth", bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k of every pair, [m, n]."""
        bandwidths = np.atleast_1d(self.bandwidths).tolist()
        squares = _squares(x, y)
        total = torch.zeros_like(squares)
        for bandwidth in bandwidths:
            total += torch.exp(squares / (-2 * bandwidth**2))
        return total / len(bandwidths)


@dataclass(frozen=True)
class Laplace:
    r"""Laplace kernel k(x, y) = exp(-|x - y|_1 / b), of the sum of absolute differences.

    Args:
        bandwidth: b > 0; for the median heuristic take `median_distance(..., norm=1)`.
    Raises:
        ValueError: if b is not a positive number.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        _require_positive("bandwidth", self.bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k of every pair, [m, n]."""
        return torch.exp(torch.cdist(x, y, p=1) / -self.bandwidth)


@dataclass(frozen=True)
class Polynomial:
    r"""Polynomial kernel k(x, y) = (gamma x . y + coef0)^degree; as it stands, that of KID.

    Args:
        degree: 1, 2, 3, ...
        gamma: factor > 0; None is 1 / d.
        coef0: at least 0, else k is not positive definite.
    Raises:
        ValueError: if a value leaves its range.
    """

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0

    def __post_init__(self) -> None:
        if self.degree < 1 or self.degree % 1 or not 0 <= self.coef0 < math.inf:
            raise ValueError(
                f"degree is {self.degree} and coef0 {self.coef0}; need a whole degree >= 1 and coef0 >= 0"
            )
        if self.gamma is not None:
            _require_positive("gamma", self.gamma)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k of every pair, [m, n]."""
        gamma = 1 / x.shape[1] if self.gamma is None else self.gamma
        return (gamma * (x @ y.T) + self.coef0) ** self.degree


@dataclass(frozen=True)
class IMQ:
    r"""Inverse multiquadric kernel k(x, y) = (1 + |x - y|^2 / c^2)^(-1/2), with tails heavier than the Gaussian's.

    Args:
        bandwidth: c > 0.
    Raises:
        ValueError: if c is not a positive number.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        _require_positive("bandwidth", self.bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k of every pair, [m, n]."""
        return torch.rsqrt(1 + _squares(x, y) / self.bandwidth**2)


def median_distance(x: ArrayLike, y: ArrayLike, norm: float = 2, most: int = 1000) -> float:
    """The median heuristic: the median distance between two different rows of both samples together.

    Reference: Gretton et al., 2012, section 8, https://jmlr.org/papers/v13/gretton12a.html

    Args:
        x, y: [m, d] and [n, d].
        norm: 2, or 1 for the Laplace kernel.
        most: of larger samples, so many rows are drawn (always the same ones).
    Returns:
        The distance, > 0. Multiples of it make a family: `RBF(tuple(f * median for f in (0.5, 1, 2)))`.
    Raises:
        ValueError: if it is 0, dimensions differ, or a value is not finite.
    """
    rows = torch.cat(as_pair(x, y, ("x", "y")))
    if len(rows) > most:
        chosen = np.random.RandomState(0).permutation(len(rows))[:most]
        rows = rows[torch.from_numpy(chosen).to(rows.device)]
    median = float(np.median(torch.pdist(rows, p=norm).cpu().numpy()))
    if median == 0:
        raise ValueError(
            "the median distance is 0, as half of the rows are equal; give a bandwidth"
        )
    return median


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances, from the mean of y: far from the origin, products would lose their digits."""
    centre = y.mean(0)
    return squared_distances(x - centre, y - centre)


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; need a positive number")
