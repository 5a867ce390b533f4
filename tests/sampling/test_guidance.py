"""Guidance on Gaussian data, where the guided denoiser is that of another Gaussian."""

from functools import partial
from typing import Any

import gaussian_case
import pytest
import torch
from conftest import relative_error
from gaussian_case import MEAN, STD
from torch import Tensor

from sampling.denoiser import Counted, bind
from sampling.guidance import Guided
from sampling.onestep import heun
from sampling.samplers import SAMPLERS
from sampling.sigmas import edm, with_ending

GUIDE_MEAN = -0.4 * MEAN.flip(1)
SIGMA = torch.tensor(1.7, dtype=torch.float64)


def gaussian(x: Tensor, sigma: Tensor, mean: Any) -> Tensor:
    """The denoiser of data N(mean, STD^2)."""
    return mean + (x - mean) * STD**2 / (STD**2 + sigma**2)


def guided(scale: float) -> Tensor:
    """Two Gaussians of one spread: guidance moves the mean to guide + scale (main - guide)."""
    return Guided(partial(gaussian, mean=MEAN), partial(gaussian, mean=GUIDE_MEAN), scale)


@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.3, 1.0, 1.4, 4.0])
def test_formula(scale: float) -> None:
    x = gaussian_case.state(1.7)
    mean = GUIDE_MEAN + scale * (MEAN - GUIDE_MEAN)
    assert relative_error(guided(scale)(x, SIGMA), gaussian(x, SIGMA, mean)) < 1e-14


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_ends_where_the_guided_gaussian_does(name: str) -> None:
    x, sigmas = gaussian_case.state(80), with_ending(edm(12, 0.002, 80), "zero")
    mean = GUIDE_MEAN + 2.5 * (MEAN - GUIDE_MEAN)
    got, expected = (
        SAMPLERS[name](denoise, x, sigmas)
        for denoise in (guided(2.5), partial(gaussian, mean=mean))
    )
    assert relative_error(got, expected) < 1e-10
    assert relative_error(got, SAMPLERS[name](guided(1), x, sigmas)) > 0.1


def test_many_steps_reach_the_closed_form_of_the_guided_ode() -> None:
    x = gaussian_case.state(80)
    mean = GUIDE_MEAN + 2.5 * (MEAN - GUIDE_MEAN)
    exact = mean + (x - mean) * STD / (STD**2 + 80**2).sqrt()
    assert (
        relative_error(heun(guided(2.5), x, with_ending(edm(200, 0.002, 80), "zero")), exact) < 1e-3
    )


def test_scale_one_is_the_main_denoiser_and_never_calls_the_guide() -> None:
    main, guide = Counted(gaussian_case.denoise), Counted(partial(gaussian, mean=GUIDE_MEAN))
    x, sigmas = gaussian_case.state(80), with_ending(edm(5, 0.002, 80), "zero")
    assert torch.equal(
        heun(Guided(main, guide, 1), x, sigmas), heun(gaussian_case.denoise, x, sigmas)
    )
    assert (main.nfe, guide.nfe) == (9, 0)
    heun(Guided(main, guide, 1.5), x, sigmas)
    assert (main.nfe, guide.nfe) == (18, 9)


def test_guiding_the_noise_prediction_is_the_same() -> None:
    x, scale = gaussian_case.state(1.7), 1.8
    eps, eps_guide = ((x - gaussian(x, SIGMA, mean)) / SIGMA for mean in (MEAN, GUIDE_MEAN))
    D = x - SIGMA * (eps_guide + scale * (eps - eps_guide))
    assert relative_error(guided(scale)(x, SIGMA), D) < 1e-14


def test_classifier_free_guidance_is_one_network_with_and_without_labels() -> None:
    labels = torch.eye(4)[[1, 3]]

    def net(x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        return x / 2 if class_labels is None else x / 2 + class_labels[:, :, None, None]

    x = gaussian_case.state(1.7)
    D = Guided(bind(net, labels), bind(net), 3.0)(x, SIGMA)
    assert D.dtype == torch.float64
    assert relative_error(D, x / 2 + 3 * labels[:, :, None, None]) < 1e-6


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_must_be_finite(scale: float) -> None:
    with pytest.raises(ValueError, match=f"guidance scale is {scale}"):
        guided(scale)
