"""The Frechet distance: closed forms, scipy's matrix square root, the reference vectors."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import golden_json, golden_npz

from metrics.frechet import frechet_distance, statistics_distance
from metrics.statistics import FeatureStatistics, Statistics


def statistics(features: np.ndarray) -> Statistics:
    """Mean and covariance of all rows."""
    gathered = FeatureStatistics(features.shape[1], "cpu")
    gathered.update(features)
    return gathered.result()


def covariance(dim: int, seed: int, smallest: float) -> np.ndarray:
    """A random rotation of eigenvalues from 1 down to `smallest`."""
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    cov = (q * np.geomspace(1, smallest, dim)) @ q.T
    return (cov + cov.T) / 2


def test_equal_covariances_leave_the_squared_distance_of_means() -> None:
    cov = covariance(30, 0, 1e-3)
    mean = np.linspace(0, 1, 30)
    assert frechet_distance(mean, cov, mean + 2.0, cov) == pytest.approx(120.0, rel=1e-12)
    for seed in range(5):  # some end a rounding below 0
        cov = covariance(30, seed, 1e-3)
        assert 0 <= frechet_distance(mean, cov, mean, cov) < 1e-12


def test_gaussians_of_one_dimension_and_commuting_ones() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2, for each axis of the eigenvectors."""
    one = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([-2.0]), np.array([[25.0]]))
    assert one == pytest.approx(9 + 9, rel=1e-14)
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    s1, s2 = np.array([1.0, 2, 3]), np.array([5.0, 4, 0.5])
    several = frechet_distance(np.zeros(3), (q * s1**2) @ q.T, np.zeros(3), (q * s2**2) @ q.T)
    assert several == pytest.approx(((s1 - s2) ** 2).sum(), rel=1e-13)


@pytest.mark.parametrize("dim", [5, 100])
def test_agrees_with_scipys_square_root(dim: int) -> None:
    c1, c2 = covariance(dim, 1, 1e-3), 1.5 * covariance(dim, 2, 1e-2)
    mean = np.full(dim, 0.1)
    root = scipy.linalg.sqrtm(c1 @ c2)
    expected = mean @ mean + np.trace(c1 + c2 - 2 * root.real)
    # 1e-6 asked for.
    assert frechet_distance(mean, c1, np.zeros(dim), c2) == pytest.approx(expected, rel=1e-9)
    torch_value = frechet_distance(*(torch.from_numpy(v) for v in (mean, c1, np.zeros(dim), c2)))
    swapped = frechet_distance(np.zeros(dim), c2, mean, c1)
    assert (
        torch_value
        == frechet_distance(mean, c1, np.zeros(dim), c2)
        == pytest.approx(swapped, rel=1e-12)
    )


def test_equals_the_reference_vectors() -> None:
    stored, expected = golden_npz("metrics"), golden_json("metrics")
    generated, real = (statistics(stored[f"features_{name}"]) for name in ("generated", "real"))
    value = statistics_distance(generated, real)
    for key in (
        "fid_scipy_sqrtm_float64",
        "fid_edm_accumulation_float64",
        "fid_torch_fidelity_float64_features",
    ):
        assert value == pytest.approx(expected[key], rel=1e-9)
    assert value == pytest.approx(expected["fid_torch_fidelity_float32_features"], rel=1e-6)


