"""Windows: every node in one of them, and all of them together are Skip-Tuning without a window."""

import math
from itertools import pairwise

import pytest
import torch

from sampling.samplers import SAMPLERS
from sampling.sigmas import edm
from skip.scale import SkipScale
from skip.studies.window import window_scales, windows


def held(bounds: list[tuple[float, float]], sigma: float) -> list[int]:
    """The windows that hold sigma, by SkipScale's own rule, in float32 as a network is told it."""
    scales = window_scales(SkipScale(0.5, 0.5), bounds)
    return [i for i, scale in enumerate(scales) if scale(1, torch.tensor(sigma, dtype=torch.float32)).item() == 0.5]


def test_the_papers_windows_hold_four_nodes_each() -> None:
    bounds = windows()
    assert len(bounds) == 13
    assert [held(bounds, sigma) for sigma in edm(52, 0.002, 80.0).tolist()] == [[i // 4] for i in range(52)]


@pytest.mark.parametrize(
    ("nodes", "size", "grid"), [(12, 3, (0.03, 9.0, 3.0)), (5, 1, (0.002, 80.0, 7.0)), (6, 6, (0.002, 80.0, 7.0))]
)
def test_other_grids(nodes: int, size: int, grid: tuple[float, float, float]) -> None:
    bounds = windows(nodes, size, *grid)
    assert len(bounds) == nodes // size
    assert [held(bounds, sigma) for sigma in edm(nodes, *grid).tolist()] == [[i // size] for i in range(nodes)]


def test_they_leave_no_gap_from_infinity_to_zero() -> None:
    bounds = windows()
    assert bounds[0][1] == math.inf and bounds[-1][0] == 0
    assert all(upper[0] == lower[1] for upper, lower in pairwise(bounds))
    assert all(low < high for low, high in bounds)


def test_a_bound_is_half_a_step_from_its_neighbours() -> None:
    steps = torch.tensor([low for low, _ in windows()[:-1]], dtype=torch.float64) ** (1 / 7)
    nodes = edm(52, 0.002, 80.0) ** (1 / 7)
    assert steps.tolist() == pytest.approx(((nodes[3:-1:4] + nodes[4::4]) / 2).tolist(), rel=1e-12)


@pytest.mark.parametrize("scale", [SkipScale(0.7, 0.9), SkipScale(0.6, 0.8, "inclusive", time="decreasing")])
def test_one_window_at_a_time_adds_up_to_all(scale: SkipScale) -> None:
    """At every node one window has rho of the scale without a window, and all others have 1."""
    sigma = edm(52, 0.002, 80.0)
    tuned = torch.stack([part(16, sigma) for part in window_scales(scale)])  # (13, 52, 16)
    own = torch.arange(52) // 4
    assert torch.equal(tuned[own, torch.arange(52)], scale(16, sigma))
    untuned = torch.arange(13)[:, None] != own
    assert (tuned[untuned] == 1).all() and untuned.sum() == 12 * 52
    assert (scale(16, sigma)[1:-1] < 1).all()


@pytest.mark.parametrize(
    ("sampler", "expected"), [("heun", [7] + [8] * 12), ("euler", [4] * 13), ("dpm_2", [7] + [8] * 12)]
)
def test_evaluations_are_assigned_by_their_own_sigma(sampler: str, expected: list[int]) -> None:
    """Two at every node but the first of all, as the step to 0 takes one; dpm_2's middles fall to the lower window."""
    seen = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma))
        return 0 * x

    SAMPLERS[sampler](denoise, torch.ones(1, 1, dtype=torch.float64), torch.cat([edm(52, 0.002, 80.0), torch.zeros(1)]))
    found = [held(windows(), sigma) for sigma in seen]
    assert all(len(window) == 1 for window in found)
    assert [found.count([i]) for i in range(13)] == expected


def test_what_is_refused() -> None:
    for nodes, size, message in [
        (51, 4, "51 nodes in windows of 4"),
        (52, 0, "52 nodes in windows of 0"),
        (1, 1, "1 nodes in windows of 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            windows(nodes, size)
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        windows(sigma_min=90.0)
    with pytest.raises(ValueError, match=r"acts in the window \(0.1, 2.0\) already"):
        window_scales(SkipScale(0.5, window=(0.1, 2.0)))
