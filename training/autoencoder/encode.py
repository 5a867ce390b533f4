"""What an autoencoder makes of a data set: latents, and images back from them."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dnnlib.util import file_sha256
from training.dataset import ImageDataset
from training.families.latent.decoder_files import load_autoencoder
from training.families.latent.encoder import Gaussians, KLAutoencoder
from training.latents import write_latents

BATCH = 64


@torch.inference_mode()
def encoded(
    net: KLAutoencoder, dataset: ImageDataset, count: int, device: torch.device
) -> Iterator[Gaussians]:
    """The latents of the first images, batch by batch, where the network is."""
    unused = torch.Generator(device)  # images are as they are; only latents are drawn
    for first in range(0, count, BATCH):
        part = range(first, min(first + BATCH, count))
        stored = torch.stack([dataset[index][0] for index in part])
        yield net.encode(dataset.values(stored.to(device), unused))


def encode(autoencoder: Path, data: str, dest: Path, device: torch.device) -> int:
    """Encode all images of a data set, with their classes where they have some; return their number.

    Raises:
        FileNotFoundError, ValueError: if a file is missing or damaged, or the images do not fit.
        OSError: if `dest` cannot be written.
    """
    net, dataset = _loaded(autoencoder, data, device)
    labels = dataset.files.labels()
    if labels is not None and labels.ndim != 1:
        raise ValueError(
            f"{data} has vectors of {labels.shape[1]} numbers as labels; latents are kept with classes only"
        )

    mean, logvar = [], []
    with tqdm(total=len(dataset), unit="img", desc="latents") as bar:
        for latents in encoded(net, dataset, len(dataset), device):
            mean.append(latents.mean.cpu())
            logvar.append(latents.logvar.cpu())
            bar.update(len(latents.mean))
    write_latents(
        dest,
        torch.cat(mean).numpy(),
        torch.cat(logvar).numpy(),
        labels,
        net.scale_factor,
        dataset.image_shape,
        str(autoencoder),
        file_sha256(autoencoder),
    )
    return len(dataset)


@torch.inference_mode()
def reconstruct(
    autoencoder: Path, data: str, count: int | None, device: torch.device
) -> Iterator[Tensor]:
    """What the decoder makes of the first images' mean latents, batch by batch: about [-1, 1].

    Raises:
        FileNotFoundError, ValueError: as `encode`; or if there are fewer images.
    """
    net, dataset = _loaded(autoencoder, data, device)
    count = len(dataset) if count is None else count
    if count > len(dataset):
        raise ValueError(
            f"{data} holds {len(dataset)} images, but {count} are expected: ask for fewer"
        )
    with tqdm(total=count, unit="img", desc="images") as bar:
        for latents in encoded(net, dataset, count, device):
            yield net.decode(latents.mean)
            bar.update(len(latents.mean))


def _loaded(
    autoencoder: Path, data: str, device: torch.device
) -> tuple[KLAutoencoder, ImageDataset]:
    net = load_autoencoder(autoencoder).to(device)
    dataset = ImageDataset(data, use_labels=False)
    if dataset.num_channels != net.out_ch:
        raise ValueError(
            f"{data} has images of {dataset.num_channels} channels, the autoencoder takes {net.out_ch}"
        )
    return net, dataset
