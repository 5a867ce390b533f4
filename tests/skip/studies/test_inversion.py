"""Inversion of Gaussian data in closed form, and distances of noise that is right, wrong, or known exactly."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import relative_error
from scipy.stats import chi2
from tiny_network import tiny_network
from torch import Tensor

from metrics.kernel import RBF, mmd2
from sampling.denoiser import bind
from sampling.noise import SeedNoise
from sampling.samplers import sample
from sampling.settings import SamplerSettings
from skip.evidence.estimate import Estimate
from skip.scale import SkipScale
from skip.studies.inversion import gaussian_distances, invert, noise_kernels
from skip.tuned import SkipTuned

LOW, HIGH, STD = 0.002, 80.0, 0.5
SOLVERS = {"heun": 2, "dpm_2": 2, "euler": 1}


class GaussianNetwork:
    """The ideal denoiser of N(0, STD^2 I): D = x STD^2 / (STD^2 + sigma^2), with 2 classes that it ignores."""

    img_channels, img_resolution, label_dim = 3, 2, 2
    sigma_min, sigma_max = 0.0, math.inf

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        return torch.as_tensor(sigma)

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        assert class_labels is not None and len(class_labels) == len(x)
        return x * STD**2 / (STD**2 + sigma**2)


NET = GaussianNetwork()
FACTOR = math.sqrt((STD**2 + HIGH**2) / (STD**2 + LOW**2)) / HIGH  # from images to noise


def images(count: int, seed: int = 0) -> Tensor:
    """What the ODE makes of N(0, I), at its lowest level."""
    return SeedNoise([seed]).randn([1, count, 3, 2, 2], torch.float64)[0] / FACTOR


def labels(count: int) -> Tensor:
    return torch.eye(2)[torch.arange(count) % 2]


@pytest.mark.parametrize("name", SOLVERS)
def test_gaussian_data_inverts_to_closed_form_at_the_solvers_order(name: str) -> None:
    x = images(4)
    errors = [
        relative_error(invert(NET, x, labels(4), SamplerSettings(name, steps=steps)), FACTOR * x)
        for steps in (65, 129)  # 64 and 128 steps: between N nodes lie N - 1
    ]
    assert errors[0] / errors[1] == pytest.approx(2 ** SOLVERS[name], rel=0.15)
    assert errors[1] < {1: 0.1, 2: 3e-3}[SOLVERS[name]]


@pytest.mark.parametrize("name", ["heun", "unipc", "dpmpp", "deis"])
def test_sampling_leads_back_to_the_images(name: str) -> None:
    settings, x = SamplerSettings(name, steps=100, sigmas="edm", ending="sigma_min"), images(4)
    noise = invert(NET, x, labels(4), settings)
    again = sample(
        settings.bound(NET, torch.zeros_like),
        bind(NET, labels(4)),
        noise,
        settings.nodes(NET),
        "sigma_min",
    )
    assert relative_error(again, x) < 1e-3
    assert relative_error(noise, x) > 0.1


def test_the_range_of_the_settings_is_the_range_of_the_integral() -> None:
    x, low, high = images(3), 0.1, 5.0
    noise = invert(NET, x, labels(3), SamplerSettings(steps=100, sigma_min=low, sigma_max=high))
    assert (
        relative_error(noise, x * math.sqrt((STD**2 + high**2) / (STD**2 + low**2)) / high) < 1e-3
    )


def test_precision_gradients_and_batches() -> None:
    settings, x = SamplerSettings(steps=5), images(5).float().requires_grad_()
    noise = invert(NET, x, labels(5), settings, batch_size=2)
    assert noise.dtype == torch.float64 and noise.shape == x.shape and not noise.requires_grad
    assert torch.equal(noise, invert(NET, x, labels(5), settings, batch_size=5))


def test_labels_and_rho_reach_the_network() -> None:
    """Each image keeps its own label when batches are cut, and rho changes the noise."""
    net, settings = tiny_network(label_dim=3), SamplerSettings(steps=4)
    x, one_hot = torch.randn(3, 1, 8, 8).clamp(-1, 1), torch.eye(3)
    noise = invert(net, x, one_hot, settings, batch_size=2)
    for i in range(3):
        assert (
            relative_error(
                invert(net, x[i : i + 1], one_hot[i : i + 1], settings), noise[i : i + 1]
            )
            < 1e-4
        )
    assert relative_error(invert(net, x, one_hot.flip(0), settings)[0], noise[0]) > 1e-3
    assert (
        relative_error(invert(SkipTuned(net, SkipScale(0.5)), x, one_hot, settings), noise) > 1e-3
    )


def test_inverted_gaussian_data_are_noise_and_wrong_scales_are_not() -> None:
    """Unbiased MMD^2 over independent sets: around 0 for the inverted noise, many errors above it for 1.3 times it."""
    settings, kernels = SamplerSettings(steps=100), noise_kernels(12)
    noises = [
        invert(NET, images(150, seed), labels(150), settings, 150) for seed in range(1000, 1024)
    ]
    for factor, judge in [
        (1.0, lambda z: abs(z) < 3),
        (1.3, lambda z: z > 5),
        (0.75, lambda z: z > 5),
    ]:
        found = [
            gaussian_distances(factor * noise, seed, kernels, groups=2)
            for seed, noise in enumerate(noises)
        ]
        for name in kernels:
            values = np.array([each[f"{name}_unbiased"].value for each in found])
            assert judge(values.mean() / (values.std(ddof=1) / len(values) ** 0.5)), (factor, name)
            assert all(
                each[f"{name}_v"].value > max(0, each[f"{name}_unbiased"].value) for each in found
            )


def test_distances_are_mmd_to_the_draws_of_the_seed() -> None:
    noise = images(22)
    kernels = {"a": RBF(3.0), "b": RBF(5.0)}
    found = gaussian_distances(noise, 7, kernels, draws=3, groups=4)
    assert list(found) == ["a_unbiased", "a_v", "b_unbiased", "b_v"]
    random = SeedNoise([7])
    x, fresh = noise.flatten(1), [random.randn([1, 22, 12], torch.float64)[0] for _ in range(3)]
    for name, kernel in kernels.items():
        for form, unbiased in (("unbiased", True), ("v", False)):
            distance = found[f"{name}_{form}"]
            expected = [mmd2(x, y, kernel, unbiased) for y in fresh]
            assert distance.value == pytest.approx(np.mean(expected), rel=1e-9)
            assert len(set(expected)) == 3

            # Groups of 6, 6, 5 and 5 rows: without the second, rows 6 to 11 of the noise and of every draw are out.
            left = [*range(6), *range(12, 22)]
            expected = [mmd2(x[left], y[left], kernel, unbiased) for y in fresh]
            assert len(distance.without) == 4
            assert distance.without[1] == pytest.approx(np.mean(expected), rel=1e-9)
    once = gaussian_distances(noise, 7, kernels)["a_v"].value
    assert once == pytest.approx(mmd2(x, fresh[0], kernels["a"], False), rel=1e-9)
    assert gaussian_distances(noise, 8, kernels)["a_v"].value != once


def test_the_error_is_that_of_other_images_and_other_draws() -> None:
    """Of noise that is too wide: the jackknife's error, and the spread over independent sets of both."""
    rng, kernel = np.random.default_rng(0), {"rbf": RBF(4.0)}
    same = torch.from_numpy(1.6 * rng.standard_normal([100, 6]))
    values, errors, draws_alone = [], [], []
    for seed in range(24):
        x = torch.from_numpy(1.6 * rng.standard_normal([100, 6]))
        distance = gaussian_distances(x, seed, kernel, 2, groups=10)["rbf_unbiased"]
        values.append(distance.value)
        errors.append(Estimate.of_jackknife(distance.value, distance.without).error)
        draws_alone.append(
            gaussian_distances(same, seed, kernel, 2, groups=10)["rbf_unbiased"].value
        )
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.25)
    assert np.std(draws_alone, ddof=1) < 0.8 * np.mean(errors), "images count, not draws alone"