def test_singular_covariances_give_the_right_value_and_a_warning() -> None:
    """With centred features X and Y of few rows, the trace is the sum of singular values of X Y^T: no root of noise."""
    stored, expected = golden_npz("metrics"), golden_json("metrics")["fid_rank_deficient"]
    x = stored["features_generated"][:32].astype(float)
    y = stored["features_real"][:37].astype(float)
    with pytest.warns(RuntimeWarning) as caught:
        value = statistics_distance(statistics(x), statistics(y))
    assert [str(w.message).split(":")[0] for w in caught] == [
        "the covariance of the first set is singular (rank 31 in d = 64 dimensions, from N = 32 samples)",
        "the covariance of the second set is singular (rank 36 in d = 64 dimensions, from N = 37 samples)",
    ]
    u, v = (x - x.mean(0)) / 31**0.5, (y - y.mean(0)) / 36**0.5
    traces = (u**2).sum() + (v**2).sum() - 2 * np.linalg.svd(u @ v.T, compute_uv=False).sum()
    assert value == pytest.approx(((x.mean(0) - y.mean(0)) ** 2).sum() + traces, rel=1e-12)
    assert value == pytest.approx(expected["value_scipy_sqrtm"], rel=1e-6)
    assert value == pytest.approx(expected["value_torch_fidelity_eig"], rel=1e-6)


def test_point_masses_and_dead_features() -> None:
    with pytest.warns(RuntimeWarning, match="rank 0 in d = 2"):
        assert (
            frechet_distance(np.zeros(2), np.zeros((2, 2)), np.array([3.0, 4]), np.zeros((2, 2)))
            == 25
        )
    alive = np.diag([1.0, 4.0, 0.0])
    with pytest.warns(RuntimeWarning, match="rank 2 in d = 3 dimensions\\)"):
        assert frechet_distance(np.zeros(3), alive, np.zeros(3), np.eye(3)) == pytest.approx(
            0 + 1 + 1
        )


def test_a_covariance_singular_by_a_hair_is_seen() -> None:
    """N = d: of these, Cholesky's factorisation takes some, with a last pivot that is all rounding."""
    taken = 0
    for seed in range(30):
        cov = np.cov(np.random.default_rng(seed).standard_normal((40, 40)), rowvar=False)
        taken += int(torch.linalg.cholesky_ex(torch.from_numpy(cov)).info == 0)
        with pytest.warns(RuntimeWarning, match="rank 39 in d = 40"):
            frechet_distance(np.zeros(40), cov, np.zeros(40), np.eye(40))
    assert taken > 0


def test_full_rank_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(
            np.zeros(20), covariance(20, 0, 1e-8), np.zeros(20), covariance(20, 1, 1e-8)
        )


def test_float32_files_are_good_enough() -> None:
    """Rounding leaves a singular covariance with negative eigenvalues, and not quite symmetric."""
    x = np.random.default_rng(0).standard_normal((20, 30))
    exact, rounded = np.cov(x, rowvar=False), np.cov(x, rowvar=False).astype(np.float32)
    rounded[3, 4] *= 1 + 1e-6
    assert np.linalg.eigvalsh(rounded.astype(float))[0] < 0
    with pytest.warns(RuntimeWarning, match="singular"):
        values = [
            frechet_distance(np.zeros(30), cov, np.zeros(30), np.eye(30))
            for cov in (exact, rounded)
        ]
    assert values[1] == pytest.approx(values[0], rel=1e-3)


def test_what_is_refused() -> None:
    mean, cov = np.zeros(2), np.eye(2)
    with pytest.raises(ValueError, match=r"have shapes \[2\], \[2, 2\], \[3\], \[3, 3\]; need"):
        frechet_distance(mean, cov, np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match=r"have shapes \[0\], \[0, 0\], .*; need \[d\]"):
        frechet_distance(np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_distance(mean, cov, mean, cov * np.nan)
    with pytest.raises(ValueError, match="cov2 has the eigenvalue -2, so it is no covariance"):
        frechet_distance(mean, cov, mean, np.diag([1.0, -2.0]))
    with pytest.raises(ValueError, match="cov1 is not symmetric"):
        frechet_distance(mean, np.array([[1.0, 0.5], [0.0, 1.0]]), mean, cov)
    with pytest.raises(ValueError, match="detector inception and demo cannot be compared"):
        statistics_distance(
            Statistics(mean, cov, detector="inception"), Statistics(mean, cov, detector="demo")
        )
