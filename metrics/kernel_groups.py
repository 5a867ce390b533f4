"""MMD^2 of two samples, and of what is left of them without one group of rows: for a jackknife of both."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from metrics.features import ArrayLike, as_pair
from metrics.kernel_functions import Kernel

Sums = np.ndarray  # float64


@dataclass(frozen=True)
class GroupedKernel:
    """A kernel summed over the pairs of rows of each two groups: all that MMD^2 without any of them needs.

    Attributes:
        x, y, across: [G, G], sums of k over pairs within x, within y, and of x with y.
        diagonal_x, diagonal_y: [G], sums of k(x_i, x_i) and k(y_i, y_i).
        rows_x, rows_y: [G], rows of each group.
    """

    x: Sums
    y: Sums
    across: Sums
    diagonal_x: Sums
    diagonal_y: Sums
    rows_x: Sums
    rows_y: Sums

    @classmethod
    def of(cls, x: ArrayLike, y: ArrayLike, kernel: Kernel, groups: int) -> "GroupedKernel":
        """Sum a kernel; time is that of one MMD^2, memory goes by the rows of a group times all.

        Args:
            x, y: [m, d] and [n, d], cut into runs of consecutive rows that differ by one row at most.
            kernel: symmetric; ([a, d], [b, d]) -> [a, b].
            groups: G, at least 2, so that two rows of both samples are left without one.
        Raises:
            ValueError: if a sample has too few rows, dimensions differ, or a value is not finite.
        """
        if groups < 2:
            raise ValueError(f"groups is {groups}; leaving one out needs at least 2")
        a, b = as_pair(x, y, ("x", "y"), at_least=max(groups, 3))
        own, diagonal_x = _within(a, kernel, groups)
        other, diagonal_y = _within(b, kernel, groups)
        across = [_by_group(kernel(part, b), groups) for part in a.tensor_split(groups)]
        return cls(
            own, other, np.array(across), diagonal_x, diagonal_y, _rows(a, groups), _rows(b, groups)
        )

    def mmd2(self, unbiased: bool = True, without: int | None = None) -> float:
        """`metrics.kernel.mmd2` of all rows, or of those that the group `without` of both samples lacks."""
        kept = np.arange(len(self.x)) != (-1 if without is None else without)
        x = _mean(self.x, self.diagonal_x, self.rows_x, kept, unbiased)
        y = _mean(self.y, self.diagonal_y, self.rows_y, kept, unbiased)
        pairs = self.rows_x[kept].sum() * self.rows_y[kept].sum()
        return x + y - 2 * float(self.across[np.ix_(kept, kept)].sum() / pairs)


def _within(rows: Tensor, kernel: Kernel, groups: int) -> tuple[Sums, Sums]:
    """Sums of one sample and of its diagonal; each two groups once, as the kernel is symmetric."""
    sums, diagonal = np.zeros([groups, groups]), np.zeros(groups)
    start = 0
    for i, part in enumerate(rows.tensor_split(groups)):
        found = kernel(part, rows[start:])  # with its own group and those that follow
        diagonal[i] = float(found.diagonal().sum())
        sums[i, i:] = sums[i:, i] = _by_group(found, groups - i)
        start += len(part)
    return sums, diagonal


def _by_group(found: Tensor, groups: int) -> Sums:
    """Sums over all rows and the columns of each group: [a, n] -> [groups]."""
    return np.array([float(part.sum()) for part in found.sum(0).tensor_split(groups)])


def _rows(rows: Tensor, groups: int) -> Sums:
    return np.array([float(len(part)) for part in rows.tensor_split(groups)])


def _mean(sums: Sums, diagonal: Sums, rows: Sums, kept: np.ndarray, unbiased: bool) -> float:
    """Mean of k over the pairs of one sample, without or with i = j."""
    total, count = sums[np.ix_(kept, kept)].sum(), rows[kept].sum()
    if unbiased:
        return float((total - diagonal[kept].sum()) / (count * (count - 1)))
    return float(total / count**2)
