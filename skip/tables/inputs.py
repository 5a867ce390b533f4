"""What the studies that do not generate images feed the network: pure noise or noisy images, and classes."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dnnlib.places import located
from sampling.noise import SeedNoise
from skip.studies.inputs import noisy, pure_noise, random_labels
from skip.studies.score_matching import draw_sigma
from skip.tables.settings import Tuned
from skip.tuned import SkipTuned
from training.dataset import ImageDataset

Input = Literal["noise", "data"]


class RealImages:
    """Real images by number, as a network wants them.

    Number s is the s-th image of a fixed random order: where files are sorted by class, the first few are a sample too.

    Args:
        path: data set zip or folder, with labels if the network has classes.
        net: the network.
        count: how many images there must be at least.
    Raises:
        FileNotFoundError, ValueError: if the data do not fit.
    """

    def __init__(self, path: str, net: SkipTuned, count: int) -> None:
        self.data = ImageDataset(located(path), use_labels=net.label_dim > 0)
        self.label_dim = net.label_dim
        self.order = np.random.RandomState(0).permutation(len(self.data))
        shape = (net.img_channels, net.img_resolution, net.img_resolution)
        if tuple(self.data.image_shape) != shape:
            raise ValueError(f"{path} has images {self.data.image_shape}, the network wants {shape}")
        if self.data.label_dim > net.label_dim:
            raise ValueError(f"{path} has {self.data.label_dim} classes, the network {net.label_dim}")
        if count > len(self.data):
            raise ValueError(f"{path} has {len(self.data)} images; seeds below {len(self.data)} can be used")

    def batch(self, numbers: list[int], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Images in [-1, 1], float32 [N, C, H, W], and one-hot classes [N, L] or None."""
        rows = [self.data[int(self.order[number])] for number in numbers]
        images = torch.stack([image for image, _ in rows]).to(device).float() / 127.5 - 1
        if self.label_dim == 0:
            return images, None
        labels = torch.zeros(len(rows), self.label_dim)
        labels[:, : self.data.label_dim] = torch.stack([label for _, label in rows])
        return images, labels.to(device)


@dataclass(frozen=True, kw_only=True)
class Fed(Tuned):
    """A network at one noise level, or at random ones.

    Args:
        input: "noise": sigma z, the state that a sampler starts from; "data": real images plus sigma z.
        sigma: noise level in data units; None draws each image's as EDM does in training, within the network's range.
        data: the real images; that of seed s is number s of `RealImages`.
    """

    input: Input = "noise"
    sigma: float | None = 80.0
    data: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input not in get_args(Input):
            raise ValueError(f"unknown input {self.input!r}; choose from {', '.join(get_args(Input))}")
        if self.input == "data" and self.data is None:
            raise ValueError("input = data needs the real images: name them as data")

    def check(self) -> None:
        """Load the network and, where they are used, the real images; see `skip.tables.settings.Study.check`."""
        self.real_images(self.plain_source().load("cpu").net)

    def sources(self) -> dict[str, str]:
        """The network and, where they are used, the real images."""
        real = {"data": self.data} if self.input == "data" and self.data is not None else {}
        return {"network": self.network} | real

    def levels(self, net: SkipTuned, seeds: list[int]) -> Tensor:
        """Noise levels that the network knows, the nearest ones to those of the settings: float64 [N].

        Raises:
            ValueError: if `sigma` lies beyond the network's range.
        """
        if self.sigma is None:
            return net.round_sigma(draw_sigma(seeds).clamp(net.sigma_min, net.sigma_max))
        if not net.sigma_min <= self.sigma <= net.sigma_max:
            raise ValueError(
                f"sigma is {self.sigma:g}; {self.network} knows noise levels from {net.sigma_min:g} to "
                f"{net.sigma_max:g}"
            )
        return net.round_sigma(torch.full([len(seeds)], self.sigma, dtype=torch.float64))

    def inputs(
        self, net: SkipTuned, real: RealImages | None, seeds: list[int], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """x float32 [N, C, H, W], sigma float32 [N], one-hot classes or None, on the device."""
        sigma = self.levels(net, seeds).to(device)
        shape = (net.img_channels, net.img_resolution, net.img_resolution)
        if real is None:
            labels = random_labels(seeds, net.label_dim, shape)
            labels = None if labels is None else labels.to(device)
            x = pure_noise(shape, seeds, sigma)
        else:
            images, labels = real.batch(seeds, device)
            x = noisy(images, sigma, SeedNoise(seeds).randn([len(seeds), *shape]).to(device))
        return x.float(), sigma.float(), labels

    def real_images(self, net: SkipTuned) -> RealImages | None:
        """The real images, if they are the input."""
        return RealImages(self.data, net, max(self.numbers) + 1) if self.input == "data" and self.data else None
