"""The Frechet distance between Gaussians: FID, where the features are Inception's."""

import warnings

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike
from metrics.statistics import Statistics

TOLERANCE = 1e-5  # relative: what a covariance kept in float32 may lack of symmetry, or have below 0


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
    has as many rows as C1 has rank: no square root of a matrix that is not symmetric.

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
    if not (m1.ndim == 1 and len(m1) > 0 and m1.shape == m2.shape and c1.shape == c2.shape == (len(m1), len(m1))):
        shapes = ", ".join(str(list(v.shape)) for v in (m1, c1, m2, c2))
        raise ValueError(f"mean1, cov1, mean2, cov2 have shapes {shapes}; need [d], [d, d], [d], [d, d] of one d")
    root1, root2 = square_root(c1, "cov1"), square_root(c2, "cov2")
    for which, root, count in (("first", root1, count1), ("second", root2, count2)):
        if root.shape[1] < len(m1):
            samples = "" if count is None else f", from N = {count} samples"
            warnings.warn(
                f"the covariance of the {which} set is singular (rank {root.shape[1]} in d = {len(m1)} dimensions"
                f"{samples}): the distance is biased upwards, use many more samples than dimensions",
                RuntimeWarning,
                stacklevel=2,
            )
    # The lower rank leaves fewer null directions, whose rounding a square root magnifies.
    root, other = (root1, c2) if root1.shape[1] <= root2.shape[1] else (root2, c1)
    roots = torch.linalg.eigvalsh(symmetric(root.T @ other @ root)).clamp(min=0).sqrt()
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


def square_root(cov: Tensor, name: str) -> Tensor:
    """L with L L^T = cov: Cholesky's factor, or that of the eigenvectors if cov is singular.

    Args:
        cov: symmetric, float64 [d, d].
        name: what the message calls it.
    Returns:
        [d, rank].
    Raises:
        ValueError: if cov is not symmetric or has a clearly negative eigenvalue.
    """
    if (cov - cov.T).abs().max() > TOLERANCE * cov.abs().max():
        raise ValueError(f"{name} is not symmetric, so it is no covariance; make it again")
    values = torch.linalg.eigvalsh(cov)  # a quarter of the time that the eigenvectors take
    factor, failed = torch.linalg.cholesky_ex(cov)
    if values[0] > _rounding(values) and not failed:
        return factor
    return spectral_root(cov, name)


def spectral_root(matrix: Tensor, name: str, power: float = 0.5) -> Tensor:
    """The eigenvectors V whose eigenvalues w stand above rounding, as V diag(w^power).

    Args:
        matrix: symmetric, float64 [d, d].
        name: what the message calls it.
        power: 1/2 makes L with L L^T = matrix, -1/4 makes L with L L^T = its inverse square root.
    Returns:
        [d, rank].
    Raises:
        ValueError: if an eigenvalue is clearly negative.
    """
    if len(matrix) == 0:  # the product with a covariance of zeros
        return matrix
    values, vectors = torch.linalg.eigh(matrix)
    if float(values[0]) < -TOLERANCE * max(float(values[-1]), 0.0):
        raise ValueError(f"{name} has the eigenvalue {float(values[0]):.3g}, so it is no covariance; make it again")
    kept = values > _rounding(values)
    return vectors[:, kept] * values[kept] ** power


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part, free of a product's rounding."""
    return (matrix + matrix.T) / 2


def _rounding(values: Tensor) -> float:
    """What may stand for 0 in a matrix with these eigenvalues."""
    return len(values) * torch.finfo(torch.float64).eps * float(values[-1])


def _float64(value: ArrayLike) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, dtype=np.float64))
    tensor = tensor.detach().cpu().to(torch.float64)
    if not torch.isfinite(tensor).all():
        raise ValueError("a mean or covariance holds NaN or infinity; make the statistics again")
    return tensor
