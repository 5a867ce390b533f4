"""Windows (Figure 7): Skip-Tuning in a few steps at a time, to see where along the noise levels it matters."""

import math
from collections.abc import Sequence
from dataclasses import replace

from sampling.sigmas import edm
from skip.scale import SkipScale


def windows(
    num_nodes: int = 52,
    per_window: int = 4,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    exponent: float = 7.0,
) -> list[tuple[float, float]]:
    r"""Ranges of sigma that hold `per_window` nodes of EDM's grid each, highest noise first.

    They follow on one another from infinity down to 0. The bound after node i lies half a step further, at

    ((sigma_i^(1/p) + sigma_{i+1}^(1/p)) / 2)^p

    so rounding, of the nodes or to a network's own levels, moves none into another window. An evaluation belongs to
    the window of its own sigma: where two windows meet, the second one of a Heun step stands at the next node, and
    that of dpm_2 below the bound, so both are the lower window's.

    Reference: Skip-Tuning, section 5.2 (52 = 13 x 4 nodes on [0.002, 80]), https://arxiv.org/abs/2402.15170

    Args:
        num_nodes: N >= 2, the nodes of the grid.
        per_window: at least 1, a divisor of N.
        sigma_min, sigma_max, exponent: of the grid, see `sampling.sigmas.edm`.
    Returns:
        N / per_window pairs (low, high) for `SkipScale.window`, which acts where low < sigma <= high.
    Raises:
        ValueError: if a range above is violated.
    """
    if per_window < 1 or num_nodes < 2 or num_nodes % per_window:
        raise ValueError(
            f"{num_nodes} nodes in windows of {per_window}: need 2 nodes or more, in windows of at least 1 "
            "that divide them evenly"
        )
    halfway = edm(2 * num_nodes - 1, sigma_min, sigma_max, exponent)[1::2].tolist()  # between nodes i and i + 1
    bounds = [math.inf, *halfway[per_window - 1 :: per_window], 0.0]
    return list(zip(bounds[1:], bounds[:-1], strict=True))


def window_scales(scale: SkipScale, bounds: Sequence[tuple[float, float]] | None = None) -> list[SkipScale]:
    """The same coefficients in one window at a time, rho = 1 in all others.

    Args:
        scale: rho without a window.
        bounds: (low, high) of each window; None is the paper's `windows()`.
    Returns:
        One SkipScale a window, in their order.
    Raises:
        ValueError: if `scale` has a window already, or one of `bounds` is empty.
    """
    if scale.window is not None:
        raise ValueError(f"the scale acts in the window {scale.window} already; give one without a window")
    return [replace(scale, window=window) for window in (windows() if bounds is None else bounds)]
