"""Noise level as a function of time: inverse and slope of each axis."""

import pytest
import torch

from sampling.time_axes import LinearTime, TimeAxis, VETime, VPTime

AXES = [LinearTime(), VETime(), VPTime(19.9, 0.1), VPTime.fitted(0.002, 80.0)]
TIMES = torch.linspace(0.05, 1, 7, dtype=torch.float64)


@pytest.mark.parametrize("axis", AXES, ids=["linear", "ve", "vp", "fitted"])
def test_time_is_the_inverse_and_slope_the_derivative(axis: TimeAxis) -> None:
    t = TIMES.clone().requires_grad_()
    sigma = axis.sigma(t)
    (slope,) = torch.autograd.grad(sigma.sum(), t)
    assert torch.allclose(axis.time(sigma), TIMES, rtol=1e-9)
    assert torch.allclose(axis.slope(TIMES), slope, rtol=1e-9)
    assert (sigma.diff() > 0).all()


def test_the_fitted_process_has_both_ends() -> None:
    axis = VPTime.fitted(0.002, 80.0, epsilon_s=1e-3)
    ends = axis.sigma(torch.tensor([1e-3, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0.002, 80.0], rel=1e-9)
