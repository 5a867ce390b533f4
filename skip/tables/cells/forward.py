"""What the studies that do not generate images feed the network: pure noise or noisy images, and classes."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sampling.noise import SeedNoise
from skip.studies.inputs import RealImages, noisy, pure_noise, random_labels
from skip.studies.score_matching import draw_sigma
from skip.tables.cells.settings import NetworkSettings
from skip.tuned import SkipTuned

Input = Literal["noise", "data"]


@dataclass(frozen=True, kw_only=True)
class ForwardPass(NetworkSettings):
    """One forward pass of the network for each seed, at one noise level or at random ones.

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
            raise ValueError(
                f"unknown input {self.input!r}; choose from {', '.join(get_args(Input))}"
            )
        if self.input == "data" and self.data is None:
            raise ValueError("input = data needs the real images: name them as data")

    def check(self) -> None:
        """Load the network and, where they are used, the real images, and compute nothing."""
        self.real_images(self.network_alone().load("cpu").net)

    def sources(self) -> dict[str, str]:
        """The network and, where they are used, the real images."""
        found = {"network": self.network}
        if self.input == "data" and self.data is not None:
            found["data"] = self.data
        return found

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
            x = pure_noise(shape, seeds, sigma)
            labels = random_labels(seeds, net.label_dim, shape)
            if labels is not None:
                labels = labels.to(device)
        else:
            images, labels = real.batch(seeds, device)
            noise = SeedNoise(seeds).randn([len(seeds), *shape]).to(device)
            x = noisy(images, sigma, noise)
        return x.float(), sigma.float(), labels

    def real_images(self, net: SkipTuned) -> RealImages | None:
        """The real images, if they are the input."""
        if self.input != "data" or not self.data:
            return None
        return RealImages(self.data, net, max(self.numbers) + 1)
