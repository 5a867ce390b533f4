"""Images to be measured: a folder, a data set zip, or an array in an npy or npz file."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dnnlib.names import RECORD, SHEET
from dnnlib.util import file_sha256
from training.data.image_arrays import is_array_file, open_image_array
from training.data.image_files import ImageFiles
from training.dataset import ImageDataset


class Images(Protocol):
    """Images of one shape, by index.

    Attributes:
        channels: 1 (grayscale) or 3 (RGB).
    """

    channels: int

    def __len__(self) -> int:
        """How many there are."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells these images from others: a hash of what is there, and of which were chosen."""
        ...

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The images of these indices, uint8 [N, C, H, W]."""
        ...


class StoredImages:
    """Images in a folder (with its sub-folders) or in a zip, in the order of their names.

    The contact sheet that generate.py puts beside its images is passed over.

    Args:
        path: the folder or zip.
        max_size: keep a random subset of this many.
        seed: which subset.
    Raises:
        FileNotFoundError, ValueError: as `training.dataset.ImageDataset`; the file is named.
    """

    def __init__(
        self, path: str | os.PathLike[str], max_size: int | None = None, seed: int = 0
    ) -> None:
        self._dataset = ImageDataset(path, use_labels=False)
        sheet = SHEET if (Path(path) / RECORD).is_file() else None
        places = [place for place, name in enumerate(self._dataset.files.names) if name != sheet]
        self._places = [places[i] for i in _subset(len(places), max_size, seed)]
        self.channels = self._dataset.num_channels
        files = self._dataset.files
        found: object = (
            file_sha256(path) if files.is_zip else [_traits(files, name) for name in files.names]
        )
        self.fingerprint = _fingerprint(found, max_size, seed)

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The images of these indices, uint8 [N, C, H, W]."""
        return torch.stack([self._dataset[self._places[i]][0] for i in indices])


class ArrayImages:
    """Images in an array: an npy file, or arr_0 (or the only array) of an npz, as the ADM evaluator's files.

    They stay on disk, unless they are compressed.

    Args:
        path: the npy or npz, uint8 [N, H, W, C].
        max_size: keep a random subset of this many.
        seed: which subset.
    Raises:
        FileNotFoundError, ValueError: as `training.data.image_arrays.open_image_array`.
    """

    def __init__(
        self, path: str | os.PathLike[str], max_size: int | None = None, seed: int = 0
    ) -> None:
        self._images = open_image_array(path)
        self._places = _subset(len(self._images), max_size, seed)
        self.channels = self._images.shape[3]
        self.fingerprint = _fingerprint(file_sha256(path), max_size, seed)

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The images of these indices, uint8 [N, C, H, W]."""
        return torch.from_numpy(
            self._images[[self._places[i] for i in indices]].transpose(0, 3, 1, 2).copy()
        )


def open_images(path: str | os.PathLike[str], num: int | None = None, seed: int = 0) -> Images:
    """The images at `path`: a folder, a zip, an npy or an npz.

    Args:
        path: where they are.
        num: use this many, a random subset where there are more; None uses all.
        seed: which subset.
    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if there are fewer than `num` images or fewer than 2, or one of them cannot be read.
    """
    kind = ArrayImages if is_array_file(path) else StoredImages
    images: Images = kind(path, num, seed)
    if num is not None and len(images) < num:
        raise ValueError(
            f"{path} holds {len(images)} images, but {num} are expected: make more, or ask for fewer"
        )
    if len(images) < 2:
        raise ValueError(f"{path} holds {len(images)} image; statistics need at least 2")
    return images


def require_same_colours(channels: int, real: int | None, what: str) -> None:
    """Refuse to compare grayscale with RGB, which Inception's features would hide: it reads both.

    Args:
        channels: of the generated images.
        real: channels of the real ones; None if unknown.
        what: what the message calls them.
    Raises:
        ValueError: if the numbers of channels differ.
    """
    if real is not None and channels != real:
        kind = {1: "grayscale", 3: "RGB"}
        made, other = (kind.get(n, f"of {n} channels") for n in (channels, real))
        raise ValueError(
            f"the generated images are {made}, those of {what} {other}; convert one set"
        )


def _subset(count: int, max_size: int | None, seed: int) -> list[int]:
    """Which of `count` images are used, in order: EDM's choice for the same seed."""
    if max_size is None or max_size >= count:
        return list(range(count))
    return sorted(np.random.RandomState(seed % 2**31).permutation(count)[:max_size].tolist())


def _traits(files: ImageFiles, name: str) -> tuple[str, int, int]:
    """Name, size and time of an image in a folder: what changes when the image does."""
    status = files.stat(name)
    return name, status.st_size, status.st_mtime_ns


def _fingerprint(found: object, max_size: int | None, seed: int) -> str:
    """A hash of what is there, and of the subset."""
    return hashlib.sha256(json.dumps([found, max_size, seed]).encode()).hexdigest()
