"""Error bars: how far a distance would move with other seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike, as_features
from metrics.frechet import spectral_root, square_root, symmetric
from metrics.statistics import FeatureStatistics, Statistics

BLOCK = 4096  # rows that are held in float64 at a time


@dataclass(frozen=True)
class Spread:
    """What several runs with disjoint seeds gave.

    Args:
        mean: of the runs.
        std: sample standard deviation (divided by n - 1), the error of one run.
        least: the smallest, which EDM reports of three.
        values: all, in order.
    """

    mean: float
    std: float
    least: float
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """Sum up one metric over disjoint seed ranges.

    Raises:
        ValueError: if fewer than 2 values are given.
    """
    if len(values) < 2:
        raise ValueError(f"a spread needs at least 2 runs; {len(values)} given")
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), min(values), tuple(values))


def frechet_influence(generated: ArrayLike, reference: Statistics) -> Tensor:
    r"""How much each image pulls at the Frechet distance: the distance's influence function.

    Weighting image i a little more moves the distance in proportion to

        h_i = 2 (m - m_r) . u + |u|^2 - u^T G u,    u = x_i - m,
        G = L (L^T C L)^(-1/2) L^T,    C_r = L L^T

    less the mean of h. To first order, the mean of h over some of the images is what the distance of those images
    alone would add to the distance of all. Two sets made from the same seeds can thus be compared image by image.

    Reference: Efron, 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6;
        the derivative of the trace: Bhatia et al., 2019, https://arxiv.org/abs/1712.01504

    Args:
        generated: [N, d].
        reference: of the same dimension.
    Returns:
        float64 [N] with mean 0, in units of the distance, in the order of `generated`.
    Raises:
        ValueError: if there are fewer than 2 rows, dimensions differ, or a value is not finite.
    """
    blocks = as_features(generated, "generated features", dtype=None, at_least=2).cpu().split(BLOCK)
    gathered = FeatureStatistics(blocks[0].shape[1], "cpu")
    for block in blocks:
        gathered.update(block)
    own = gathered.result()
    own.require_comparable(reference)
    mean, cov = torch.from_numpy(own.mean), torch.from_numpy(own.cov)
    root = square_root(torch.from_numpy(reference.cov), "the reference covariance")
    # G = W W^T; null directions have no derivative, and no weight here.
    w = root @ spectral_root(symmetric(root.T @ cov @ root), "the product", power=-0.25)
    gap = 2 * (mean - torch.from_numpy(reference.mean))
    centred = (block - mean for block in blocks)  # float64, as the mean is
    influence = torch.cat([u @ gap + u.square().sum(1) - (u @ w).square().sum(1) for u in centred])
    return influence - influence.mean()


def frechet_standard_error(generated: ArrayLike, reference: Statistics) -> float:
    """Standard error of the Frechet distance by the infinitesimal jackknife, from one set of features.

    It is std(h) / sqrt(N) with h of `frechet_influence`: what a jackknife of all N left-out images tends to, at the
    price of one distance. It is the error of one draw of images with the reference fixed; the bias of few samples is
    not in it. Where the distance is far above that bias it is good to some percent, where it is little else, up to a
    third large.

    Args:
        generated: [N, d].
        reference: of the same dimension.
    Returns:
        The standard error, in units of the distance.
    Raises:
        ValueError: as `frechet_influence`.
    """
    influence = frechet_influence(generated, reference)
    return float(influence.std() / len(influence) ** 0.5)
