"""The best rho of a grid, between its points, with an error bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from skip.evidence.estimate import Estimate, difference

RESAMPLES = 1000


@dataclass(frozen=True)
class Best:
    """Where a metric is best over rho.

    Attributes:
        rho: the best.
        error: standard deviation of rho over the bootstrap; None without blocks.
        low, high: the middle 68% of the bootstrap; None without blocks.
        value: the metric there, with its error.
        gain: value less the metric at rho = 1, with its error (paired where the estimates are); None if the grid lacks
            rho = 1. Never of the wrong sign, since the best is chosen: judge it by its error.
        at_edge: the best is the first or last of the grid; what is better may lie beyond it.
    """

    rho: float
    error: float | None
    low: float | None
    high: float | None
    value: Estimate
    gain: Estimate | None
    at_edge: bool


def best_rho(
    rhos: Sequence[float], estimates: Sequence[Estimate], seed: int = 0, maximise: bool = False
) -> Best:
    """The rho with the least metric, refined by the parabola through it and its two neighbours.

    Errors come from 1000 bootstrap resamples of the blocks, the same blocks for every rho: noise that all cells of a
    seed share moves the whole curve and leaves its minimum where it is.

    Args:
        rhos: the grid, in any order, evenly spaced or not.
        estimates: the metric at each.
        seed: of the bootstrap.
        maximise: more is better, as for the Inception Score.
    Returns:
        The best; without errors of rho unless all estimates have the same number of blocks.
    Raises:
        ValueError: if the grid is empty or repeats a rho, or the numbers of rhos and estimates differ.
    """
    x, cells = _in_order(rhos, estimates)

    # Whatever is best, it is a minimum from here on.
    sign = -1.0 if maximise else 1.0
    y = sign * np.array([cell.value for cell in cells])
    places, heights = _minimum(x, y[None])
    at, height = float(places[0]), float(heights[0])

    chosen = int(np.argmin(y))
    at_edge = chosen in (0, len(x) - 1)
    (ones,) = np.nonzero(x == 1)
    one = int(ones[0]) if len(ones) else None
    gain = None

    # Without blocks the errors are those of the chosen point of the grid, and that of rho is unknown.
    if len({len(cell.blocks) for cell in cells}) > 1 or not cells[0].blocks:
        if one is not None:
            gain = Estimate.plain(
                sign * (height - y[one]), difference(cells[chosen], cells[one]).error
            )
        return Best(
            at, None, None, None, Estimate.plain(sign * height, cells[chosen].error), gain, at_edge
        )

    redrawn = bootstrap(y, sign * np.array([cell.blocks for cell in cells]), seed)
    places, heights = _minimum(x, redrawn)
    if one is not None:
        gain = Estimate.plain(sign * (height - y[one]), (heights - redrawn[:, one]).std(ddof=1))
    value = Estimate.plain(sign * height, heights.std(ddof=1))
    error = 0.0 if np.ptp(places) == 0 else float(places.std(ddof=1))  # exact at an edge
    low, high = np.percentile(places, [16, 84])
    return Best(at, error, float(low), float(high), value, gain, at_edge)


def _in_order(
    rhos: Sequence[float], estimates: Sequence[Estimate]
) -> tuple[np.ndarray, list[Estimate]]:
    """The grid, increasing, and the estimate at each of its points."""
    if not rhos or len(set(rhos)) != len(rhos):
        raise ValueError(f"the grid of rho is {list(rhos)}; need at least one, and each once")
    if len(rhos) != len(estimates):
        raise ValueError(
            f"{len(rhos)} rhos and {len(estimates)} estimates; need one estimate for each rho"
        )
    order = np.argsort(rhos)
    return np.array(rhos, dtype=np.float64)[order], [estimates[i] for i in order]


def _minimum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place and value of the least of each curve: x [R] increasing, y [S, R] -> [S], [S]."""
    rows, i = np.arange(len(y)), y.argmin(1)
    place, value = x[i], y[rows, i]
    if len(x) < 3:
        return place, value

    # Newton's form of the parabola through each least point and its neighbours.
    j = i.clip(1, len(x) - 2)
    x0, x1, x2 = x[j - 1], x[j], x[j + 1]
    y0, y1, y2 = y[rows, j - 1], y[rows, j], y[rows, j + 1]
    slope = (y1 - y0) / (x1 - x0)
    curvature = ((y2 - y1) / (x2 - x1) - slope) / (x2 - x0)

    # At an end of the grid there is no vertex to trust: the point itself is taken.
    inside = (i == j) & (curvature > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = (x0 + x1) / 2 - slope / (2 * curvature)
        height = y0 + slope * (vertex - x0) + curvature * (vertex - x0) * (vertex - x1)
    return np.where(inside, vertex, place), np.where(inside, height, value)


def bootstrap(y: np.ndarray, blocks: np.ndarray, seed: int) -> np.ndarray:
    """Curves that other seeds might have given: y [R], blocks [R, B] -> [RESAMPLES, R].

    Drawing B of B blocks anew spreads by (B - 1) / B of the variance; the factor makes up for it.
    """
    count = blocks.shape[1]
    moves = (blocks - blocks.mean(1, keepdims=True)) * (count / (count - 1)) ** 0.5
    return y + _resamples(count, seed) @ moves.T


@lru_cache(maxsize=4)
def _resamples(count: int, seed: int) -> np.ndarray:
    """By how much each block counts in each resample, [RESAMPLES, count]; kept for the next curve."""
    random = np.random.default_rng(seed)
    drawn = random.integers(count, size=(RESAMPLES, count)) + count * np.arange(RESAMPLES)[:, None]
    times = np.bincount(drawn.ravel(), minlength=RESAMPLES * count)

    weights = times.reshape(RESAMPLES, count) / count
    weights.setflags(write=False)
    return weights
