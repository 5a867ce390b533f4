"""The search for the best skip coefficient with few images: which rho to measure next, and how well it is known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skip.evidence.best import Best, bootstrap
from skip.evidence.estimate import Estimate, difference

# Rhos, images -> the metric of the first seeds at each.
Measure = Callable[[Sequence[float], int], list[Estimate]]

KEPT = 1.5  # standard errors: who is worse than the best by more is measured no further
WORTH = 1.25  # a last round with fewer images than this multiple is not worth it
SURE = 2.0  # standard errors: another order in time must be better by this


@dataclass(frozen=True)
class Round:
    """What one round of a search saw.

    Attributes:
        images: of every rho, the seeds 0 to images - 1.
        rhos, estimates: of the grid's points that it measured.
        best: the vertex of the parabola through them.
    """

    images: int
    rhos: tuple[float, ...]
    estimates: tuple[Estimate, ...]
    best: Best


def search(
    measure: Measure,
    low: float,
    high: float,
    points: int = 7,
    images: int = 500,
    budget: int = 6000,
    precision: float | None = None,
    maximise: bool = False,
) -> list[Round]:
    r"""Find rho by successive halving and a parabola, all with common seeds.

    The first round measures a grid with few images each. A point is dropped if, in paired comparison, it is worse than
    the best one by 1.5 errors; the best one's neighbours stay. The rest get twice the images, those they have included.
    Far points say no more than near ones: with common seeds the noise of f(rho) - f(rho') grows about as
    s |rho - rho'|, so that the vertex of f = c (rho - v)^2 is known to s / (2 c), however far apart the points lie. By
    the same rule 1.5 errors keep what lies within three errors of the vertex.

    Reference: Karnin et al., 2013, Almost Optimal Exploration in Multi-Armed Bandits (sequential halving);
        Glasserman and Yao, 1992, Some Guidelines and Guarantees for Common Random Numbers

    Args:
        measure: the metric at some rhos, with blocks; images of the same seeds must be the same ones each time.
        low, high: ends of the grid.
        points: of the grid, at least 3.
        images: of each point in the first round.
        budget: images in all; images that a later round has from an earlier one cost nothing.
        precision: stop when the error of rho is no larger.
        maximise: more is better.
    Returns:
        The rounds; the last one's `best` is the result.
    Raises:
        ValueError: if the range or the number of points makes no grid, the budget is too small for the first round, or
            all its points are the same.
    """
    grid = even_grid(low, high, points)
    if points * images > budget:
        raise ValueError(f"{points} points of {images} images are more than the budget of {budget}")

    made = dict.fromkeys(grid, 0)
    rhos, rounds = grid, list[Round]()
    while True:
        estimates = measure(rhos, images)
        if not rounds and len({(one.value, one.blocks) for one in estimates}) == 1:
            raise ValueError(
                f"all {len(rhos)} points have the value {estimates[0].value:g} with {images} images: the metric does "
                "not tell them apart; take more (--num), or another metric"
            )
        made |= dict.fromkeys(rhos, images)
        best = vertex(rhos, estimates, low, high, maximise)
        rounds.append(Round(images, tuple(rhos), tuple(estimates), best))
        if precision is not None and best.error is not None and best.error <= precision:
            return rounds

        # Images that the points of the next round have already are had once.
        rhos = _kept(grid, rounds[-1], maximise)
        left = budget - sum(made.values())
        affordable = (left + sum(made[rho] for rho in rhos)) // len(rhos)
        if affordable < WORTH * images:
            return rounds
        images = min(2 * images, affordable)


def even_grid(low: float, high: float, points: int) -> list[float]:
    """Evenly spaced rhos, to four digits.

    Raises:
        ValueError: if the range is empty or no wider than its points, or there are fewer than 3.
    """
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"the range is {low:g} to {high:g}; need finite numbers low < high")
    if points < 3:
        raise ValueError(f"{points} points say nothing of a minimum between them; take 3 or more")
    grid = [round(float(rho), 4) for rho in np.linspace(low, high, points)]
    if len(set(grid)) < points:
        raise ValueError(
            f"the range, {low:g} to {high:g}, is too narrow for {points} points 0.0001 apart"
        )
    return grid


def vertex(
    rhos: Sequence[float], estimates: Sequence[Estimate], low: float, high: float, maximise: bool
) -> Best:
    """The best of a parabola fitted to all points by least squares.

    Its errors come from 1000 bootstrap resamples of the blocks, the same for every rho. They hold the noise of the
    seeds; that the curve is no parabola is not in them.

    Args:
        rhos: at least 3, increasing.
        estimates: the metric at each, all with the same number of blocks.
        low, high: where the best may be.
        maximise: more is better.
    Raises:
        ValueError: if an estimate has no blocks.
    """
    if not estimates[0].blocks or len({len(cell.blocks) for cell in estimates}) > 1:
        raise ValueError(
            "the metric comes without blocks of seeds, so that differences have no error to judge them by"
        )

    sign = -1.0 if maximise else 1.0
    x = np.array(rhos)
    y = sign * np.array([cell.value for cell in estimates])
    redrawn = bootstrap(y, sign * np.array([cell.blocks for cell in estimates]), seed=0)

    (at, *found), (height, *heights) = (
        part.tolist() for part in _vertices(x, np.vstack([y, redrawn]), low, high)
    )
    near, far = np.percentile(found, [16, 84])

    value = Estimate.plain(sign * height, np.std(heights, ddof=1))
    return Best(
        at, float(np.std(found, ddof=1)), float(near), float(far), value, None, at in (low, high)
    )


def gain(rounds: Sequence[Round], rho: float = 1.0) -> tuple[int, Estimate] | None:
    """By how much the best point of the grid is better than rho: images, and the paired difference.

    It is of the last round that measured rho; None if none did.
    """
    for one in reversed(rounds):
        if rho in one.rhos:
            nearest = int(np.argmin(np.abs(np.array(one.rhos) - rounds[-1].best.rho)))
            return one.images, difference(
                one.estimates[nearest], one.estimates[one.rhos.index(rho)]
            )
    return None


def clearly_better(estimates: Sequence[Estimate], maximise: bool) -> int:
    """Which is the best; the first, unless another is better by two errors of the paired difference."""
    sign = -1.0 if maximise else 1.0
    gaps = [difference(one, estimates[0]) for one in estimates]
    chosen = int(np.argmin([sign * gap.value for gap in gaps]))
    return chosen if sign * gaps[chosen].value < -SURE * (gaps[chosen].error or 0.0) else 0


def _kept(grid: list[float], last: Round, maximise: bool) -> list[float]:
    """The points of the grid that the next round measures: a run without holes, at least three."""
    sign = -1.0 if maximise else 1.0
    least = int(np.argmin([sign * one.value for one in last.estimates]))

    near = []
    for rho, one in zip(last.rhos, last.estimates, strict=True):
        gap = difference(one, last.estimates[least])
        if sign * gap.value <= KEPT * (gap.error or 0.0):
            near.append(rho)

    middle = min(max(grid.index(last.rhos[least]), 1), len(grid) - 2)
    first, final = min(grid.index(near[0]), middle - 1), max(grid.index(near[-1]), middle + 1)
    return grid[first : final + 1]


def _vertices(
    x: np.ndarray, y: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Place and value of the least of each curve's parabola: x [R] increasing, y [S, R] -> [S], [S]."""
    middle = x.mean()
    # y = a (x - middle)^2 + b (x - middle) + c
    a, b, c = np.linalg.pinv(np.vander(x - middle, 3)) @ y.T
    with np.errstate(divide="ignore", invalid="ignore"):
        # Without a valley, the least point.
        place = np.where(a > 0, middle - b / (2 * a), x[y.argmin(1)])
    place = place.clip(low, high)
    return place, (a * (place - middle) + b) * (place - middle) + c
