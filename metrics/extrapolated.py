"""FID extrapolated to infinitely many generated images, and the bias that FID has with those that there are."""

import warnings

import numpy as np
import torch
from torch import Tensor

from metrics.features import ArrayLike, as_features
from metrics.frechet import BLOCK, frechet
from metrics.gaussian import Gaussian
from metrics.metric import Evidence, Value
from metrics.statistics import FeatureStatistics

CUTS = (1, 2, 3, 4, 5)  # into how many parts the images are cut
LEAST = 10  # images a dimension: two a dimension in the smallest parts
SEED = 2020  # of the order in which the images are dealt out


def frechet_extrapolated(
    features: ArrayLike, reference: Gaussian, whole: Value, seed: int = SEED
) -> tuple[Value, Value]:
    r"""The Frechet distance that infinitely many generated images would have.

    The distance of N images is too large, on average, by a bias in proportion to 1 / N, to first order. So the images,
    in a random order, are cut into m = 1, ..., 5 parts, the distances of the parts of a cut are averaged, and the
    least-squares line through the five means is followed to 1 / N = 0:

        F_m = mean over the parts k of m of d^2(k, reference),    F_m ~ F_inf + c m / N,
        F_inf = sum_m a_m F_m,    a = (0.8, 0.5, 0.2, -0.1, -0.4)

    The reference stays whole, and so does its own bias, that of as many real images as it is of. The paper draws one
    subset of each of 15 sizes. Parts of a cut share no image: each counts alike at every size, the luck of a draw is
    common to all sizes, and the error of F_inf is little larger than that of F_1.

    Errors are those of `metrics.frechet.frechet`: image i pulls at F_inf by sum_m a_m h_i, each h being of the part of
    m that holds the image.

    Reference: Chong and Forsyth, 2020, section 4, https://arxiv.org/abs/1911.07023

    Args:
        features: of the generated images, [N, d].
        reference: mean and covariance of the real images.
        whole: the distance of all of them, F_1, with its influence.
        seed: of the order.
    Returns:
        F_inf, and F_1 - F_inf, the bias of N images; both with error and influence.
    Raises:
        ValueError: if there are fewer than 10 images a dimension, or as `frechet`.
    """
    x = as_features(features, "generated features", dtype=None)
    count = len(x)
    check_count(count, x.shape[1])
    assert whole.influence is not None  # of a distance that was given its features

    order = torch.from_numpy(np.random.default_rng(seed).permutation(count)).to(x.device)
    first, *others = intercept_weights(CUTS)
    value, influence = first * whole.value, first * whole.influence
    for parts, weight in zip(CUTS[1:], others, strict=True):
        for rows in order.tensor_split(parts):
            found = _distance(x[rows], reference)
            assert found.influence is not None
            value += weight / parts * found.value
            # A mean over all images, of which this part has its share.
            influence[rows] += weight * count / (parts * len(rows)) * found.influence

    bias = whole.influence - influence
    return _value("fid_inf", value, influence), _value("fid_bias", whole.value - value, bias)


def check_count(count: int, dim: int) -> None:
    """Refuse too few images for so many features.

    Raises:
        ValueError: if there are fewer than 10 images a feature.
    """
    if count < LEAST * dim:
        raise ValueError(
            f"fid_inf needs ten images for each of the {dim:,} features, {LEAST * dim:,} or more; {count:,} given"
        )


def intercept_weights(x: tuple[int, ...]) -> list[float]:
    """What each ordinate adds to the height at 0 of the least-squares line through points at `x`; the sum is 1."""
    places = np.array(x, dtype=np.float64)
    centred = places - places.mean()
    return (1 / len(places) - places.mean() * centred / (centred @ centred)).tolist()


def _distance(x: Tensor, reference: Gaussian) -> Value:
    """The distance of some of the images."""
    gathered = FeatureStatistics(x.shape[1], reference.mean.device)
    for block in x.split(BLOCK):
        gathered.update(block)
    generated = Gaussian(gathered.result(), "the covariance of a part", reference.mean.device)
    with warnings.catch_warnings():
        # Of a singular covariance, which that of all images told.
        warnings.simplefilter("ignore", RuntimeWarning)
        return frechet(generated, reference, x)


def _value(name: str, value: float, influence: Tensor) -> Value:
    error = float(influence.std() / len(influence) ** 0.5)
    return Value(value, error, influence, {f"{name}_standard_error": error})


def _fid_inf(e: Evidence) -> dict[str, Value]:
    if e.generated is None or e.reference is None or e.features is None:
        raise ValueError(
            "fid_inf needs reference statistics: give those of the real images, or the images themselves"
        )
    whole = frechet(e.generated, e.reference, e.features)
    extrapolated, bias = frechet_extrapolated(e.features, e.reference, whole)
    return {"fid_inf": extrapolated, "fid_bias": bias}
