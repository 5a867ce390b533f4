"""A Gaussian as metrics need it: mean, covariance, and the root of the covariance, factorized once."""

from functools import cached_property

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

from metrics.statistics import Statistics

# Relative: what a covariance kept in float32 may lack of symmetry, or have below 0.
TOLERANCE = 1e-5


class Gaussian:
    """Statistics on one device, with what distances between them need.

    The root is found when it is first asked for, and kept.

    Args:
        statistics: mean and covariance.
        name: what messages call the covariance.
        device: of the attributes; the CPU takes the place of one without float64 (mps).
    Attributes:
        mean, cov: float64 [d], [d, d].
    """

    def __init__(
        self, statistics: Statistics, name: str, device: str | torch.device = "cpu"
    ) -> None:
        self.statistics, self.name = statistics, name
        place = "cpu" if torch.device(device).type == "mps" else device
        self.mean = torch.from_numpy(statistics.mean).to(place, torch.float64)
        self.cov = torch.from_numpy(statistics.cov).to(place, torch.float64)

    @property
    def rank(self) -> int:
        """How many directions have a variance above rounding."""
        return self.root.shape[1]

    @cached_property
    def root(self) -> Tensor:
        """L with L L^T = C: Cholesky's factor with complete pivoting, which stops where only rounding is left.

        The time that it takes falls with the rank: a covariance of few samples is as good as free.

        Reference: Higham, 2002, Accuracy and Stability of Numerical Algorithms, section 10.3; LAPACK's dpstrf

        Returns:
            [d, rank].
        Raises:
            ValueError: if it is no covariance.
        """
        cov = self.cov.cpu().numpy()  # torch has no such factorization
        largest = float(np.abs(cov).max())
        if np.abs(cov - cov.T).max() > TOLERANCE * largest:
            raise ValueError(f"{self.name} is not symmetric, so it is no covariance; make it again")

        # Of the matrix with its rows and columns in `order`.
        factor, order, rank, _ = lapack.dpstrf(cov, lower=1)
        root = np.empty([len(cov), rank])
        root[order - 1] = np.tril(factor)[:, :rank]
        if rank < len(cov) and np.abs(root @ root.T - cov).max() > TOLERANCE * largest:
            least = float(np.linalg.eigvalsh(cov)[0])
            raise ValueError(
                f"{self.name} has the eigenvalue {least:.3g}, so it is no covariance; make it again"
            )
        return torch.from_numpy(root).to(self.cov.device)


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
    least, largest = float(values[0]), float(values[-1])
    if least < -TOLERANCE * max(largest, 0.0):
        raise ValueError(
            f"{name} has the eigenvalue {least:.3g}, so it is no covariance; make it again"
        )
    kept = values > len(values) * torch.finfo(torch.float64).eps * largest
    return vectors[:, kept] * values[kept] ** power


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part, free of a product's rounding."""
    return (matrix + matrix.T) / 2
