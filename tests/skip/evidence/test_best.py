"""The best rho of curves whose minimum is known."""

import numpy as np
import pytest

from skip.evidence.best import Best, best_rho, bootstrap
from skip.evidence.estimate import Estimate, difference

GRID = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
UNEVEN = [1.0, 0.5, 0.9, 0.65, 0.8]


def curve(
    rhos: list[float], best: float = 0.73, common: float = 0.0, own: float = 0.0, seed: int = 0
) -> list[Estimate]:
    """5 + 10 (rho - best)^2 per image, with noise that every rho shares and noise of its own."""
    rng = np.random.default_rng(seed)
    shared = 5 + common * rng.standard_normal(1000)
    return [
        Estimate.of_mean(shared + 10 * (rho - best) ** 2 + own * rng.standard_normal(1000))
        for rho in rhos
    ]


@pytest.mark.parametrize("rhos", [GRID, UNEVEN])
def test_common_noise_leaves_the_vertex_exact(rhos: list[float]) -> None:
    cells = curve(rhos, common=20.0)
    best = best_rho(rhos, cells)
    at_one = cells[rhos.index(1.0)]
    assert best.rho == pytest.approx(0.73, abs=1e-9)
    assert best.error == pytest.approx(0, abs=1e-9)
    assert (best.low, best.high) == (pytest.approx(0.73, abs=1e-9), pytest.approx(0.73, abs=1e-9))
    assert not best.at_edge
    assert best.gain is not None
    assert best.gain.value == pytest.approx(-10 * 0.27**2)
    assert best.gain.error == pytest.approx(0, abs=1e-9)
    assert best.value.value == pytest.approx(at_one.value - 10 * 0.27**2)
    assert best.value.error == pytest.approx(at_one.error, rel=0.15)  # 1000 resamples of 100 blocks


def test_the_interval_covers_at_its_rate() -> None:
    """68% within 4% for 120 repetitions; the error is the spread of the results, and so is that of the gain."""
    found = [best_rho(GRID, curve(GRID, common=20.0, own=0.5, seed=seed)) for seed in range(120)]
    covered = [b.low <= 0.73 <= b.high for b in found if b.low is not None and b.high is not None]
    assert len(covered) == 120
    assert np.mean(covered) == pytest.approx(0.68, abs=0.1)
    rhos, errors = [b.rho for b in found], [b.error or 0 for b in found]
    assert np.mean(rhos) == pytest.approx(0.73, abs=0.004)
    assert np.mean(errors) == pytest.approx(np.std(rhos), rel=0.2)
    gains = [b.gain for b in found if b.gain is not None]
    assert np.mean([gain.error for gain in gains]) == pytest.approx(
        np.std([gain.value for gain in gains]), rel=0.2
    )


@pytest.mark.parametrize(("at", "edge"), [(0.3, 0.5), (1.4, 1.0)])
def test_a_minimum_at_the_edge_is_flagged(at: float, edge: float) -> None:
    best = best_rho(GRID, curve(GRID, best=at, common=3.0))
    assert (best.rho, best.low, best.high, best.at_edge) == (edge, edge, edge, True)
    assert best.gain is not None and best.gain.value == pytest.approx(
        10 * ((edge - at) ** 2 - (1 - at) ** 2)
    )


def test_redrawn_curves_spread_as_the_mean_of_the_blocks_does() -> None:
    """Of two blocks, -1 and 1: s / sqrt(2) = 1 with s of n - 1; what is drawn spreads by sqrt(1 / 2) of that."""
    redrawn = bootstrap(np.zeros(2), np.array([[-1.0, 1.0], [-3.0, 3.0]]), seed=0)
    assert redrawn.std(0) == pytest.approx([1, 3], rel=0.08)  # 1000 draws
    assert np.allclose(redrawn[:, 1], 3 * redrawn[:, 0])  # the same blocks for every rho


def test_more_noise_makes_a_larger_error() -> None:
    errors = [best_rho(GRID, curve(GRID, own=own)).error or 0 for own in (0.3, 3.0, 30.0)]
    # In proportion at first, then the grid limits it.
    assert 0.003 < errors[0] < errors[1] / 5 < errors[2] / 5
    assert errors[2] < 0.25


def test_more_may_be_better() -> None:
    cells = [
        Estimate(-cell.value, cell.error, tuple(-b for b in cell.blocks))
        for cell in curve(GRID, own=0.5)
    ]
    least, most = best_rho(GRID, curve(GRID, own=0.5)), best_rho(GRID, cells, maximise=True)
    assert (most.rho, most.error, most.low, most.high) == (
        least.rho,
        least.error,
        least.low,
        least.high,
    )
    assert most.value == Estimate(-least.value.value, least.value.error)
    assert least.gain is not None and most.gain == Estimate(-least.gain.value, least.gain.error)


def test_without_blocks_there_is_no_error_of_rho() -> None:
    cells = [Estimate.plain(cell.value, 0.3) for cell in curve(GRID)]
    best = best_rho(GRID, cells)
    assert best.rho == pytest.approx(0.73)
    assert (best.error, best.low, best.high) == (None, None, None)
    assert best.value.error == 0.3
    assert best.gain is not None and best.gain.error == pytest.approx(0.3 * 2**0.5)
    mixed = [*curve(GRID)[:-1], Estimate.plain(5.73)]
    assert best_rho(GRID, mixed).error is None


def test_without_rho_1_there_is_no_gain() -> None:
    assert best_rho(GRID[:-1], curve(GRID[:-1])).gain is None


def test_short_and_flat_grids() -> None:
    one, two = curve([0.8]), curve([0.8, 1.0], own=0.1)
    single = best_rho([0.8], one)
    assert single == Best(0.8, 0.0, 0.8, 0.8, single.value, None, True)
    assert single.value.value == one[0].value
    best = best_rho([0.8, 1.0], two)
    assert (best.rho, best.at_edge) == (0.8, True)
    assert best.gain is not None and best.gain.value == pytest.approx(
        difference(two[0], two[1]).value
    )
    flat = best_rho([0.8, 0.9, 1.0], [Estimate.plain(2)] * 3)
    assert (flat.rho, flat.value.value) == (0.8, 2)


def test_the_seed_decides() -> None:
    cells = curve(GRID, own=1.0)
    assert best_rho(GRID, cells) == best_rho(GRID, cells, seed=0) != best_rho(GRID, cells, seed=1)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the grid of rho is \[\]"):
        best_rho([], [])
    with pytest.raises(ValueError, match="each once"):
        best_rho([0.8, 0.8], [Estimate.plain(1)] * 2)
    with pytest.raises(ValueError, match="2 rhos and 1 estimates"):
        best_rho([0.8, 0.9], [Estimate.plain(1)])
