"""Error bars from repetition: how far a value moves with other seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
