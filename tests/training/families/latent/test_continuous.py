"""Noise levels and times of the VP process, against its formula in exact arithmetic's neighbourhood."""

import math

import pytest
import torch

from training.families.latent.continuous import ContinuousTimes

START, END = 0.1, 20.0


def sigma_of(t: float) -> float:
    """sqrt(1 / abar - 1) with log abar = -(END - START) t^2 / 2 - START t."""
    return math.sqrt(math.expm1((END - START) * t**2 / 2 + START * t))


def test_ends_and_uniform_times() -> None:
    times = ContinuousTimes(START, END, first_time=1e-3)
    assert times.ends == pytest.approx((sigma_of(1e-3), sigma_of(1)), rel=1e-12)
    expected = [sigma_of(t) for t in (1.0, 1 - 0.999 / 3, 1 - 2 * 0.999 / 3, 1e-3)]
    assert times.uniform_sigmas(4).tolist() == pytest.approx(expected, rel=1e-9)
    assert ContinuousTimes(START, END).ends[0] == pytest.approx(sigma_of(1e-4), rel=1e-12)


@pytest.mark.parametrize("steps", [2, 1000])
def test_the_network_is_told_the_time_of_a_level(steps: int) -> None:
    times = ContinuousTimes(START, END, steps)
    for t in (1e-6, 1e-4, 0.3, 0.999, 1.0):
        told = times.timestep(torch.tensor(sigma_of(t), dtype=torch.float64))
        assert float(told) == pytest.approx((steps - 1) * t, rel=1e-9)
    # Beyond the highest.
    assert times.timestep(torch.tensor([1e3, 1e9])).tolist() == [steps - 1] * 2
    assert float(times.round_sigma(0.7)) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_start": 0.0},
        {"beta_start": -0.1},
        {"beta_end": 0.1},
        {"beta_end": 1000.0},
        {"num_timesteps": 1},
        {"first_time": 0.0},
        {"first_time": 1.0},
    ],
)
def test_ranges(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need"):
        ContinuousTimes(**({"beta_start": START, "beta_end": END} | settings))  # type: ignore[arg-type]
