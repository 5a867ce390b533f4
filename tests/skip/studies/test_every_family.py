"""Every study on every family of networks, against what the denoiser itself gives."""

import copy
import math
from typing import Any

import pytest
import torch
from conftest import relative_error
from test_families import FILES, loaded
from torch import Tensor

from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.studies.gradient import gradient_norm
from skip.studies.inputs import noisy, pure_noise, random_labels
from skip.studies.inversion import invert
from skip.studies.norms import skip_norms, slice_norms
from skip.studies.score_matching import losses, pixels, weight
from skip.studies.wavelet import BANDS, band_features, bands
from skip.tuned import SkipTuned

SEEDS = [3, 4, 5]
LEVELS = [0.3, 1.5, 6.0]
Inputs = tuple[Tensor, Tensor, Tensor | None]


@pytest.fixture(params=FILES)
def net(request: pytest.FixtureRequest) -> Any:
    return copy.deepcopy(loaded(request.param))


def shape(net: Any) -> tuple[int, int, int]:
    return net.img_channels, net.img_resolution, net.img_resolution


def inputs(net: Any) -> Inputs:
    sigma = net.round_sigma(torch.tensor(LEVELS))
    return (
        pure_noise(shape(net), SEEDS, sigma).float(),
        sigma,
        random_labels(SEEDS, net.label_dim, shape(net)),
    )


def images(net: Any) -> Tensor:
    return SeedNoise(SEEDS).randn([len(SEEDS), *shape(net)], torch.float64).clamp(-1, 1)


def test_norms(net: Any) -> None:
    plain, k = skip_norms(net, *inputs(net)), net.num_skips
    assert plain.shape == (3, k) and plain.isfinite().all() and (plain > 0).all()
    tuned = skip_norms(SkipTuned(net, SkipScale(layers=(1.0, 0.5, *[1.0] * (k - 2)))), *inputs(net))
    assert torch.equal(tuned[:, 0], plain[:, 0]) and torch.equal(tuned[:, 1], 0.5 * plain[:, 1])
    assert (tuned[:, 2:] != plain[:, 2:]).all(), "the layers above see what changed"
    for norms in slice_norms(net):
        assert norms.shape == (k,) and norms.dtype == torch.float64 and (norms > 0).all()


@pytest.mark.parametrize("scale", [SkipScale(), SkipScale(0.5)], ids=["plain", "tuned"])
def test_gradient(net: Any, scale: SkipScale) -> None:
    """dD/dx = c_skip + c_out c_in dF/dy."""
    tuned, (x, sigma, labels) = SkipTuned(net, scale), inputs(net)
    z = x.clone().requires_grad_()
    (whole,) = torch.autograd.grad(tuned(z, sigma, labels).sum(), z)
    denoiser = gradient_norm(tuned, x, sigma, labels, "denoiser")
    assert relative_error(denoiser, whole.flatten(1).norm(dim=1)) < 1e-5
    c_skip, c_out, c_in, _ = net.scalings(sigma.reshape(-1, 1, 1, 1))
    raw = gradient_norm(tuned, x, sigma, labels, "raw")
    assert relative_error(raw, ((whole - c_skip) / (c_out * c_in)).flatten(1).norm(dim=1)) < 1e-3
    random = gradient_norm(tuned, x, sigma, labels, "raw", "random", SEEDS)
    assert random.shape == (3,) and random.isfinite().all() and (random != raw).all()


def test_losses(net: Any) -> None:
    x, sigma = images(net), net.round_sigma(torch.tensor(LEVELS, dtype=torch.float64))
    noise = SeedNoise([6, 7, 8]).randn(list(x.shape))
    labels = random_labels(SEEDS, net.label_dim, shape(net))
    tuned = SkipTuned(net, SkipScale(0.5))
    with torch.no_grad():  # both, so that the same kernels compute
        found = losses(tuned, x, labels, sigma, noise, {"pixel": pixels} | band_features("haar"))
        D = tuned(noisy(x, sigma, noise).float(), sigma.float(), labels).double()
    w = weight(sigma)
    assert relative_error(found["pixel"], w * (D - x).square().flatten(1).sum(1)) < 1e-12
    for band in BANDS:
        by_hand = bands(D, "haar")[band] - bands(x, "haar")[band]
        assert relative_error(found[band], w * by_hand.square().flatten(1).sum(1)) < 1e-12
    # haar is orthogonal: the bands' squares sum to the pixels'
    assert relative_error(sum(found[band] for band in BANDS), found["pixel"]) < 1e-10


def test_inversion(net: Any) -> None:
    settings = SamplerSettings("euler", steps=4)
    labels = random_labels(SEEDS, net.label_dim, shape(net))
    nodes = settings.nodes(net)
    assert net.sigma_min <= float(nodes[-1]) * (1 + 1e-12) and float(nodes[0]) <= net.sigma_max * (
        1 + 1e-12
    )
    x = images(net)
    found = invert(net, x, labels, settings, batch_size=2)
    for low, high in zip(nodes.flip(0)[:-1], nodes.flip(0)[1:], strict=True):
        with torch.no_grad():
            D = net(x.float(), low.float(), labels).double()
        x = x + (high - low) * (x - D) / low
    assert relative_error(found, x / nodes[0]) < 1e-4


def test_windows(net: Any) -> None:
    low, high = max(net.sigma_min, 0.01), min(net.sigma_max, 10.0)
    nodes = net.round_sigma(
        SamplerSettings("heun", steps=6, sigma_min=low, sigma_max=high).nodes(net)
    )
    between = (nodes[1:-1:2] * nodes[2::2]).sqrt().tolist()
    bounds = zip([*between, 0.0], [math.inf, *between], strict=True)
    scales = [SkipScale(0.5, window=window) for window in bounds]
    with torch.inference_mode():
        for i, sigma in enumerate(nodes.float()):
            x = pure_noise(shape(net), SEEDS, sigma).float()
            labels = random_labels(SEEDS, net.label_dim, shape(net))
            moved = [
                not torch.equal(SkipTuned(net, scale)(x, sigma, labels), net(x, sigma, labels))
                for scale in scales
            ]
            assert moved == [i // 2 == window for window in range(3)]
