"""The root of a covariance."""

import numpy as np
import pytest
import torch

from metrics.gaussian import Gaussian, spectral_root, symmetric
from metrics.statistics import Statistics

RANDOM = np.random.RandomState(0)


def gaussian(cov: np.ndarray) -> Gaussian:
    return Gaussian(Statistics(mean=np.zeros(len(cov)), cov=cov), "the covariance")


@pytest.mark.parametrize("samples", [3, 8, 40])
def test_the_root_times_itself_is_the_covariance(samples: int) -> None:
    cov = np.cov(RANDOM.randn(samples, 8), rowvar=False)
    found = gaussian(cov)
    assert found.rank == min(samples - 1, 8)
    assert np.allclose(found.root @ found.root.T, cov, atol=1e-12)


def test_a_covariance_of_zeros_has_no_direction() -> None:
    assert gaussian(np.zeros([4, 4])).root.shape == (4, 0)


def test_what_is_no_covariance_is_named() -> None:
    with pytest.raises(ValueError, match="the covariance is not symmetric"):
        gaussian(np.array([[1.0, 0.5], [0.0, 1.0]])).root  # noqa: B018
    with pytest.raises(ValueError, match="the covariance has the eigenvalue -1"):
        gaussian(np.diag([2.0, -1.0])).root  # noqa: B018


@pytest.mark.parametrize("power", [0.5, -0.25])
def test_the_spectral_root_raises_what_stands_above_rounding(power: float) -> None:
    matrix = torch.from_numpy(np.cov(RANDOM.randn(5, 7), rowvar=False))  # of rank 4
    values, vectors = torch.linalg.eigh(matrix)
    root = spectral_root(values, vectors, "it", power)
    assert root.shape == (7, 4)
    kept = values[-4:] ** (2 * power)
    assert torch.allclose(root @ root.T, vectors[:, -4:] @ kept.diag() @ vectors[:, -4:].T)
    with pytest.raises(ValueError, match="it has the eigenvalue -3"):
        spectral_root(torch.tensor([-3.0, 1.0]), torch.eye(2), "it")


def test_the_symmetric_part() -> None:
    matrix = torch.tensor([[1.0, 4.0], [0.0, 2.0]])
    assert symmetric(matrix).tolist() == [[1.0, 2.0], [2.0, 2.0]]
