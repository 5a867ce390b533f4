"""The Frechet distance between Gaussians: FID, where the features are Inception's."""

import warnings

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike
from metrics.statistics import Statistics


def frechet_distance(
    mean1: ArrayLike,
    cov1: ArrayLike,
    mean2: ArrayLike,
    cov2: ArrayLike,
    count1: int | None = None,
    count2: int | None = None,
) -> float:
    r"""Squared 2-Wasserstein distance between two Gaussians.

    d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)

    With C1 = L L^T the last trace is the sum of the square roots of the eigenvalues of the symmetric L^T C2 L, which
    has as many rows as C1 has rank; no matrix square root is needed.

    Reference: Dowson and Landau, 1982, Eq. 4; Heusel et al., 2017, Eq. 6, https://arxiv.org/abs/1706.08500

    Args:
        mean1, mean2: [d].
        cov1, cov2: [d, d], symmetric.
        count1, count2: how many samples the covariances are from; only for the warning.
    Returns:
        The distance, at least 0.
    Raises:
        ValueError: if shapes differ, a value is not finite, or a matrix is no covariance.

    Warns where a covariance is singular, as it is when it has no more samples than dimensions: the value is that of the
    formula, but much of it is the bias of few samples.
    """
    m1, c1, m2, c2 = (_float64(value) for value in (mean1, cov1, mean2, cov2))
    if not (m1.ndim == 1 and m1.shape == m2.shape and c1.shape == c2.shape == (len(m1), len(m1))):
        shapes = ", ".join(str(list(v.shape)) for v in (m1, c1, m2, c2))
        raise ValueError(f"mean1, cov1, mean2, cov2 have shapes {shapes}; need [d], [d, d], [d], [d, d] of one d")
    ranks = [numerical_rank(torch.linalg.eigvalsh(c), name) for c, name in ((c1, "cov1"), (c2, "cov2"))]
    for which, rank, count in (("first", ranks[0], count1), ("second", ranks[1], count2)):
        if rank < len(m1):
            samples = "" if count is None else f", from N = {count} samples"
            warnings.warn(
                f"the covariance of the {which} set is singular (rank {rank} in d = {len(m1)} dimensions{samples}): "
                "the distance is biased upwards, use many more samples than dimensions",
                RuntimeWarning,
                stacklevel=2,
            )
    low, high = (c1, c2) if ranks[0] <= ranks[1] else (c2, c1)  # fewer null directions, whose noise a root magnifies
    factor = square_root(low)
    roots = torch.linalg.eigvalsh(symmetric(factor.T @ high @ factor)).clamp(min=0).sqrt()
    distance = (m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * roots.sum()
    return max(float(distance), 0.0)  # equal Gaussians may end a rounding below


def statistics_distance(generated: Statistics, reference: Statistics) -> float:
    """The Frechet distance between two sets of statistics of one detector; with Inception's it is FID.

    Raises:
        ValueError: if dimension or detector differ, or a matrix is no covariance.
    """
    generated.require_comparable(reference)
    return frechet_distance(
        generated.mean, generated.cov, reference.mean, reference.cov, generated.count, reference.count
    )


def square_root(cov: Tensor) -> Tensor:
    """L with L L^T = cov, float64 [d, rank]."""
    values, vectors = torch.linalg.eigh(cov)
    rank = numerical_rank(values, "cov")
    return vectors[:, len(values) - rank :] * values[len(values) - rank :].sqrt()


def numerical_rank(eigenvalues: Tensor, name: str) -> int:
    """How many eigenvalues, in increasing order, stand above rounding.

    Raises:
        ValueError: if one is clearly negative.
    """
    largest = float(eigenvalues[-1])
    if float(eigenvalues[0]) < -1e-5 * max(largest, 0.0):  # float32 files have some at -1e-7
        raise ValueError(
            f"{name} has the eigenvalue {float(eigenvalues[0]):.3g}, so it is no covariance; make it again"
        )
    return int((eigenvalues > len(eigenvalues) * torch.finfo(torch.float64).eps * largest).sum())


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part, free of a product's rounding."""
    return (matrix + matrix.T) / 2


def _float64(value: ArrayLike) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, dtype=np.float64))
    tensor = tensor.detach().cpu().to(torch.float64)
    if not torch.isfinite(tensor).all():
        raise ValueError("a mean or covariance holds NaN or infinity; make the statistics again")
    return tensor
