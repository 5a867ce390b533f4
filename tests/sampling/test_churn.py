import math
from collections.abc import Sequence

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.churn import churned, stir
from sampling.noise import SeedNoise
from sampling.onestep import heun
from sampling.sigmas import SIGMAS, with_ending

SIGMAS_USED = with_ending(SIGMAS["edm"](8, 0.05, 20.0), "zero")


class CountedNoise:
    """randn_like that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.randn_like(x)


def test_levels_rise_by_gamma_within_the_window_only() -> None:
    assert churned([40.0, 10.0, 1.0, 0.0], S_churn=0.6, S_min=5, S_max=10) == [40.0, 12.0, 1.0]
    assert churned([40.0, 10.0, 0.0], S_churn=100) == [40 * math.sqrt(2), 10 * math.sqrt(2)]
    assert churned([1.0, 2.0], S_churn=0) == [1.0]
    assert churned([40.0, 10.0, 5.0, 4.0, 0.0], S_churn=0.8, S_min=5, S_max=10) == [
        40.0,
        12.0,
        6.0,
        4.0,
    ]  # both ends


def test_raised_levels_are_rounded_for_networks_that_know_only_some() -> None:
    assert churned([40.0, 10.0, 0.0], S_churn=0.4, round_sigma=torch.round) == [48.0, 12.0]
    assert churned([40.0, 10.0, 0.0], S_churn=0.02, round_sigma=lambda s: s.floor() - 1) == [
        40.0,
        10.0,
    ]


def test_noise_raises_the_variance_to_the_new_level() -> None:
    x = 3 * torch.randn(100_000, dtype=torch.float64)
    assert stir(x, 3.0, 5.0, 1.0, torch.randn_like).std() == pytest.approx(5, rel=0.01)
    assert stir(torch.zeros_like(x), 3.0, 5.0, 1.5, torch.randn_like).std() == pytest.approx(
        6, rel=0.01
    )


def test_noise_is_drawn_in_every_step_even_outside_the_window() -> None:
    noise = CountedNoise()
    heun(
        gaussian.denoise,
        gaussian.state(20.0),
        SIGMAS_USED,
        S_churn=10,
        S_min=1,
        S_max=5,
        randn_like=noise,
    )
    assert noise.calls == 8
    noise = CountedNoise()
    heun(gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, randn_like=noise)
    assert noise.calls == 0


def test_an_image_depends_on_its_seed_not_on_its_batch() -> None:
    def run(seeds: Sequence[int]) -> Tensor:
        noise = SeedNoise(seeds)
        x = noise.randn([len(seeds), 4, 1, 1]).double() * 20
        return heun(gaussian.denoise, x, SIGMAS_USED, S_churn=20, randn_like=noise.randn_like)

    assert torch.equal(run([3, 4, 5])[1:2], run([4]))
    assert not torch.equal(run([4]), run([5]))


def test_churn_keeps_the_distribution() -> None:
    """From N(mean, s^2 + sigma_max^2) the stochastic sampler, too, ends at N(mean, s^2)."""
    noise = torch.randn(40_000, 4, 1, 1, dtype=torch.float64)
    x = gaussian.MEAN + noise * (gaussian.STD**2 + 20.0**2).sqrt()
    sigmas = with_ending(SIGMAS["edm"](60, 0.002, 20.0), "zero")
    images = heun(gaussian.denoise, x, sigmas, S_churn=20)
    assert torch.allclose(images.mean(0, keepdim=True), gaussian.MEAN, atol=0.03)
    assert torch.allclose(images.std(0, keepdim=True), gaussian.STD, rtol=0.03)
    correlation = ((images - gaussian.MEAN) / gaussian.STD * noise).mean(0)
    assert correlation.abs().max() < 0.5  # fresh noise has replaced most of the starting noise


def test_nonsense_churn_is_refused() -> None:
    with pytest.raises(ValueError, match="S_min is 9 and S_max 1: no noise level would receive"):
        heun(gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, S_churn=1, S_min=9, S_max=1)
    with pytest.raises(ValueError, match="S_churn must be 0 or more, got -1"):
        heun(gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, S_churn=-1)
    with pytest.raises(
        ValueError, match="S_churn must be 0 where the noise level increases, got 5"
    ):
        heun(gaussian.denoise, gaussian.state(1.0), torch.tensor([1.0, 2.0]), S_churn=5)
