"""Losses against closed forms: a linear denoiser on known data, the ideal one on Gaussian data, and EDM's own loss."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from tiny_network import tiny_network
from torch import Tensor

from sampling.noise import SeedNoise
from skip.scale import SkipScale
from skip.studies.score_matching import (
    clipped,
    detector_features,
    draw_sigma,
    losses,
    pixels,
    weight,
)
from skip.studies.wavelet import band_features
from skip.tuned import SkipTuned
from training.loss import EDMLoss

N = 4
SEEDS = [3, 5, 8, 13]
IMAGES = torch.randint(0, 256, (N, 1, 8, 8), generator=torch.Generator().manual_seed(2)) / 127.5 - 1
SIGMA = torch.tensor([0.01, 0.25, 2.0, 80.0], dtype=torch.float64)
NOISE = SeedNoise(SEEDS).randn(IMAGES.shape)
LABELS = torch.eye(10)[[1, 0, 9, 4]]
PIXELS = {"pixels": pixels}


class Linear:
    """D(x; sigma) = a x, counted."""

    def __init__(self, a: float) -> None:
        self.a, self.calls = a, 0

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        assert x.dtype == sigma.dtype == torch.float32 and sigma.shape == (len(x),)
        self.calls += 1
        return self.a * x


class Grey:
    """A detector whose two features are the mean grey level and three times that of the first row."""

    name, feature_dim, num_logits, sha256 = "grey", 2, 0, ""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        x = images.float()
        return torch.stack([x.mean((1, 2, 3)), 3 * x[:, :, 0].mean((1, 2))], 1), x.new_empty(
            len(x), 0
        )


def near(actual: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected.double(), rtol=rtol, atol=1e-12)


def test_a_level_is_a_function_of_its_seed() -> None:
    sigma = draw_sigma(SEEDS)
    assert torch.equal(draw_sigma(SEEDS[1:2]), sigma[1:2])
    z = SeedNoise([seed + 2**31 for seed in SEEDS]).randn([N], torch.float64)
    near(draw_sigma(SEEDS, 0.3, 2.0), (0.3 + 2 * z).exp(), 1e-14)
    near(sigma, (-1.2 + 1.2 * z).exp(), 1e-14)
    assert torch.equal(
        draw_sigma([0, 1], P_std=0), torch.full([2], -1.2, dtype=torch.float64).exp()
    )


def test_levels_are_log_normal_and_independent_of_the_noise() -> None:
    count = 10_000
    z = ((draw_sigma(range(count)).log() + 1.2) / 1.2).numpy()
    assert stats.kstest(z, "norm").pvalue > 0.01
    noise = SeedNoise(range(count)).randn([count, 16], torch.float64).numpy()
    for column in noise.T:
        assert abs(stats.pearsonr(z, column).statistic) < 4 / math.sqrt(count)
    assert abs(stats.pearsonr(z[1:], z[:-1]).statistic) < 4 / math.sqrt(count)  # neighbouring seeds


def test_weight() -> None:
    near(weight(torch.tensor([0.5, 1.0, 0.25])), torch.tensor([8.0, 5.0, 20.0]), 1e-15)
    near(weight(torch.tensor([2.0]), sigma_data=1.0), torch.tensor([1.25]), 1e-15)


@pytest.mark.parametrize("a", [0.0, 0.75, 1.0])
def test_linear_denoiser(a: float) -> None:
    net = Linear(a)
    level = SIGMA.reshape(-1, 1, 1, 1)
    expected = ((a - 1) * IMAGES.double() + a * level * NOISE.double()).square().sum((1, 2, 3))
    near(losses(net, IMAGES, None, SIGMA, NOISE, PIXELS, "one")["pixels"], expected)
    near(losses(net, IMAGES, None, SIGMA, NOISE, PIXELS)["pixels"], expected * weight(SIGMA))


def test_a_perfect_denoiser_has_no_loss() -> None:
    features = PIXELS | {"grey": detector_features(Grey())} | band_features()
    found = losses(lambda x, sigma, labels=None: IMAGES, IMAGES, None, SIGMA, NOISE, features)
    assert list(found) == ["pixels", "grey", "LL", "LH", "HL", "HH"]
    for loss in found.values():
        assert torch.equal(loss, torch.zeros(N, dtype=torch.float64))


def test_the_network_runs_once_and_each_feature_map_twice() -> None:
    net, seen = Linear(0.5), []

    def feature(x: Tensor) -> Tensor:
        seen.append(x)
        return x.mean((2, 3))

    found = losses(net, IMAGES, None, SIGMA, NOISE, PIXELS | {"mean": feature}, "one")
    assert net.calls == 1 and len(seen) == 2
    near(found["mean"], (seen[0] - IMAGES).mean((1, 2, 3)).square())


def test_ideal_denoiser_of_gaussian_data() -> None:
    """D - x ~ N(0, I / w(sigma)) at every level: the weighted loss is chi-squared, of one degree a pixel."""
    count, shape, s = 4000, (1, 4, 4), 0.5
    images = s * torch.randn(count, *shape, generator=torch.Generator().manual_seed(7))
    noise, sigma = SeedNoise(range(count)).randn([count, *shape]), draw_sigma(range(count))

    def ideal(x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        return x * (s**2 / (s**2 + sigma**2)).reshape(-1, 1, 1, 1)

    def mean_is(loss: Tensor, expected: float) -> None:
        assert abs(loss.mean() - expected) < 4 * loss.std() / math.sqrt(count)

    loss = losses(ideal, images, None, sigma, noise, PIXELS)["pixels"]
    mean_is(loss, 16)
    assert stats.kstest(loss.numpy(), stats.chi2(16).cdf).pvalue > 0.01
    for level in (0.1, 3.0):
        loss = losses(ideal, images, None, torch.full([count], level), noise, PIXELS, "one")[
            "pixels"
        ]
        mean_is(loss, 16 * s**2 * level**2 / (s**2 + level**2))


def test_a_network_against_edms_loss_and_alone_against_its_batch() -> None:
    net = tiny_network()
    found = losses(net, IMAGES, LABELS, SIGMA, NOISE, PIXELS)["pixels"]
    near(found, EDMLoss()(net, IMAGES, LABELS, SIGMA.float(), NOISE).sum((1, 2, 3)), 1e-4)
    assert not torch.allclose(
        found, losses(net, IMAGES, None, SIGMA, NOISE, PIXELS)["pixels"], rtol=1e-3
    )

    # Rho depends on each image's own level.
    tuned = SkipTuned(net, SkipScale(0.5, time="increasing"))
    features = PIXELS | {"grey": detector_features(Grey())} | band_features()
    together = losses(tuned, IMAGES, LABELS, SIGMA, NOISE, features)
    assert not torch.allclose(together["pixels"], found, rtol=1e-3)
    for i in range(N):
        one = slice(i, i + 1)
        alone = losses(tuned, IMAGES[one], LABELS[one], SIGMA[one], NOISE[one], features)
        for name, loss in alone.items():
            near(loss, together[name][one], 1e-4)


def test_detector_sees_what_a_file_would_hold() -> None:
    feature = detector_features(Grey())
    x = torch.full([3, 1, 8, 8], 128 / 127.5 - 1)
    x[1, :, 0], x[2] = 0.02, 7.0  # 0.02 * 127.5 + 128 = 130.55; 7 is beyond white
    expected = torch.tensor([[128.0, 384.0], [(7 * 128 + 130) / 8, 390.0], [255.0, 765.0]])
    near(feature(x).double(), expected)
    clean = x[:1].expand(3, -1, -1, -1)
    found = losses(
        lambda *_: x, clean, None, torch.ones(3), torch.zeros_like(x), {"grey": feature}, "one"
    )
    near(found["grey"], (expected - expected[0]).square().sum(1))


def test_what_lies_outside_the_range_may_not_count() -> None:
    """D = 3 x: pixels beyond a third are black or white, which the image itself may be."""
    features = {"as it is": pixels, "clipped": clipped(pixels)}
    found = losses(Linear(3.0), IMAGES, None, SIGMA, torch.zeros_like(NOISE), features, "one")
    near(found["as it is"], (2 * IMAGES).square().flatten(1).sum(1))
    near(found["clipped"], ((3 * IMAGES).clamp(-1, 1) - IMAGES).square().flatten(1).sum(1))
    assert (found["clipped"] < 0.5 * found["as it is"]).all()


def test_haar_bands_share_out_the_pixel_loss() -> None:
    features = PIXELS | band_features("haar")
    found = losses(Linear(0.9), IMAGES, None, SIGMA, NOISE, features)
    near(
        sum((found[name] for name in ("LL", "LH", "HL", "HH")), torch.zeros(())),
        found["pixels"],
        1e-12,
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sigma": SIGMA[:3]}, r"sigma of shape \[3\] for 4 images"),
        ({"sigma": SIGMA[0]}, r"sigma of shape \[\] for 4 images"),
        ({"sigma": SIGMA - 0.25}, r"sigma holds -0\.24; a noise level must be positive"),
        ({"sigma": SIGMA * math.inf}, "sigma holds inf"),
        ({"noise": NOISE[:1]}, r"noise of shape \[1, 1, 8, 8\] for images \[4, 1, 8, 8\]"),
        ({"labels": LABELS[:3]}, "3 labels for 4 images"),
        ({"weighting": "snr"}, "unknown weighting 'snr'; choose from edm, one"),
    ],
)
def test_nonsense_is_refused(changed: dict[str, Any], message: str) -> None:
    given = {"labels": LABELS, "sigma": SIGMA, "noise": NOISE, "features": PIXELS} | changed
    with pytest.raises(ValueError, match=message):
        losses(Linear(1.0), IMAGES, **given)


def test_nonsense_levels_and_a_broken_network_are_refused() -> None:
    for P_std in (-1.0, math.nan):
        with pytest.raises(ValueError, match=f"P_std is {P_std}"):
            draw_sigma([0], P_std=P_std)
    with pytest.raises(ValueError, match="at least one seed"):
        draw_sigma([])

    def broken(x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        return torch.where(sigma.reshape(-1, 1, 1, 1) == 2, math.nan, x)

    with pytest.raises(RuntimeError, match="NaN or infinity at sigma = 2:"):
        losses(broken, IMAGES, None, SIGMA, NOISE, {"grey": detector_features(Grey())})
