"""What the networks are fed: noisy images, pure noise and classes, each image's from its own seed."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dnnlib.places import located
from sampling.noise import first_draws
from skip.tuned import SkipTuned
from training.dataset import ImageDataset


def pure_noise(shape: Sequence[int], seeds: Sequence[int], sigma: float | Tensor) -> Tensor:
    """x = sigma z, z ~ N(0, I): at the first noise level of a sampler, the very state it starts from.

    Args:
        shape: [C, H, W] of one image.
        seeds: one per image.
        sigma: noise level in data units, a scalar or [N].
    Returns:
        float64 [N, C, H, W] on the device of sigma.
    Raises:
        ValueError: if sigma is not a number >= 0 or does not fit the seeds.
    """
    noise = first_draws(seeds, shape, 0).noise.to(torch.as_tensor(sigma).device)
    return noisy(torch.zeros_like(noise), sigma, noise)


def random_labels(seeds: Sequence[int], label_dim: int, shape: Sequence[int]) -> Tensor | None:
    """The class that a sampler draws from each seed, after noise of the shape [C, H, W].

    Returns:
        One-hot float32 [N, label_dim] on the CPU; None if label_dim is 0.
    """
    classes = first_draws(seeds, shape, label_dim).classes
    return one_hot(torch.tensor(classes), label_dim).float() if classes else None


def noisy(images: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """x = images + sigma noise.

    Args:
        images: [N, C, H, W], floating point, data in [-1, 1].
        sigma: noise level in data units, a scalar or [N].
        noise: [N, C, H, W].
    Returns:
        float64 [N, C, H, W] on the device of the images.
    Raises:
        ValueError: if the images are integers, the shapes differ, or sigma is not a number >= 0 or does not fit.
    """
    if not images.is_floating_point():
        raise ValueError(
            f"the images hold {images.dtype}; give floating point in [-1, 1]: x / 127.5 - 1"
        )
    if images.shape != noise.shape:
        raise ValueError(
            f"noise of shape {tuple(noise.shape)} for images of shape {tuple(images.shape)}"
        )

    level = torch.as_tensor(sigma).to(images.device, torch.float64)
    if tuple(level.shape) not in ((), (len(images),)):
        raise ValueError(
            f"sigma has shape {tuple(level.shape)}; give a number or {len(images)}, one an image"
        )
    if not bool((torch.isfinite(level) & (level >= 0)).all()):
        raise ValueError(f"sigma is {level.tolist()}; it must be finite and not negative")

    return images.to(torch.float64) + level.reshape(-1, 1, 1, 1) * noise.to(
        images.device, torch.float64
    )


def fixed_order(count: int) -> np.ndarray:
    """The order in which images are taken from a data set of so many: always the same, and none of classes."""
    return np.random.RandomState(0).permutation(count)


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
        self.order = fixed_order(len(self.data))

        shape = (net.img_channels, net.img_resolution, net.img_resolution)
        if tuple(self.data.image_shape) != shape:
            raise ValueError(
                f"{path} has images {self.data.image_shape}, the network wants {shape}"
            )

        if self.data.label_dim > net.label_dim:
            raise ValueError(
                f"{path} has {self.data.label_dim} classes, the network {net.label_dim}"
            )

        if count > len(self.data):
            raise ValueError(
                f"{path} has {len(self.data)} images; seeds below {len(self.data)} can be used"
            )

    def batch(self, numbers: list[int], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Images in [-1, 1], float32 [N, C, H, W], and one-hot classes [N, L] or None."""
        rows = [self.data[int(self.order[number])] for number in numbers]
        images = torch.stack([image for image, _ in rows]).to(device).float() / 127.5 - 1
        if self.label_dim == 0:
            return images, None
        labels = torch.zeros(len(rows), self.label_dim)
        labels[:, : self.data.label_dim] = torch.stack([label for _, label in rows])
        return images, labels.to(device)
