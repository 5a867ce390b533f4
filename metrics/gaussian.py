"""A Gaussian as metrics need it: mean, covariance, and the root of the covariance, each decomposition made once."""

from functools import cached_property

import torch
from torch import Tensor

from metrics.statistics import Statistics

TOLERANCE = 1e-5  # relative: what a covariance kept in float32 may lack of symmetry, or have below 0


class Gaussian:
    """Statistics on one device, with what distances between them need.

    Decompositions are made when they are first asked for, and kept.

    Args:
        statistics: mean and covariance.
        name: what messages call the covariance.
        device: where decompositions are made; the CPU takes the place of one without float64 (mps).
    Attributes:
        mean, cov: float64 [d], [d, d].
    """

    def __init__(self, statistics: Statistics, name: str, device: str | torch.device = "cpu") -> None:
        self.statistics, self.name = statistics, name
        place = "cpu" if torch.device(device).type == "mps" else device
        self.mean = torch.from_numpy(statistics.mean).to(place, torch.float64)
        self.cov = torch.from_numpy(statistics.cov).to(place, torch.float64)

    @cached_property
    def eigenvalues(self) -> Tensor:
        """Of the covariance, ascending [d].

        Raises:
            ValueError: if the covariance is not symmetric.
        """
        if (self.cov - self.cov.T).abs().max() > TOLERANCE * self.cov.abs().max():
            raise ValueError(f"{self.name} is not symmetric, so it is no covariance; make it again")
        return torch.linalg.eigvalsh(self.cov)  # a quarter of the time that the eigenvectors take

    @cached_property
    def rank(self) -> int:
        """How many eigenvalues stand above rounding.

        Raises:
            ValueError: if one is clearly negative.
        """
        _refuse_negative(self.eigenvalues, self.name)
        return int((self.eigenvalues > _rounding(self.eigenvalues)).sum())

    @cached_property
    def root(self) -> Tensor:
        """L with L L^T = C: Cholesky's factor, or that of the eigenvectors if C is singular; [d, rank].

        Raises:
            ValueError: if it is no covariance.
        """
        if self.rank == len(self.cov):
            factor, failed = torch.linalg.cholesky_ex(self.cov)
            if not failed:
                return factor
        values, vectors = torch.linalg.eigh(self.cov)
        return spectral_root(values, vectors, self.name)


def spectral_root(values: Tensor, vectors: Tensor, name: str, power: float = 0.5) -> Tensor:
    """The eigenvectors V whose eigenvalues w stand above rounding, as V diag(w^power).

    Args:
        values, vectors: of a symmetric matrix, [d] ascending and [d, d].
        name: what the message calls the matrix.
        power: 1/2 makes L with L L^T = matrix, -1/4 makes L with L L^T = its inverse square root.
    Returns:
        [d, rank].
    Raises:
        ValueError: if an eigenvalue is clearly negative.
    """
    if len(values) == 0:  # the product with a covariance of zeros
        return vectors
    _refuse_negative(values, name)
    kept = values > _rounding(values)
    return vectors[:, kept] * values[kept] ** power


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part, free of a product's rounding."""
    return (matrix + matrix.T) / 2


def _refuse_negative(values: Tensor, name: str) -> None:
    least, largest = float(values[0]), float(values[-1])
    if least < -TOLERANCE * max(largest, 0.0):
        raise ValueError(f"{name} has the eigenvalue {least:.3g}, so it is no covariance; make it again")


def _rounding(values: Tensor) -> float:
    """What may stand for 0 in a matrix with these eigenvalues."""
    return len(values) * torch.finfo(torch.float64).eps * float(values[-1])
