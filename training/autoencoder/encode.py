"""What an autoencoder makes of a data set: latents for training, and its reconstructions, to be measured."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dnnlib.archives import ARCHIVES
from dnnlib.files import atomic_write
from dnnlib.pictures import encode_png
from dnnlib.util import file_sha256
from training.dataset import ImageDataset
from training.families.latent.decoder_files import load_autoencoder
from training.families.latent.encoder import Gaussians, KLAutoencoder
from training.latents import write_latents

BATCH = 64


def encode(autoencoder: Path, data: str, dest: Path, device: torch.device) -> int:
    """Encode all images of a data set, with their classes where they have some; return their number.

    Raises:
        FileNotFoundError, ValueError: if a file is missing or damaged, or the images do not fit.
        OSError: if `dest` cannot be written.
    """
    net, dataset = _loaded(autoencoder, data, device)
    found = list(_encoded(net, dataset, len(dataset), device))
    labels = None
    if dataset.label_dim:
        labels = np.array([int(dataset[index][1].argmax()) for index in range(len(dataset))])
    write_latents(
        dest,
        torch.cat([latents.mean for latents in found]).numpy(),
        torch.cat([latents.logvar for latents in found]).numpy(),
        labels,
        net.scale_factor,
        dataset.image_shape,
        str(autoencoder),
        file_sha256(autoencoder),
    )
    return len(dataset)


def reconstruct(
    autoencoder: Path, data: str, count: int | None, dest: Path, device: torch.device
) -> int:
    """Write images.npz of what the decoder makes of the first images' mean latents; return their number.

    Raises:
        FileNotFoundError, ValueError, OSError: as `encode`.
    """
    net, dataset = _loaded(autoencoder, data, device)
    count = min(count or len(dataset), len(dataset))
    pictures: list[bytes] = []
    with torch.inference_mode():
        for latents in _encoded(net, dataset, count, device):
            decoded = net.decode(latents.mean.to(device))
            images = (decoded * 127.5 + 128).clip(0, 255).to(torch.uint8)
            pictures += [encode_png(image) for image in images.cpu().numpy()]
    with atomic_write(dest) as file:
        ARCHIVES["npz"](file, iter(pictures), range(count), None)
    return count


def _loaded(
    autoencoder: Path, data: str, device: torch.device
) -> tuple[KLAutoencoder, ImageDataset]:
    net = load_autoencoder(autoencoder).to(device)
    dataset = _with_labels(data)
    if dataset.num_channels != net.out_ch:
        raise ValueError(
            f"{data} has images of {dataset.num_channels} channels, the autoencoder takes {net.out_ch}"
        )
    return net, dataset


def _with_labels(data: str) -> ImageDataset:
    """The data set, with its labels where it has some."""
    plain = ImageDataset(data, use_labels=False)
    return ImageDataset(data) if plain.files.has_label_file else plain


@torch.inference_mode()
def _encoded(
    net: KLAutoencoder, dataset: ImageDataset, count: int, device: torch.device
) -> Iterator[Gaussians]:
    """The latents of the first images, on the CPU, batch by batch."""
    unused = torch.Generator(device)
    with tqdm(total=count, unit="img", desc="latents") as bar:
        for first in range(0, count, BATCH):
            stored = torch.stack(
                [dataset[index][0] for index in range(first, min(first + BATCH, count))]
            )
            latents = net.encode(dataset.values(stored.to(device), unused))
            yield Gaussians(latents.mean.cpu(), latents.logvar.cpu())
            bar.update(len(stored))
