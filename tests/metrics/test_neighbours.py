"""Neighbours and balls, against all pairs in float64."""

import math

import pytest
import torch
from torch import Tensor

from metrics.neighbours import inside_balls, kth_radii, rescaled, squared_distances

FEATURES = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))


def all_pairs(x: Tensor, y: Tensor) -> Tensor:
    return (x.double()[:, None] - y.double()).square().sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_radii_are_those_of_all_pairs_wherever_the_origin_lies(
    dtype: torch.dtype, shift: float
) -> None:
    features = FEATURES + shift
    others = all_pairs(features, features) + torch.diag(torch.full([30], torch.inf).double())
    for k in (1, 4, 29):
        expected = others.kthvalue(k, dim=1).values
        assert torch.allclose(kth_radii(features, k, dtype, 7), expected, rtol=1e-12)


@pytest.mark.parametrize("closed", [True, False])
def test_a_point_on_the_sphere_is_inside_a_closed_ball_only(closed: bool) -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    points = torch.tensor([[3.0, 4.0], [2.0, 2.0], [10.0, 0.0]])
    radii = torch.tensor([25.0, 1.0], dtype=torch.float64)
    found = torch.cat(list(inside_balls(points, centres, radii, closed, torch.float32, 2)))
    assert found.tolist() == [[closed, False], [True, False], [False, True]]


def test_squared_distances_are_no_less_than_0() -> None:
    x = FEATURES * 1e3
    assert float(squared_distances(x, x).min()) == 0
    assert torch.allclose(
        squared_distances(FEATURES, FEATURES).double(), all_pairs(FEATURES, FEATURES), atol=1e-4
    )


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_a_power_of_two_brings_squares_into_range(scale: float) -> None:
    first, second = rescaled(FEATURES * scale, FEATURES[:3] * scale)
    factor = float(first.abs().max()) / float((FEATURES * scale).abs().max())
    power = math.log2(factor)
    assert power == pytest.approx(round(power))
    assert 2**-10 <= float(first.abs().max()) <= 2**20
    assert torch.allclose(second.double(), (FEATURES[:3] * scale).double() * factor)
