"""Maximum mean discrepancy (MMD): KID, the paper's IMMD, and the distance of inverted noise from fresh noise."""

import warnings

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike, as_pair
from metrics.kernel_functions import IMQ, RBF, Kernel, Laplace, Polynomial, median_distance
from metrics.metric import Evidence, Value

__all__ = [
    "IMQ", "RBF", "Kernel", "Laplace", "Polynomial", "immd", "kid", "median_distance", "mmd2",
]  # fmt: skip
KID_KERNEL = Polynomial(degree=3, gamma=None, coef0=1.0)


def mmd2(
    x: ArrayLike, y: ArrayLike, kernel: Kernel, unbiased: bool = True, chunk: int = 2048
) -> float:
    r"""Squared maximum mean discrepancy between two samples.

    unbiased   sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 mean k(x_i, y_j)
    V-statistic: the means over all pairs, i = j among them; never negative, and too large by O(1/m + 1/n)

    Reference: Gretton et al., 2012, Eq. 3 and 5, https://jmlr.org/papers/v13/gretton12a.html; Skip-Tuning, Eq. 6

    Args:
        x, y: [m, d] and [n, d], m and n at least 2.
        kernel: symmetric; ([a, d], [b, d]) -> [a, b].
        unbiased: which of the two; the unbiased one can fall below 0.
        chunk: rows of a tile; memory grows by its square, the result stays.
    Returns:
        The estimate, summed in float64.
    Raises:
        ValueError: if a sample has fewer than 2 rows, dimensions differ, or a value is not finite.
    """
    a, b = as_pair(x, y, ("x", "y"), at_least=2)
    cross = sum(float(kernel(p, q).sum()) for p in a.split(chunk) for q in b.split(chunk)) / (
        len(a) * len(b)
    )
    return _within(a, kernel, unbiased, chunk) + _within(b, kernel, unbiased, chunk) - 2 * cross


def kid(
    generated: ArrayLike,
    real: ArrayLike,
    subsets: int = 100,
    subset_size: int = 1000,
    kernel: Kernel = KID_KERNEL,
    seed: int = 2020,
) -> tuple[float, float]:
    """Kernel Inception Distance: the unbiased MMD^2 of random subsets, mean and spread.

    The subsets are those of torch-fidelity for the same seed: each draws from `generated`, then from `real`.

    Reference: Binkowski et al., 2018, section 4, https://arxiv.org/abs/1801.01401

    Args:
        generated, real: [m, d] and [n, d].
        subsets: how many, at least 1.
        subset_size: rows of each, at least 2, drawn without replacement.
        kernel: the published one is the cubic polynomial.
        seed: of the draws.
    Returns:
        (mean, population standard deviation) over subsets.
    Raises:
        ValueError: if a sample is smaller than a subset, dimensions differ, or a value is not finite.
    """
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"{subsets} subsets of {subset_size}; need at least 1 subset of at least 2"
        )
    x, y = as_pair(generated, real, ("generated features", "real features"), at_least=subset_size)
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        p, q = (
            z[torch.from_numpy(rng.choice(len(z), subset_size, replace=False)).to(z.device)]
            for z in (x, y)
        )
        values.append(mmd2(p, q, kernel))
    return float(np.mean(values)), float(np.std(values))


def immd(generated: ArrayLike, real: ArrayLike, bandwidth: float | None = 10.0) -> float:
    """IMMD, the unbiased MMD^2 of Inception features under a Gaussian kernel; not scaled.

    Reference: Skip-Tuning, Table 15, after Jayasumana et al., 2023, https://arxiv.org/abs/2401.09603

    Args:
        generated, real: [m, d] and [n, d].
        bandwidth: 10 as in the second paper (the first states none); None is the median heuristic.
    Raises:
        ValueError: as `mmd2` and `median_distance`.
    """
    return mmd2(
        generated, real, RBF(median_distance(generated, real) if bandwidth is None else bandwidth)
    )


def _within(x: Tensor, kernel: Kernel, unbiased: bool, chunk: int) -> float:
    """Mean of k over pairs of one sample, without or with i = j."""
    total, tiles = 0.0, x.split(chunk)
    for i, p in enumerate(tiles):
        own = kernel(p, p)
        if unbiased:
            # The kernel may keep its own.
            own = own.clone(memory_format=torch.contiguous_format).fill_diagonal_(0)
        total += float(own.sum())
        total += 2 * sum(float(kernel(p, q).sum()) for q in tiles[i + 1 :])
    return total / (len(x) * (len(x) - 1 if unbiased else len(x)))


def _kid(e: Evidence) -> dict[str, Value]:
    generated, real = e.both("kid")
    size = min(1000, len(generated), len(real))
    mean, std = kid(generated, real, subset_size=size)
    beside = {"kid_std": std, "kid_subset_size": size}

    if size == len(generated) == len(real):
        del beside["kid_std"]
        _warn(
            f"kid_std is left out: each subset is all {size} images of both sets, so that there is no spread"
        )
    elif size in (len(generated), len(real)):
        one = "generated" if size == len(generated) else "real"
        _warn(
            f"kid_std is too small: each subset has all {size} {one} images, so that it is the other set's spread"
        )
    return {"kid": Value(mean, beside=beside)}


def _immd_fixed(e: Evidence) -> dict[str, Value]:
    return {"immd_sigma10": Value(immd(*e.both("immd"), 10.0))}


def _immd_median(e: Evidence) -> dict[str, Value]:
    return {"immd_median": Value(immd(*e.both("immd"), None))}


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
