"""Features of real images that another tool has kept, for the metrics that compare images with images."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dnnlib.arrays import open_arrays
from dnnlib.text import printable
from metrics.features import as_features
from metrics.statistics import FeatureStatistics, Statistics
from torch_utils.torch_files import is_archive, read_archive

KEY = "feats"  # of clean-fid's npz
BLOCK = 4096  # rows that are held in float64 at a time


class StoredFeatures:
    """The features of a set of images, from a file that does not tell which network made them.

    Args:
        path: clean-fid's *_kid.npz, with an array feats [N, d]; or a file of torch-fidelity's cache, a tensor [N, d],
            whose name has -features- in it.
    Attributes:
        features: float32 or float64 [N, d].
        channels: of the images, which such a file does not tell.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds no features of two images or more.
    """

    channels: int | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            found = _from_torch(self.path) if is_archive(self.path) else _from_npz(self.path)
            self.features: Tensor = as_features(found, "its features", dtype=None, at_least=2)
        except ValueError as error:
            told = printable(error)
            raise ValueError(told if str(path) in told else f"{path}: {told}") from error

    def __len__(self) -> int:
        return len(self.features)

    def require_dim(self, dim: int, detector: str) -> None:
        """Refuse them for a detector whose features have another length.

        Raises:
            ValueError: if it is another.
        """
        if self.features.shape[1] != dim:
            raise ValueError(
                f"{self.path} holds {self.features.shape[1]} features an image, and {detector} has {dim}; "
                "name the detector that they are of"
            )

    def statistics(self) -> Statistics:
        """Mean and covariance over all images."""
        gathered = FeatureStatistics(self.features.shape[1], "cpu")
        for block in self.features.split(BLOCK):
            gathered.update(block)
        return gathered.result()


def holds_features(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds features in place of images.

    Raises:
        ValueError: if it is a damaged npz.
    """
    if not Path(path).is_file():
        return False
    if Path(path).suffix.lower() == ".npz":
        with open_arrays(path) as arrays:
            return KEY in arrays and "arr_0" not in arrays
    return is_archive(Path(path))


def _from_npz(path: Path) -> np.ndarray:
    with open_arrays(path) as arrays:
        arrays.require(KEY)
        dtype, shape = arrays.header(KEY).dtype, arrays.header(KEY).shape
        if dtype.kind not in "fiu" or len(shape) != 2:
            raise ValueError(
                f"{path}: {KEY} is {dtype} {list(shape)}; features are numbers [N, d], one row per image"
            )
        return arrays.read(KEY)


def _from_torch(path: Path) -> Tensor:
    found = read_archive(path)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        raise ValueError(f"{path} is a torch.save file, but not of one tensor of features [N, d]")
    return found.to(torch.promote_types(found.dtype, torch.float32))
