"""How many generated images look real, and how much of the real data is generated: by balls around neighbours."""

import torch

from metrics.features import ArrayLike, as_pair
from metrics.metric import Evidence, Value
from metrics.neighbours import inside_balls, kth_radii, rescaled

NAMES = ("real features", "generated features")


def precision_recall(
    real: ArrayLike,
    generated: ArrayLike,
    k: int = 3,
    dtype: torch.dtype = torch.float32,
    chunk: int = 1024,
) -> tuple[float, float]:
    """Improved precision and recall.

    Around each feature lies a closed ball that reaches to its k-th nearest other feature of the same set. Precision is
    the share of generated features in some ball of the real ones, recall the share of real features in some ball of
    the generated ones.

    Reference: Kynkaanniemi et al., 2019, Eq. 1 and 2, https://arxiv.org/abs/1904.06991

    Args:
        real, generated: [M, d] and [N, d]; sets of one size make a fair pair.
        k: neighbours, at least 1.
        dtype: of the search, float32 or float64. Doubtful comparisons are made in float64 in any case.
        chunk: rows compared at a time; memory grows by chunk times the larger set, the result stays.
    Returns:
        (precision, recall), between 0 and 1.
    Raises:
        ValueError: if a set has k rows or fewer, dimensions differ, or a feature is not finite.
    """
    _check_k(k)
    sets = rescaled(*as_pair(real, generated, NAMES, dtype=None, at_least=k + 1))
    shares = []
    for centres, points in (sets, sets[::-1]):
        radii = kth_radii(centres, k, dtype, chunk)
        hits = sum(
            int(tile.any(1).sum())
            for tile in inside_balls(points, centres, radii, True, dtype, chunk)
        )
        shares.append(hits / len(points))
    return shares[0], shares[1]


def density_coverage(
    real: ArrayLike,
    generated: ArrayLike,
    k: int = 5,
    dtype: torch.dtype = torch.float32,
    chunk: int = 1024,
) -> tuple[float, float]:
    """Density and coverage: kin of precision and recall that outliers disturb less.

    Around each real feature lies an open ball that reaches to its k-th nearest other real feature. Density is the mean
    number of balls that a generated feature lies in, divided by k; coverage the share of balls that hold a generated
    feature.

    Reference: Naeem et al., 2020, Eq. 3 and 4, https://arxiv.org/abs/2002.09797

    Args:
        real, generated: [M, d] and [N, d].
        k, dtype, chunk: as for `precision_recall`.
    Returns:
        (density, coverage): density at least 0, about 1 for equal distributions; coverage between 0 and 1.
    Raises:
        ValueError: if `real` has k rows or fewer, dimensions differ, or a feature is not finite.
    """
    _check_k(k)
    centres, points = rescaled(*as_pair(real, generated, NAMES, dtype=None))
    if len(centres) <= k:
        raise ValueError(f"real features have {len(centres)} rows; this needs at least {k + 1}")
    radii = kth_radii(centres, k, dtype, chunk)
    covered = torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    hits = 0
    for tile in inside_balls(points, centres, radii, False, dtype, chunk):
        hits += int(tile.sum())
        covered |= tile.any(0)
    return hits / (k * len(points)), int(covered.sum()) / len(centres)


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; need at least 1 neighbour")


def _share(value: float, count: int) -> Value:
    """A share of so many images, with the binomial's standard error; one of none or of all does not tell its own."""
    return Value(value, (value * (1 - value) / count) ** 0.5 or None)


def _pr(e: Evidence) -> dict[str, Value]:
    generated, real = e.both("pr")
    precision, recall = precision_recall(real, generated, k=3)
    return {
        "precision": _share(precision, len(generated)),
        "recall": _share(recall, len(generated)),
    }


def _dc(e: Evidence) -> dict[str, Value]:
    generated, real = e.both("dc")
    density, coverage = density_coverage(real, generated, k=5)
    return {"density": Value(density), "coverage": _share(coverage, len(generated))}
