"""Inputs of the studies: EDM's draws per seed, and images plus noise."""

from collections.abc import Sequence

import pytest
import torch
from conftest import golden_json
from tiny_network import tiny_network
from torch import Tensor

from sampling.generate import generate
from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from skip.studies.inputs import noisy, pure_noise, random_labels

SHAPE = (1, 8, 8)


def test_class_and_noise_are_the_reference_draws() -> None:
    entries = golden_json("rng")["entries"]
    seeds = [entry["seed"] for entry in entries]
    noise = pure_noise((3, 64, 64), seeds, 1.0)
    labels = random_labels(seeds, 1000, (3, 64, 64))
    assert (
        labels is not None and labels.shape == (len(seeds), 1000) and labels.dtype == torch.float32
    )
    assert torch.equal(labels.sum(dim=1), torch.ones(len(seeds)))
    assert labels.argmax(dim=1).tolist() == [entry["class_idx_1000"] for entry in entries]
    for image, entry in zip(noise, entries, strict=True):
        assert image.flatten()[:8].tolist() == pytest.approx(entry["latent_first8"], abs=1e-6)


def test_pure_noise_and_label_are_what_the_sampler_starts_from() -> None:
    class Watched:
        """A network that keeps what it is first called with."""

        def __init__(self) -> None:
            self.net = tiny_network()
            self.first: tuple[Tensor, float, Tensor | None] | None = None

        def __getattr__(self, name: str) -> object:
            return getattr(self.net, name)

        def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
            self.first = self.first or (x, float(sigma), class_labels)
            return self.net(x, sigma, class_labels)

    net, seeds = Watched(), [5, 3, 2**32 + 4]
    list(generate(net, SamplerSettings(steps=2), seeds, "cpu"))  # type: ignore[arg-type]
    assert net.first is not None
    x, sigma, labels = net.first
    assert sigma == 80
    assert torch.equal(pure_noise(SHAPE, seeds, 80.0).float(), x)
    drawn = random_labels(seeds, 10, SHAPE)
    assert drawn is not None and labels is not None and torch.equal(drawn, labels)


def test_an_unconditional_network_has_no_labels() -> None:
    assert random_labels([1, 2], 0, SHAPE) is None


def test_noise_levels_per_image() -> None:
    images = torch.linspace(-1, 1, 128).reshape(2, *SHAPE)
    noise = SeedNoise([1, 2]).randn([2, *SHAPE])
    x = noisy(images, torch.tensor([0.0, 2.0]), noise)
    assert x.dtype == torch.float64
    assert torch.equal(x[0], images[0].double())
    assert torch.equal(x[1], images[1].double() + 2 * noise[1].double())
    assert torch.equal(noisy(images, 2.0, noise)[1], x[1])
    assert torch.equal(
        pure_noise(SHAPE, [1, 2], torch.tensor([0.5, 3.0]))[1], 3 * noise[1].double()
    )


@pytest.mark.parametrize(
    "images, sigma, shape, message",
    [
        (torch.zeros(2, *SHAPE, dtype=torch.uint8), 1.0, (2, *SHAPE), "uint8"),
        (torch.zeros(2, *SHAPE), 1.0, (1, *SHAPE), "noise of shape"),
        (torch.zeros(2, *SHAPE), torch.ones(3), (2, *SHAPE), "sigma has shape"),
        (torch.zeros(2, *SHAPE), torch.ones(2, 1), (2, *SHAPE), "sigma has shape"),
        (torch.zeros(2, *SHAPE), -1.0, (2, *SHAPE), "not negative"),
        (torch.zeros(2, *SHAPE), torch.tensor([1.0, float("nan")]), (2, *SHAPE), "finite"),
    ],
)
def test_refuses(images: Tensor, sigma: float | Tensor, shape: Sequence[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noisy(images, sigma, torch.zeros(shape))
