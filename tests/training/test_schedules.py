"""Noise schedules: closed forms, and the published table."""

import math

import numpy as np
import pytest
import torch
from conftest import golden_npz

from training.schedules import VPSchedule, iddpm_levels


def test_vp_levels_are_the_formula() -> None:
    t = torch.linspace(1e-4, 1, 50, dtype=torch.float64)
    expected = [math.sqrt(math.exp(3.0 / 2 * s**2 + 0.2 * s) - 1) for s in t.tolist()]
    assert torch.allclose(
        VPSchedule(3.0, 0.2).sigma(t), torch.tensor(expected, dtype=torch.float64), rtol=1e-11
    )


@pytest.mark.parametrize("schedule", [VPSchedule(), VPSchedule(3.0, 0.2), VPSchedule(0.0, 1.0)])
def test_vp_times_are_the_inverse_down_to_the_smallest(schedule: VPSchedule) -> None:
    t = torch.logspace(-12, 0, 50, dtype=torch.float64)
    assert torch.allclose(schedule.time(schedule.sigma(t)), t, rtol=1e-12, atol=0)


def test_iddpm_levels_are_published_and_bounded() -> None:
    levels = iddpm_levels()
    assert levels.shape == (1001,) and (levels.diff() < 0).all() and levels[-1] == 0
    assert np.allclose(levels.numpy(), golden_npz("precond_facts")["iddpm_u"], rtol=2e-6)
    for M in (0, 10_001):
        with pytest.raises(ValueError, match=f"M is {M}; it must be from 1 to 10000"):
            iddpm_levels(M)
