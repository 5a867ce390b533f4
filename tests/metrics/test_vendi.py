"""The Vendi score: closed forms, numpy's eigenvalues of the whole kernel, and its error bar."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from metrics.vendi import vendi_score


def by_the_kernel(features: np.ndarray) -> float:
    """As published: the entropy of the eigenvalues of the N x N matrix of cosines."""
    n = len(features)
    kernel = np.empty([n, n])
    for i in range(n):
        for j in range(n):
            a, b = features[i].astype(float), features[j].astype(float)
            kernel[i, j] = a @ b / math.sqrt((a @ a) * (b @ b))
    values = scipy.linalg.eigvalsh(kernel / n)
    values = values[values > 1e-14]
    return math.exp(-float((values * np.log(values)).sum()))


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40), (12, 12), (2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_that_of_the_whole_kernel(n: int, d: int, dtype: type) -> None:
    features = (np.random.RandomState(0).randn(n, d) + 0.5).astype(dtype)
    assert vendi_score(features).value == pytest.approx(by_the_kernel(features), rel=1e-9)


def test_closed_forms() -> None:
    axes = np.eye(5)
    assert vendi_score(axes).value == pytest.approx(5), "nothing in common"
    assert vendi_score(np.repeat(axes[:1], 7, 0)).value == pytest.approx(1), "all one"
    shares = np.array([4, 3, 2, 1]) / 10
    several = np.repeat(axes[:4], [4, 3, 2, 1], 0)
    assert vendi_score(several).value == pytest.approx(math.exp(-(shares @ np.log(shares))))
    # Two at an angle: the eigenvalues are (1 +- cos) / 2.
    angle = 0.7
    pair = np.array([[1, 0], [math.cos(angle), math.sin(angle)]])
    halves = [(1 + math.cos(angle)) / 2, (1 - math.cos(angle)) / 2]
    assert vendi_score(pair).value == pytest.approx(math.exp(-sum(h * math.log(h) for h in halves)))


@pytest.mark.parametrize(("n", "d"), [(30, 4), (8, 20)])
def test_lengths_order_and_copies_count_for_nothing(n: int, d: int) -> None:
    rng = np.random.RandomState(1)
    features = rng.randn(n, d)
    value = vendi_score(features)
    lengths = np.exp(3 * rng.randn(n, 1))
    for other in (features * lengths, features[::-1], np.repeat(features, 3, 0), features * 1e-200):
        assert vendi_score(other.copy()).value == pytest.approx(value.value, rel=1e-9)
    assert value.influence is not None
    moved = vendi_score(features[::-1].copy()).influence
    assert moved is not None and torch.allclose(moved.flip(0), value.influence, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(30, 4), (8, 20)])
def test_the_influence_is_the_derivative_by_an_images_weight(n: int, d: int) -> None:
    features = np.random.RandomState(2).randn(n, d) + np.linspace(0, 1, d)
    value, step = vendi_score(features), 1e-6
    u = features / np.linalg.norm(features, axis=1, keepdims=True)

    def weighted(weights: np.ndarray) -> float:
        rows = u * np.sqrt(weights)[:, None]
        values = scipy.linalg.eigvalsh(rows @ rows.T)
        values = values[values > 1e-14]
        return math.exp(-float((values * np.log(values)).sum()))

    assert value.influence is not None and abs(float(value.influence.mean())) < 1e-9
    for i in range(n):
        more, fewer = np.full(n, (1 - step) / n), np.full(n, (1 + step) / n)
        more[i] += step
        fewer[i] -= step
        slope = (weighted(more) - weighted(fewer)) / (2 * step)
        assert float(value.influence[i]) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_the_error_is_the_jackknifes() -> None:
    features = np.random.RandomState(2).randn(150, 4) + np.arange(4)
    value = vendi_score(features)
    without = np.array([vendi_score(np.delete(features, i, 0)).value for i in range(150)])
    spread = math.sqrt(149 / 150 * np.square(without - without.mean()).sum())
    assert value.error == pytest.approx(spread, rel=0.05)
    assert value.beside == {"vendi_standard_error": value.error}


def test_rows_beyond_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.RandomState(3).randn(50, 4)
    whole = vendi_score(features)
    monkeypatch.setattr("metrics.vendi.BLOCK", 7)
    parts = vendi_score(features)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.influence is not None and whole.influence is not None
    assert torch.allclose(parts.influence, whole.influence)
    features[30] = 0
    with pytest.raises(ValueError, match="the features of image 30 are all 0"):
        vendi_score(features)


def test_what_has_no_score() -> None:
    with pytest.raises(ValueError, match="1 rows; this needs at least 2"):
        vendi_score(np.ones([1, 3]))
    with pytest.raises(ValueError, match="features of image 1 are all 0, which have no direction"):
        vendi_score(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="NaN or infinity, first in row 0"):
        vendi_score(np.full([2, 3], np.nan))
