from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.ablation import ablation
from sampling.noise import SeedNoise
from sampling.onestep import euler, heun
from sampling.sigmas import SIGMAS, with_ending
from sampling.time_axes import VPTime

SIGMAS_USED = with_ending(SIGMAS["edm"](8, 0.05, 20.0), "zero")
X = gaussian.state(20.0)


def test_linear_time_without_scaling_is_heun_and_euler() -> None:
    assert torch.allclose(
        ablation(gaussian.denoise, X, SIGMAS_USED), heun(gaussian.denoise, X, SIGMAS_USED)
    )
    first_order = ablation(gaussian.denoise, X, SIGMAS_USED, solver="euler")
    assert torch.allclose(first_order, euler(gaussian.denoise, X, SIGMAS_USED))


def test_churn_is_that_of_heun() -> None:
    churn = {"S_churn": 20, "S_min": 0.1, "S_max": 10, "S_noise": 1.01, "round_sigma": torch.round}
    noisy = [
        solver(gaussian.denoise, X, SIGMAS_USED, randn_like=SeedNoise([1, 2]).randn_like, **churn)
        for solver in (ablation, heun)
    ]
    assert torch.allclose(*noisy, rtol=1e-12)


def test_euler_in_scaled_vp_time_is_that_step_of_the_scaled_state() -> None:
    """One Euler step from sigma to sigma' of y = s x, with the derivative of the exact y(t) by differences."""
    sigmas = torch.tensor([2.0, 1.0], dtype=torch.float64)
    vp = VPTime.fitted(0.002, 80.0)
    t, t_end = vp.time(sigmas)

    def y(time: Any) -> Tensor:
        sigma = float(vp.sigma(time))
        return gaussian.solution(X, 2.0, sigma) / (1 + sigma**2) ** 0.5

    slope = (y(t + 1e-5) - y(t - 1e-5)) / 2e-5
    expected = (y(t) + (t_end - t) * slope) * 2**0.5
    result = ablation(
        gaussian.denoise,
        X,
        sigmas,
        solver="euler",
        schedule="vp",
        scaling="vp",
        sigma_range=(0.002, 80.0),
    )
    assert torch.allclose(result, expected, rtol=1e-7)


@pytest.mark.parametrize("settings, message", [
    ({"solver": "rk4"}, "unknown solver 'rk4': choose from euler, heun"),
    ({"schedule": "cosine"}, "unknown schedule 'cosine': choose from linear, ve, vp"),
    ({"scaling": "ve"}, "unknown scaling 've': choose from vp, none"),
    ({"alpha": 0}, r"alpha must lie in \(0, 1\], got 0"),
    ({"S_churn": -2}, "S_churn must be 0 or more, got -2"),
])  # fmt: skip
def test_unknown_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ablation(gaussian.denoise, X, SIGMAS_USED, **settings)


def test_increasing_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="needs decreasing noise levels"):
        ablation(gaussian.denoise, X, torch.tensor([1.0, 2.0]))
