"""The dataset zip as a torch Dataset, and the order in which training visits it."""

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import Dataset, Sampler

from dnnlib.cli import warn
from dnnlib.text import printable
from training.data.image_files import ImageFiles
from training.data.image_names import LABEL_FILE, suffix


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Square uint8 images with labels, from a dataset zip or from a folder of the same layout.

    Layout: 00000/img00000000.png, ... and dataset.json {"labels": [["00000/img00000000.png", 3], ...]}, as
    StyleGAN and EDM write and read it; `dataset_tool.py` makes it. Integer labels become one-hot vectors of
    length max + 1; lists of numbers pass through.

    Args:
        path: the zip or the folder.
        use_labels: read dataset.json; False gives label_dim 0, the empty label.
    Attributes:
        name: of the data set: the file's name without its suffix.
        resolution, num_channels: image side in pixels; 1 (grayscale) or 3 (RGB).
        image_shape: (num_channels, resolution, resolution).
        label_dim: length of a label vector; 0 without labels.
    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if images or labels are missing, corrupt, mixed in size or not square; names the file.
    """

    def __init__(self, path: str | os.PathLike[str], use_labels: bool = True) -> None:
        self._files = ImageFiles(path)
        self._names = self._files.names
        _refuse_unread(self._files)
        if self._files.archives:
            warn(self._files.about_archives())
        self._decoded: Tensor | None = None
        # Classes stay integers until they are asked for: a million one-hot vectors would take gigabytes.
        self._labels = _read_labels(self._files) if use_labels else torch.zeros(len(self._names), 0)
        self._one_hot = self._labels.ndim == 1
        self.label_dim = int(self._labels.max()) + 1 if self._one_hot else self._labels.shape[1]

        self.name = self._files.path.stem if self._files.is_zip else self._files.path.resolve().name
        self.image_shape = tuple(self._read(self._names[0]).shape)
        self.num_channels, self.resolution, width = self.image_shape
        if self.resolution != width:
            where = self._files.where(self._names[0])
            raise ValueError(
                f"{where} is {width}x{self.resolution} (width x height); images must be square"
            )

    @property
    def shown_shape(self) -> tuple[int, ...]:
        """Channels, height and width of what is shown of it: the images themselves."""
        return self.image_shape

    @property
    def files(self) -> ImageFiles:
        """Where the images come from."""
        return self._files

    @property
    def nbytes(self) -> int:
        """Bytes that the decoded images take: what `to_tensor` costs."""
        return len(self) * int(np.prod(self.image_shape))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The image, uint8 [C, H, W], and its label, float32 [label_dim]."""
        image = self._image(index) if self._decoded is None else self._decoded[index]
        return image, self._vectors(self._labels[index])

    def to_tensor(self) -> tuple[Tensor, Tensor]:
        """All images, uint8 [N, C, H, W], and labels, float32 [N, label_dim]; decoded once and then kept."""
        if self._decoded is None:
            decoded = torch.empty(len(self), *self.image_shape, dtype=torch.uint8)
            for index in range(len(self)):
                decoded[index] = self._image(index)
            self._decoded = decoded
        return self._decoded, self._vectors(self._labels)

    def values(self, stored: Tensor, random: torch.Generator) -> Tensor:
        """What a network sees of some of them: uint8 [B, C, H, W] to float32 in [-1, 1]; nothing is drawn."""
        return stored.float() / 127.5 - 1

    def _vectors(self, labels: Tensor) -> Tensor:
        return one_hot(labels, self.label_dim).float() if self._one_hot else labels

    def _image(self, index: int) -> Tensor:
        image = self._read(self._names[index])
        if image.shape != self.image_shape:
            where = self._files.where(self._names[index])
            sizes = f"{tuple(image.shape)}, the first image is {self.image_shape} (channels, height, width)"
            cures = ["--channels 3"] if len(image) != self.num_channels else []
            cures += ["--resolution"] if image.shape[1:] != self.image_shape[1:] else []
            raise ValueError(
                f"{where} is {sizes}; dataset_tool.py {' '.join(cures)} makes them alike"
            )
        return torch.from_numpy(image)

    def _read(self, name: str) -> np.ndarray:
        said = bool(self._files.several)
        image = self._files.image(name)
        if self._files.several and not said:
            warn(
                f"{self._files.where(name)} holds several frames or pages; of such files the first is taken"
            )
        pixels = np.array(image).reshape(image.height, image.width, len(image.getbands()))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)


class Mirrored(Dataset[tuple[Tensor, Tensor]]):
    """A data set's images, left and right exchanged."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """As `ImageDataset`."""
        image, label = self.dataset[index]
        return image.flip(2), label


class InfiniteSampler(Sampler[int]):
    r"""Endless dataset indices whose state is one number: how many samples all ranks have consumed.

    Position p of the common stream is permutation(seed, p // N)[p % N], and rank r of R visits
    start + r, start + r + R, ...: every epoch holds each index once, and ranks are disjoint. A run that stops
    after k samples goes on exactly with start = k, on any number of ranks.

    Args:
        dataset_size: N >= 1.
        rank, num_replicas: this process and how many there are, 0 <= rank < num_replicas.
        seed: of the permutations.
        start: samples already consumed by all ranks together, >= 0.
    Raises:
        ValueError: if a range above is violated.
    """

    def __init__(
        self, dataset_size: int, rank: int = 0, num_replicas: int = 1, seed: int = 0, start: int = 0
    ) -> None:
        if dataset_size < 1:
            raise ValueError(f"dataset_size is {dataset_size}; it must be at least 1")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank {rank} is outside 0 ... {num_replicas - 1} (num_replicas - 1)")
        if start < 0:
            raise ValueError(f"start is {start}; it must be at least 0")
        self.dataset_size, self.rank, self.num_replicas = dataset_size, rank, num_replicas
        self.seed, self.start = seed, start

    def __iter__(self) -> Iterator[int]:
        position = self.start + self.rank
        epoch, order = -1, np.arange(self.dataset_size)
        while True:
            if epoch != position // self.dataset_size:
                epoch = position // self.dataset_size
                order = _permutation(self.dataset_size, self.seed, epoch)
            yield int(order[position % self.dataset_size])
            position += self.num_replicas


def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    # RandomState's stream is frozen across numpy versions; Generator's is not.
    return np.random.RandomState([seed % 2**32, epoch]).permutation(size)


def _refuse_unread(files: ImageFiles) -> None:
    """A picture that is not read must not be missing without a word: statistics would be those of the others."""
    if files.unread:
        first = files.where(files.unread[0])
        kinds = ", ".join(sorted({suffix(name) for name in files.unread}))
        counted = f"{len(files.unread)} pictures of formats that are not read ({kinds})"
        raise ValueError(
            f"{printable(files.path)} holds {counted}, the first is {first}: convert or remove them"
        )


def _read_labels(files: ImageFiles) -> Tensor:
    labels = files.labels()
    if labels is None:
        why = f"{LABEL_FILE} says null" if files.has_label_file else f"no {LABEL_FILE}"
        raise ValueError(
            f"{files.path} has no labels ({why}), which a class-conditional network needs"
        )
    return torch.from_numpy(labels if labels.ndim == 1 else labels.astype(np.float32))
