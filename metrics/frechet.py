"""The Frechet distance between Gaussians, and its error bar: FID, where the features are Inception's."""

import warnings

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike, as_features
from metrics.gaussian import Gaussian, spectral_root, symmetric
from metrics.metric import Evidence, Value
from metrics.statistics import Statistics

BLOCK = 4096  # rows that are held in float64 at a time


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

    With C2 = L L^T the last trace is the sum of the square roots of the eigenvalues of the symmetric L^T C1 L, which
    has as many rows as C2 has rank: no square root of a matrix that is not symmetric.

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
    if not (
        m1.ndim == 1
        and len(m1) > 0
        and m1.shape == m2.shape
        and c1.shape == c2.shape == (len(m1), len(m1))
    ):
        shapes = ", ".join(str(list(v.shape)) for v in (m1, c1, m2, c2))
        raise ValueError(
            f"mean1, cov1, mean2, cov2 have shapes {shapes}; need [d], [d, d], [d], [d, d] of one d"
        )
    first = Gaussian(Statistics(m1, c1, count1), "cov1")
    return frechet(first, Gaussian(Statistics(m2, c2, count2), "cov2")).value


def statistics_distance(generated: Statistics, reference: Statistics) -> float:
    """The Frechet distance between two sets of statistics of one detector; with Inception's it is FID.

    Raises:
        ValueError: if dimension or detector differ, or a matrix is no covariance.
    """
    return frechet(Gaussian(generated, "cov1"), Gaussian(reference, "cov2")).value


def frechet(generated: Gaussian, reference: Gaussian, features: ArrayLike | None = None) -> Value:
    r"""The distance and, given the generated features, how much each image pulls at it: its influence function.

    Weighting image i a little more moves the distance in proportion to

        h_i = 2 (m - m_r) . u + |u|^2 - u^T G u,    u = x_i - m,
        G = L (L^T C L)^(-1/2) L^T,    C_r = L L^T

    less the mean of h. To first order, the mean of h over some of the images is what the distance of those images
    alone would add to the distance of all. Two sets made from the same seeds can thus be compared image by image.

    The standard error, std(h) / sqrt(N), is the infinitesimal jackknife: what a jackknife of all N left-out images
    tends to. It is the error of one draw of images with the reference fixed; the bias of few samples is not in it.
    Where the distance is far above that bias it is good to some percent, where it is little else, up to a third large.

    Distance and influence come from one decomposition of L^T C L.

    Reference: as `frechet_distance`; Efron, 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6;
        the derivative of the trace: Bhatia et al., 2019, https://arxiv.org/abs/1712.01504

    Args:
        generated, reference: m, C and m_r, C_r, on one device.
        features: [N, d], those that `generated` is of.
    Returns:
        The distance, and with features its standard error and its influence, float64 [N] in units of the distance.
    Raises:
        ValueError: if dimension or detector differ, a matrix is no covariance, or there are fewer than 2 features.
    """
    generated.statistics.require_comparable(reference.statistics)
    x = None
    if features is not None:
        x = as_features(features, "generated features", dtype=None, at_least=2)
    _warn_of_few(generated, "first")
    _warn_of_few(reference, "second")

    if generated.rank < reference.rank:
        # L^T C L = B B^T with few columns: B^T B has the same eigenvalues but for null directions, whose rounding a
        # square root magnifies; and if v is its eigenvector of w, that of B B^T is B v w^(-1/2).
        right, power = reference.root.T @ generated.root, -0.75
        inner = symmetric(right.T @ right)
    else:
        right, power = None, -0.25
        inner = symmetric(reference.root.T @ generated.cov @ reference.root)
    if x is None:
        values, w = torch.linalg.eigvalsh(inner), None
    else:
        values, vectors = torch.linalg.eigh(inner)
        # G = W W^T; null directions have no derivative, and no weight here.
        w = spectral_root(values, vectors, "the product", power)
        w = reference.root @ (w if right is None else right @ w)

    gap = generated.mean - reference.mean
    traces = generated.cov.trace() + reference.cov.trace() - 2 * values.clamp(min=0).sqrt().sum()
    # Equal Gaussians may end a rounding below.
    distance = max(float(gap.square().sum() + traces), 0.0)
    if x is None or w is None:
        return Value(distance)

    influence = _influence(x, generated.mean, gap, w)
    error = float(influence.std() / len(influence) ** 0.5)
    return Value(distance, error, influence, {"fid_standard_error": error})


def _influence(x: Tensor, mean: Tensor, gap: Tensor, w: Tensor) -> Tensor:
    """h of `frechet`, block by block: features may stay float32, and where they are."""
    parts = []
    for block in x.split(BLOCK):
        u = block.to(mean.device, torch.float64) - mean
        parts.append(2 * (u @ gap) + u.square().sum(1) - (u @ w).square().sum(1))
    influence = torch.cat(parts)
    return influence - influence.mean()


def _warn_of_few(one: Gaussian, which: str) -> None:
    """Say that a covariance is singular."""
    dim, count = one.statistics.dim, one.statistics.count
    if one.rank == dim:
        return
    samples = "" if count is None else f", from N = {count} samples"
    warnings.warn(
        f"the covariance of the {which} set is singular (rank {one.rank} in d = {dim} dimensions{samples}): "
        "the distance is biased upwards, use many more samples than dimensions",
        RuntimeWarning,
        stacklevel=3,
    )


def _float64(value: ArrayLike) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return np.array(value, dtype=np.float64)


def _fid(e: Evidence) -> dict[str, Value]:
    if e.generated is None or e.reference is None:
        raise ValueError(
            "fid needs reference statistics: give those of the real images, or the images themselves"
        )
    return {"fid": frechet(e.generated, e.reference, e.features)}
