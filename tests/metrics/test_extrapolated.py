"""FID without end: scipy's and numpy's answer, Gaussians whose bias is known, and whether its errors are honest."""

from functools import cache

import numpy as np
import pytest
import scipy.linalg
import torch

from metrics.extrapolated import SEED, frechet_extrapolated, intercept_weights
from metrics.frechet import frechet
from metrics.gaussian import Gaussian
from metrics.measure import measure
from metrics.metric import Evidence, Value
from metrics.statistics import FeatureStatistics, Statistics

DIM, COUNT, DRAWS = 4, 400, 40
MEAN = np.array(
    [0.16, 0.0, 0.0, 0.12]
)  # of the generated ones; the reference is the standard Gaussian itself


def standard(dim: int) -> Gaussian:
    return Gaussian(Statistics(np.zeros(dim), np.eye(dim)), "the reference")


def whole(x: np.ndarray, reference: Gaussian) -> Value:
    gathered = FeatureStatistics(x.shape[1], "cpu")
    gathered.update(x)
    return frechet(Gaussian(gathered.result(), "the images"), reference, x)


def test_is_the_intercept_of_a_line_through_scipys_distances() -> None:
    x = np.random.default_rng(0).standard_normal((61, 3)) * [1, 2, 0.5] + 0.3
    mean, cov = np.array([0.1, 0, 0]), np.diag([1.0, 3, 0.2])

    def distance(rows: np.ndarray) -> float:
        gap, own = rows.mean(0) - mean, np.cov(rows.T)
        return gap @ gap + np.trace(own + cov - 2 * scipy.linalg.sqrtm(own @ cov).real)

    order = np.random.default_rng(SEED).permutation(61)
    cuts = range(1, 6)
    heights = [np.mean([distance(x[part]) for part in np.array_split(order, m)]) for m in cuts]
    _, intercept = np.polyfit(cuts, heights, 1)

    reference = Gaussian(Statistics(mean, cov), "the reference")
    found, bias = frechet_extrapolated(x, reference, whole(x, reference))
    assert found.value == pytest.approx(intercept, rel=1e-9)
    assert bias.value == pytest.approx(distance(x) - intercept, rel=1e-9)
    assert found.value != pytest.approx(distance(x), rel=0.01)


def test_the_weights_follow_a_line_to_0() -> None:
    weights = np.array(intercept_weights((1, 2, 3, 4, 5)))
    np.testing.assert_allclose(weights, [0.8, 0.5, 0.2, -0.1, -0.4], atol=1e-14)
    assert weights @ (7 - 3 * np.arange(1, 6)) == pytest.approx(7)


@cache
def draws() -> np.ndarray:
    """Of many sets of images: FID, FID without end and its error, the bias."""
    reference, random = standard(DIM), np.random.default_rng(1)
    rows = []
    for _ in range(DRAWS):
        x = random.standard_normal((COUNT, DIM)) + MEAN
        fid = whole(x, reference)
        found, bias = frechet_extrapolated(x, reference, fid)
        rows.append((fid.value, found.value, found.error, bias.value))
    return np.array(rows)


def test_the_bias_of_gaussians_is_found() -> None:
    """To first order it is d / N of the mean, and d (d + 1) / 4 N of the covariance."""
    fid, found, _, bias = draws().mean(0)
    expected, true = (DIM + DIM * (DIM + 1) / 4) / COUNT, MEAN @ MEAN
    assert bias == pytest.approx(expected, rel=0.15)
    assert fid - true > 0.6 * expected
    assert abs(found - true) < 0.4 * (fid - true)


def test_its_error_is_that_of_other_draws() -> None:
    _, found, error, _ = draws().T
    assert np.std(found, ddof=1) == pytest.approx(error.mean(), rel=0.25)


def test_the_influence_is_a_derivative() -> None:
    """It is a derivative: moving an image moves the value by as much as the image's influence changes, over N."""
    random = np.random.default_rng(2)
    x, reference = random.standard_normal((200, 2)) + 0.7, standard(2)
    found, bias = frechet_extrapolated(x, reference, whole(x, reference))
    assert found.influence is not None and bias.influence is not None
    assert float(found.influence.sum()) == pytest.approx(0, abs=1e-9)
    sums = found.influence + bias.influence
    torch.testing.assert_close(sums, whole(x, reference).influence)
    moved = x.copy()
    moved[7] += 1e-6 * np.array([1.0, 0.0])
    again, _ = frechet_extrapolated(moved, reference, whole(moved, reference))
    assert again.influence is not None
    slope = (again.value - found.value) * len(x) / 1e-6
    assert slope == pytest.approx(float(again.influence[7] - found.influence[7]) / 1e-6, rel=0.05)


def test_as_a_metric() -> None:
    x = np.random.default_rng(3).standard_normal((100, 2))
    reference = standard(2)
    gathered = FeatureStatistics(2, "cpu")
    gathered.update(x)
    generated = Gaussian(gathered.result(), "the images")
    evidence = Evidence(generated, reference, torch.from_numpy(x))
    found = measure(["fid", "fid_inf"], evidence, "inception-2015-12-05")
    values = found.values
    assert list(values) == [
        "fid", "fid_standard_error", "fid_inf", "fid_inf_standard_error", "fid_bias",
        "fid_bias_standard_error",
    ]  # fmt: skip
    assert values["fid"] == pytest.approx(values["fid_inf"] + values["fid_bias"], rel=1e-12)
    again = measure(["fid_inf"], evidence, "inception-2015-12-05")
    assert again.values["fid_inf"] == values["fid_inf"], "the order is fixed"
    with pytest.raises(ValueError, match="fid_inf needs reference statistics"):
        measure(["fid_inf"], Evidence(features=x), "inception-2015-12-05")


def test_too_few_images_are_refused() -> None:
    reference = standard(DIM)
    x = np.random.default_rng(0).standard_normal((39, DIM))
    with pytest.raises(ValueError, match="each of the 4 features, 40 or more; 39 given"):
        frechet_extrapolated(x, reference, whole(x, reference))
