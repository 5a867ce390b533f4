"""AuthPct, against loops over all pairs, and its closed cases."""

import numpy as np
import pytest
import torch

from metrics.authenticity import authentic
from metrics.metric import Evidence
from metrics.names import METRICS
from metrics.neighbours import nearest


def by_loops(real: np.ndarray, generated: np.ndarray) -> list[bool]:
    """As published, of one image after another."""
    found = []
    for g in generated:
        distances = [float(np.sqrt(np.square(g - r).sum())) for r in real]
        n = int(np.argmin(distances))
        others = [np.sqrt(np.square(real[n] - r).sum()) for j, r in enumerate(real) if j != n]
        found.append(distances[n] > min(others))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_it_is_that_of_all_pairs(dtype: torch.dtype, offset: float) -> None:
    rng = np.random.RandomState(0)
    real, generated = rng.randn(40, 3) + offset, rng.randn(30, 3) + offset
    expected = by_loops(real, generated)
    assert 0 < sum(expected) < 30
    for chunk in (7, 1024):
        assert authentic(real, generated, dtype, chunk).tolist() == expected


def test_the_nearest_whatever_rounding_hides() -> None:
    """Far from the origin float32 cannot tell the centres apart; of equal ones the first counts."""
    rng = np.random.RandomState(1)
    centres = torch.from_numpy(rng.randn(60, 2) * 1e-3)
    centres[0] = 3e3  # which makes rounding large
    points = torch.from_numpy(rng.randn(20, 2) * 1e-3)
    squares = (points[:, None] - centres).square().sum(2)
    for chunk in (6, 64):
        places, found = nearest(points, centres, torch.float32, chunk)
        assert torch.equal(places, squares.argmin(1))
        assert torch.allclose(found, squares.amin(1), rtol=1e-12)
    twice = torch.tensor([[5.0], [1.0], [3.0], [1.0]])
    assert nearest(torch.tensor([[2.0]]), twice, torch.float32, 1)[0].tolist() == [1]


@pytest.mark.parametrize("unit", [1.0, 0.1, 1e20])
def test_as_far_as_the_real_ones_are_apart_is_a_copy_still(unit: float) -> None:
    real = np.array([[0.0], [2.0], [50.0]]) * unit
    made = np.array([[-2.0], [-2.01], [-1.99], [4.0], [98.0], [98.1]]) * unit
    expected = [False, True, False, False, False, True]
    assert authentic(real, made).tolist() == expected


def test_copies_are_none_and_strangers_all() -> None:
    real = np.random.RandomState(2).randn(20, 4)
    value = METRICS["authpct"].compute[0](Evidence(features=real, real=real))["authpct"]
    assert (value.value, value.error, value.beside) == (0, None, {}), "a share of none has no error"
    value = METRICS["authpct"].compute[0](Evidence(features=real + 100, real=real))["authpct"]
    assert (value.value, value.error) == (100, None)


def test_its_error_is_the_binomials_and_order_counts_for_nothing() -> None:
    rng = np.random.RandomState(3)
    real, generated = rng.randn(50, 3), rng.randn(200, 3)
    value = METRICS["authpct"].compute[0](Evidence(features=generated, real=real))["authpct"]
    share = sum(by_loops(real, generated)) / 200
    assert value.value == pytest.approx(100 * share)
    assert value.error == pytest.approx(100 * (share * (1 - share) / 199) ** 0.5)
    assert value.influence is not None and value.influence.shape == (200,)
    assert value.beside == {"authpct_standard_error": value.error}
    moved = METRICS["authpct"].compute[0](
        Evidence(features=generated[::-1].copy(), real=real[::-1].copy())
    )
    assert moved["authpct"].value == value.value


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"authpct needs at least 2 real images.*; 1 given"):
        authentic(np.zeros([1, 3]), np.zeros([4, 3]))
    with pytest.raises(ValueError, match="use the same detector for both"):
        authentic(np.zeros([4, 3]), np.zeros([4, 2]))
    with pytest.raises(ValueError, match="authpct compares images with images"):
        METRICS["authpct"].compute[0](Evidence(features=np.zeros([2, 2])))
