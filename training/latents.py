"""Latents as a data set: what an autoencoder made of each image, encoded once and drawn anew each time.

An npz file:
    mean, logvar     float32 [N, C, H, W]: of each latent value's normal distribution, before it is scaled
    labels           int64 [N], if the images had classes
    scale_factor     what latents are multiplied by for the diffusion network
    image_shape      int64 [3]: channels, height and width of the images
    autoencoder      path of the autoencoder, as it was named; autoencoder_sha256: of its file
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from dnnlib.arrays import open_arrays
from dnnlib.files import atomic_write
from training.dataset import ImageDataset

MOST_CLASSES = 1_000_000


class LatentDataset(Dataset[tuple[Tensor, Tensor]]):
    """The latents of an npz file, as a data set that a network can be trained on.

    Args:
        path: the file.
        use_labels: take the classes; False gives label_dim 0.
    Attributes:
        name: of the data set: the file's name without its suffix.
        resolution, num_channels, image_shape: of the latents, which are the network's images.
        shown_shape: channels, height and width of the images that they stand for.
        label_dim: number of classes; 0 without labels.
        scale_factor: what `values` multiplies by.
        autoencoder: path of the autoencoder as it was named.
    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if it is damaged, or no such file.
    """

    def __init__(self, path: str | os.PathLike[str], use_labels: bool = True) -> None:
        with open_arrays(path) as arrays:
            arrays.require("mean", "logvar", "scale_factor", "image_shape", "autoencoder")
            mean, logvar = arrays.read("mean"), arrays.read("logvar")
            self.scale_factor = float(arrays.read("scale_factor"))
            shown = arrays.read("image_shape")
            self.autoencoder = str(arrays.read("autoencoder"))
            labels = arrays.read("labels") if use_labels and "labels" in arrays else None
        _check(path, mean, logvar, shown, self.scale_factor)

        self.name = Path(path).stem
        self._stored = torch.from_numpy(np.stack([mean, logvar], axis=1))  # (N, 2, C, H, W)
        self.image_shape = (int(mean.shape[1]), int(mean.shape[2]), int(mean.shape[3]))
        self.num_channels, self.resolution, _ = self.image_shape
        self.shown_shape = (int(shown[0]), int(shown[1]), int(shown[2]))
        self._labels = _classes(path, labels, len(mean)) if use_labels else None
        self.label_dim = 0 if self._labels is None else int(self._labels.max()) + 1

    @property
    def nbytes(self) -> int:
        """Bytes that the data take."""
        return self._stored.nbytes

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Means and log variances, float32 [2, C, H, W], and the label, float32 [label_dim]."""
        if self._labels is None:
            return self._stored[index], torch.zeros(0)
        return self._stored[index], one_hot(self._labels[index], self.label_dim).float()

    def to_tensor(self) -> None:
        """They are in memory already."""

    def values(self, stored: Tensor, random: torch.Generator) -> Tensor:
        """What a network sees of some of them: scale_factor (mean + exp(logvar / 2) n), n ~ N(0, I).

        Args:
            stored: [B, 2, C, H, W].
            random: draws n, on the device of `stored`.
        Returns:
            float32 [B, C, H, W], of about unit variance.
        """
        mean, logvar = stored.unbind(1)
        noise = torch.randn(mean.shape, generator=random, device=random.device).to(mean.device)
        return self.scale_factor * (mean + (logvar / 2).exp() * noise)


# What a network can be trained on.
TrainingData = ImageDataset | LatentDataset


def is_latents(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds latents rather than images, by the names of its arrays."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"mean.npy", "logvar.npy"} <= set(archive.namelist())


def open_data(path: str | os.PathLike[str], use_labels: bool = True) -> TrainingData:
    """The images or latents of a data set.

    Raises:
        FileNotFoundError, ValueError: as `ImageDataset` and `LatentDataset`.
    """
    if is_latents(path):
        return LatentDataset(path, use_labels)
    return ImageDataset(path, use_labels)


def write_latents(
    path: str | os.PathLike[str],
    mean: np.ndarray,
    logvar: np.ndarray,
    labels: np.ndarray | None,
    scale_factor: float,
    image_shape: tuple[int, ...],
    autoencoder: str,
    autoencoder_sha256: str,
) -> None:
    """Write the file of a `LatentDataset`, atomically; see the module for what is what."""
    arrays = {
        "mean": mean.astype(np.float32),
        "logvar": logvar.astype(np.float32),
        "scale_factor": np.array(scale_factor),
        "image_shape": np.array(image_shape, np.int64),
        "autoencoder": np.array(autoencoder),
        "autoencoder_sha256": np.array(autoencoder_sha256),
    }
    if labels is not None:
        arrays["labels"] = labels.astype(np.int64)
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _check(
    path: str | os.PathLike[str],
    mean: np.ndarray,
    logvar: np.ndarray,
    shown: np.ndarray,
    scale_factor: float,
) -> None:
    numbers = mean.dtype.kind == logvar.dtype.kind == "f"
    if not numbers or mean.ndim != 4 or mean.shape != logvar.shape or 0 in mean.shape:
        raise ValueError(
            f"{path} is damaged: its latents are {mean.dtype} {list(mean.shape)} and {logvar.dtype} "
            f"{list(logvar.shape)}, not twice float [N, C, H, W]"
        )
    if mean.shape[2] != mean.shape[3]:
        raise ValueError(
            f"{path} has latents of {mean.shape[3]}x{mean.shape[2]}; they must be square"
        )
    if not (np.isfinite(mean).all() and np.isfinite(logvar).all()):
        raise ValueError(f"{path} is damaged: a latent is NaN or infinite")
    if not 0 < scale_factor < float("inf"):
        raise ValueError(f"{path} is damaged: its scale_factor is {scale_factor}")
    if shown.shape != (3,) or shown.dtype.kind != "i" or shown.min() < 1:
        raise ValueError(f"{path} is damaged: the shape of its images is {shown.tolist()}")


def _classes(path: str | os.PathLike[str], labels: np.ndarray | None, count: int) -> Tensor:
    if labels is None:
        raise ValueError(f"{path} holds no labels: its images had none when they were encoded")
    good = labels.shape == (count,) and labels.dtype.kind == "i"
    if not good or labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise ValueError(f"{path} is damaged: its labels are no classes of its {count} images")
    return torch.from_numpy(labels.astype(np.int64))
