"""Consistency sampling of Gaussian data, whose consistency function has a closed form."""

import math
from functools import partial

import gaussian_case as gaussian
import pytest
import torch
from gaussian_case import MEAN, STD
from torch import Tensor

from sampling.consistency import consistency
from sampling.denoiser import Counted
from sampling.noise import SeedNoise
from sampling.samplers import SAMPLERS, sample

E = 0.3
LEVELS = torch.tensor([80.0, 5.0, 0.7, 0.0], dtype=torch.float64)
unclipped = partial(consistency, clip=False, boundary=E)


def to_the_boundary(x: Tensor, sigma: Tensor) -> Tensor:
    """The consistency function of the data: along the ODE from sigma down to the boundary."""
    return gaussian.solution(x, float(sigma), E)


def test_the_noise_and_the_levels_make_the_result() -> None:
    start, *draws = (torch.randn(2, 4, 1, 1, dtype=torch.float64) for _ in range(3))
    feed = iter(draws)
    got = unclipped(to_the_boundary, 80 * start, LEVELS, randn_like=lambda x: next(feed))
    x = gaussian.solution(80 * start, 80.0, E)
    for noise, level in zip(draws, (5.0, 0.7), strict=True):
        x = gaussian.solution(x + math.sqrt(level**2 - E**2) * noise, level, E)
    assert torch.allclose(got, x, atol=1e-13)
    assert next(feed, None) is None


def test_every_step_keeps_the_variance() -> None:
    """The result is linear in the draws; the squares of its coefficients add up to the variance at the boundary."""

    def response(which: int) -> Tensor:
        """Coefficient of one draw: what it alone, a 1, adds to the result of none."""
        draws = [torch.full([1, 4, 1, 1], float(i == which), dtype=torch.float64) for i in range(3)]
        start = MEAN + (STD**2 + 80.0**2).sqrt() * draws[0]
        feed = iter(draws[1:])
        return unclipped(to_the_boundary, start, LEVELS, randn_like=lambda x: next(feed)) - MEAN

    variance = sum((response(i) ** 2 for i in range(3)), torch.zeros(()))
    assert torch.allclose(variance, STD**2 + E**2, rtol=1e-12)


def test_one_step_is_one_denoising_whatever_the_solver() -> None:
    noise, nodes = torch.randn(2, 4, 1, 1), torch.tensor([80.0], dtype=torch.float64)
    counted = Counted(gaussian.denoise)
    expected = gaussian.denoise(80 * noise.double(), nodes[0])
    assert torch.equal(sample(partial(consistency, clip=False), counted, noise, nodes), expected)
    assert counted.nfe == 1
    for name in ("euler", "heun", "dpm_2"):
        assert torch.equal(sample(SAMPLERS[name], gaussian.denoise, noise, nodes), expected)


def test_number_of_evaluations_and_of_draws() -> None:
    for levels, draws in ((LEVELS, 2), (LEVELS[:3], 2), (LEVELS[[0, 3]], 0), (LEVELS[:2], 1)):
        counted, drawn = Counted(gaussian.denoise), []

        def randn_like(x: Tensor, drawn: list[Tensor] = drawn) -> Tensor:
            drawn.append(x)
            return torch.randn_like(x)

        unclipped(counted, gaussian.state(80.0), levels, randn_like=randn_like)
        assert (counted.nfe, len(drawn)) == (len(levels) - 1, draws)
        # Both determine the draw.
        assert all(x.dtype == torch.float64 and x.shape == (2, 4, 1, 1) for x in drawn)


def test_a_last_level_above_zero_leaves_its_noise() -> None:
    D = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    levels = torch.tensor([5.0, 0.5], dtype=torch.float64)
    got = unclipped(lambda x, sigma: D, D, levels, randn_like=torch.ones_like)
    assert float(got) == pytest.approx(math.sqrt(0.5**2 - E**2))
    at_boundary = torch.tensor([5.0, E * (1 - 1e-12)], dtype=torch.float64)  # as a grid rounds it
    assert torch.equal(unclipped(lambda x, sigma: D, D, at_boundary, randn_like=torch.ones_like), D)


def test_clipping_acts_on_every_denoised_image() -> None:
    D = torch.tensor([-3.0, -0.5, 0.5, 3.0], dtype=torch.float64).reshape(1, 4, 1, 1)
    seen = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return D

    levels = torch.tensor([5.0, 1.0, 0.0], dtype=torch.float64)
    got = consistency(denoise, D, levels, randn_like=torch.zeros_like)
    assert torch.equal(got, D.clamp(-1, 1)) and torch.equal(seen[1], D.clamp(-1, 1))
    assert torch.equal(consistency(denoise, D, levels, clip=False, randn_like=torch.zeros_like), D)


def test_an_image_depends_on_its_seed_not_on_its_batch() -> None:
    def run(seeds: list[int]) -> Tensor:
        noise = SeedNoise(seeds)
        x = noise.randn([len(seeds), 4, 1, 1]).double() * 80
        return unclipped(gaussian.denoise, x, LEVELS, randn_like=noise.randn_like)

    assert torch.equal(run([3, 4, 5])[1:2], run([4]))
    assert not torch.equal(run([4]), run([5]))


def test_levels_out_of_range_are_refused() -> None:
    x = gaussian.state(1.0)
    for levels, words in (
        ([1.0, 2.0], "needs decreasing noise levels"),
        ([1.0], "at least two noise levels"),
        (
            [80.0, 0.2, 0.0],
            "noise levels must be 0.3 or more, where the network's images are; got 0.2",
        ),
        ([0.2, 0.0], "got 0.2"),
    ):
        with pytest.raises(ValueError, match=words):
            unclipped(gaussian.denoise, x, torch.tensor(levels, dtype=torch.float64))
