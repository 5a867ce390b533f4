"""From seeds to images: the one loop that every program samples with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sampling.denoiser import Counted, Finite, bind
from sampling.noise import SeedNoise
from sampling.samplers import sample
from sampling.settings import SamplerSettings

Labels = Literal["random", "balanced"]


class ImageNetwork(Protocol):
    """A network that denoises images of one shape, plain or Skip-Tuned."""

    img_channels: int
    img_resolution: int
    label_dim: int
    sigma_min: float
    sigma_max: float

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level the network knows."""
        ...

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """D(x; sigma)."""
        ...


@dataclass(frozen=True)
class Batch:
    """Generated images.

    Attributes:
        images: uint8 [N, C, H, W] on the device that made them.
        classes: one class index per image, empty for an unconditional network.
        seeds: one per image.
        nfe: network evaluations per image, counted.
    """

    images: Tensor
    classes: list[int]
    seeds: list[int]
    nfe: int


def generate(
    net: ImageNetwork,
    settings: SamplerSettings,
    seeds: Sequence[int],
    device: torch.device | str,
    batch_size: int = 64,
    labels: Labels = "random",
    class_idx: int | None = None,
    noise_device: torch.device | str | None = None,
) -> Iterator[Batch]:
    """Yield generated images, batch by batch, in the order of the seeds.

    An image depends on its seed and the settings alone, never on its batch (up to the rounding of batched arithmetic).

    Args:
        net: the network, on `device`.
        settings: solver and noise levels.
        seeds: one per image, 0 or more.
        device: where the network is.
        batch_size: images at a time.
        labels: "random": each image's class is drawn from its seed, as EDM does; "balanced": seed modulo classes.
        class_idx: the class of every image instead.
        noise_device: of the random draws; None is the CPU, so that an image is the same on every device.
    Raises:
        ValueError: if a setting does not fit the network.
        RuntimeError: if the network returns NaN or infinity.
    """
    check_labels(net, labels, class_idx)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    nodes = settings.nodes(net)
    settings.nfe(net)  # refuses now what the solver would refuse later
    shape = (net.img_channels, net.img_resolution, net.img_resolution)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(seeds), batch_size):
            part = list(seeds[start : start + batch_size])
            random = SeedNoise(part, noise_device)
            noise = random.randn([len(part), *shape]).to(device)
            classes = draw_classes(random, net.label_dim, part, labels, class_idx)
            one_hots = one_hot(torch.tensor(classes), net.label_dim).float().to(device) if classes else None
            denoise = Counted(Finite(bind(net, one_hots)))
            with torch.inference_mode():
                x = sample(settings.bound(net, random.randn_like), denoise, noise, nodes, settings.ending)
            yield Batch(to_uint8(x), classes, part, denoise.nfe)

    return batches()


def draw_classes(
    random: SeedNoise, label_dim: int, seeds: Sequence[int], labels: Labels, class_idx: int | None
) -> list[int]:
    """The class of each image; the draw is made even where it is not used, so that later draws stay the same."""
    if label_dim == 0:
        return []
    drawn = [int(c) for c in random.randint(label_dim)]
    if class_idx is not None:
        return [class_idx] * len(seeds)
    return [seed % label_dim for seed in seeds] if labels == "balanced" else drawn


def check_labels(net: ImageNetwork, labels: str, class_idx: int | None) -> None:
    """Refuse classes that the network does not have.

    Raises:
        ValueError: naming what it has.
    """
    if labels not in get_args(Labels):
        raise ValueError(f"unknown labels {labels!r}; choose from {', '.join(get_args(Labels))}")
    if net.label_dim == 0 and (labels == "balanced" or class_idx is not None):
        asked = "balanced labels are" if class_idx is None else f"class {class_idx} is"
        raise ValueError(f"{asked} asked for, but the network is unconditional: it has no classes")
    if class_idx is not None and not 0 <= class_idx < net.label_dim:
        raise ValueError(f"class {class_idx} is asked for, but the network has classes 0 to {net.label_dim - 1}")


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] to 0 ... 255, by EDM's rule: x * 127.5 + 128, clipped and truncated."""
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8)
