"""Error bars against the spread of repeated draws."""

import numpy as np
import pytest
import torch

from metrics.frechet import frechet, statistics_distance
from metrics.gaussian import Gaussian
from metrics.metric import Value
from metrics.statistics import FeatureStatistics, Statistics
from metrics.uncertainty import spread


def statistics(features: np.ndarray) -> Statistics:
    """Mean and covariance of all rows."""
    gathered = FeatureStatistics(features.shape[1], "cpu")
    gathered.update(features)
    return gathered.result()


def measured(features: np.ndarray, reference: Statistics) -> Value:
    """The distance of features, with error and influence."""
    return frechet(
        Gaussian(statistics(features), "own"), Gaussian(reference, "the reference"), features
    )


def influence_of(features: np.ndarray, reference: Statistics) -> torch.Tensor:
    found = measured(features, reference).influence
    assert found is not None
    return found


def error_of(features: np.ndarray, reference: Statistics) -> float:
    found = measured(features, reference).error
    assert found is not None
    return found


def test_one_dimension_in_closed_form() -> None:
    """d^2 = (m - m_r)^2 + (s - s_r)^2; for a Gaussian var(m) = s^2 / N and var(s) = s^2 / 2N, independent."""
    n, shift, s = 200_000, 0.7, 1.5
    x = shift + s * np.random.default_rng(0).standard_normal((n, 1))
    exact = 2 * np.sqrt((shift * s) ** 2 + (s - 1) ** 2 * s**2 / 2) / n**0.5
    assert error_of(x, Statistics(np.zeros(1), np.eye(1))) == pytest.approx(exact, rel=0.02)


def test_it_is_the_jackknife_of_left_out_images() -> None:
    rng = np.random.default_rng(0)
    reference = Statistics(np.zeros(4), np.diag([1.0, 2, 3, 4]))
    x = rng.standard_normal((300, 4)) * [1.5, 1, 2, 1] + 0.3
    left_out = np.array(
        [statistics_distance(statistics(np.delete(x, i, 0)), reference) for i in range(300)]
    )
    jackknife = np.sqrt(299 / 300 * ((left_out - left_out.mean()) ** 2).sum())
    assert error_of(x, reference) == pytest.approx(jackknife, rel=0.02)


@pytest.mark.filterwarnings("ignore:the covariance of the first set is singular")
@pytest.mark.parametrize("count", [3, 12, 13, 60])
def test_the_influence_is_the_formula_for_few_images_too(count: int) -> None:
    """h = 2 (m - m_r) . u + |u|^2 - u^T G u with the whole matrix G; there are 12 features."""
    rng = np.random.default_rng(2)
    y = rng.standard_normal((50, 12)) @ rng.standard_normal((12, 12))
    reference = Statistics(y.mean(0), np.cov(y, rowvar=False))
    x = rng.standard_normal((count, 12)) + 0.3
    root = np.linalg.cholesky(reference.cov)
    values, vectors = np.linalg.eigh(root.T @ np.cov(x, rowvar=False) @ root)
    kept = values > 1e-10 * values[-1]
    w = root @ vectors[:, kept] * values[kept] ** -0.25
    u = x - x.mean(0)
    h = 2 * u @ (x.mean(0) - reference.mean) + (u**2).sum(1) - ((u @ w) ** 2).sum(1)
    np.testing.assert_allclose(
        influence_of(x, reference).numpy(), h - h.mean(), rtol=1e-9, atol=1e-9 * abs(h).max()
    )


def test_the_influence_is_what_each_left_out_image_takes_away() -> None:
    """h_i is the derivative of the distance in the weight of image i: (N - 1) (d - d without i) to order 1 / N."""
    rng = np.random.default_rng(1)
    reference = Statistics(np.array([0.0, 0, 1]), np.array([[1, 0.3, 0], [0.3, 2, 0], [0, 0, 3]]))
    x = rng.standard_normal((2000, 3)) * [1.5, 1, 2] + 0.3
    influence = influence_of(x, reference)
    assert influence.shape == (2000,) and influence.dtype == torch.float64
    assert float(influence.mean()) == pytest.approx(0, abs=1e-12)
    every = statistics_distance(statistics(x), reference)
    taken = [
        1999 * (every - statistics_distance(statistics(np.delete(x, i, 0)), reference))
        for i in range(0, 2000, 50)
    ]
    assert influence[::50].tolist() == pytest.approx(taken, abs=0.01 * float(influence.std()))
    assert error_of(x, reference) == float(influence.std() / 2000**0.5)


def test_it_is_the_spread_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    dim, n = 16, 600
    q = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    scales = np.geomspace(1, 0.1, dim)
    reference = Statistics(np.zeros(dim), (q * scales**2) @ q.T)
    draws = [
        (rng.standard_normal((n, dim)) * 1.2 * scales) @ q.T + 0.3 * q[:, 0] for _ in range(300)
    ]
    values = [statistics_distance(statistics(x), reference) for x in draws]
    error = np.mean([error_of(x, reference) for x in draws[:5]])
    # 300 draws tell their own spread to 4%.
    assert error == pytest.approx(np.std(values, ddof=1), rel=0.15)


@pytest.mark.filterwarnings("ignore:the covariance of:RuntimeWarning")
def test_null_directions_do_not_break_it() -> None:
    x = np.random.default_rng(0).standard_normal((40, 3)) * [1, 2, 0] + [1, 0, 0]
    flat = error_of(x, Statistics(np.zeros(3), np.diag([1.0, 1, 0])))
    assert flat == pytest.approx(error_of(x[:, :2], Statistics(np.zeros(2), np.eye(2))), rel=1e-9)


@pytest.mark.filterwarnings("ignore:the covariance of:RuntimeWarning")
def test_a_reference_or_images_that_are_all_one() -> None:
    """Then the distance is linear in the images, and h is what each is away by, less the mean of that."""
    x = np.random.default_rng(0).standard_normal((40, 3))
    away = ((x - x.mean(0)) ** 2).sum(1) + 2 * (x - x.mean(0)) @ x.mean(0)
    point = Statistics(np.zeros(3), np.zeros((3, 3)))
    assert influence_of(x, point).tolist() == pytest.approx(list(away - away.mean()))
    assert error_of(np.ones((40, 3)), Statistics(np.zeros(3), np.eye(3))) == 0


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features stay float32 but for a block; only so does a large set fit."""
    x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    reference = Statistics(np.ones(3), np.eye(3))
    whole = influence_of(x, reference)
    monkeypatch.setattr("metrics.frechet.BLOCK", 7)
    assert influence_of(x, reference).tolist() == pytest.approx(whole.tolist(), rel=1e-9)
    assert whole.tolist() == pytest.approx(
        influence_of(x.astype(np.float64), reference).tolist(), rel=1e-9
    )


def test_spread_of_disjoint_seed_ranges() -> None:
    summary = spread([2.0, 1.0, 3.0])
    assert (summary.mean, summary.std, summary.least, summary.values) == (
        2.0,
        1.0,
        1.0,
        (2.0, 1.0, 3.0),
    )
    with pytest.raises(ValueError, match="a spread needs at least 2 runs; 1 given"):
        spread([2.0])


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="dimension 2 and 3 cannot be compared"):
        error_of(
            np.random.default_rng(0).standard_normal((9, 2)), Statistics(np.zeros(3), np.eye(3))
        )
    with pytest.raises(ValueError, match="generated features have 1 rows; this needs at least 2"):
        two = Gaussian(Statistics(np.zeros(3), np.eye(3)), "either")
        frechet(two, two, np.zeros((1, 3)))