@pytest.mark.parametrize("dim", [12, 768])
def test_kernel_widths_are_the_medians_of_gaussian_distances(dim: int) -> None:
    """x - y ~ N(0, 2 I): its length is sqrt(2 chi2), the sum of its absolute values near d 2 / sqrt(pi)."""
    kernels = noise_kernels(dim)
    assert list(kernels) == ["rbf_0.5", "rbf_1", "rbf_2", "laplace", "polynomial", "imq"]
    median = math.sqrt(2 * chi2.ppf(0.5, dim))
    widths: list[Any] = [*(kernels[name].bandwidths[0] for name in ("rbf_0.5", "rbf_1", "rbf_2"))]  # type: ignore[attr-defined]
    assert widths == pytest.approx([0.5 * median, median, 2 * median], rel=0.01)
    assert kernels["imq"].bandwidth == pytest.approx(median, rel=0.01)  # type: ignore[attr-defined]
    assert kernels["laplace"].bandwidth == pytest.approx(2 * dim / math.sqrt(math.pi), rel=0.02)  # type: ignore[attr-defined]


def test_the_default_kernels_depend_on_neither_noise_nor_seed() -> None:
    noise = images(30)
    for scale, seed in [(1.0, 0), (3.0, 5)]:
        explicit = gaussian_distances(scale * noise, seed, noise_kernels(12), draws=2)
        assert gaussian_distances(scale * noise, seed, draws=2) == explicit


PIXELS = torch.zeros(2, 3, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: invert(NET, PIXELS.to(torch.uint8), labels(2), SamplerSettings()),
            "images are torch.uint8",
        ),
        (lambda: invert(NET, PIXELS[:, :1], labels(2), SamplerSettings()), r"shape \[2, 1, 2, 2\]"),
        (lambda: invert(NET, PIXELS[:0], labels(0), SamplerSettings()), "N > 0"),
        (
            lambda: invert(NET, PIXELS, None, SamplerSettings()),
            r"shape None; this network needs one-hot \[2, 2\]",
        ),
        (lambda: invert(NET, PIXELS, labels(3), SamplerSettings()), r"shape \[3, 2\]"),
        (
            lambda: invert(tiny_network(0), torch.zeros(2, 1, 8, 8), labels(2), SamplerSettings()),
            "needs None",
        ),
        (lambda: invert(NET, PIXELS, labels(2), SamplerSettings(), 0), "batch_size is 0"),
        (lambda: invert(NET, PIXELS, labels(2), SamplerSettings(S_churn=4.0)), "S_churn must be 0"),
        (
            lambda: invert(NET, PIXELS, labels(2), SamplerSettings("ablation")),
            "invert with another solver",
        ),
        (
            lambda: invert(NET, PIXELS, labels(2), SamplerSettings(sigmas="80")),
            "at least two noise levels",
        ),
        (lambda: gaussian_distances(PIXELS, 0, draws=0), "draws is 0"),
        (lambda: gaussian_distances(PIXELS, 0, groups=2), "at least 3"),
        (lambda: gaussian_distances(PIXELS, 0, groups=1), "groups is 1; leaving one out"),
    ],
)
def test_what_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
