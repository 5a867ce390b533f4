"""Mean and covariance of features: gathered in float64 batch by batch, over ranks, into npz files and out of them."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnnlib.files import atomic_write
from metrics.features import ArrayLike, as_features
from torch_utils import distributed

KNOWN: dict[str, Any] = {"count": int, "detector": str, "detector_hash": str, "channels": int}  # beside mu and sigma


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of a set of features, and where they come from.

    Args:
        mean: float64 [d].
        cov: float64 [d, d], unbiased (divided by N - 1).
        count: N, the number of images; None where a file does not tell.
        detector: name of the feature network; None where a file does not tell.
        detector_hash: sha256 of its weights, or what else tells two of the same name apart; None if unknown.
        channels: of the images, 1 (grayscale) or 3 (RGB); None where a file does not tell.
    Raises:
        ValueError: if the shapes do not belong together or a value is not finite.
    """

    mean: np.ndarray
    cov: np.ndarray
    count: int | None = None
    detector: str | None = None
    detector_hash: str | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.cov.shape != (self.mean.size, self.mean.size):
            raise ValueError(
                f"mean has shape {list(self.mean.shape)} and cov {list(self.cov.shape)}; need [d] and [d, d]"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.cov).all()):
            raise ValueError("the statistics hold NaN or infinity; make them again")

    @property
    def dim(self) -> int:
        """d, the number of features of an image."""
        return self.mean.size

    def require_comparable(self, other: "Statistics") -> None:
        """Refuse two sets of statistics that no distance can be taken between; what is unknown is let pass.

        Raises:
            ValueError: if dimension, detector or its hash differ.
        """
        for what, a, b in [
            ("dimension", self.dim, other.dim),
            ("detector", self.detector, other.detector),
            ("detector hash", self.detector_hash, other.detector_hash),
        ]:
            if a is not None and b is not None and a != b:
                raise ValueError(f"statistics of {what} {a} and {b} cannot be compared; make both with one detector")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz that EDM's programs read (keys mu and sigma); what else is known goes beside them."""
        extra = {key: np.array(value) for key in KNOWN if (value := getattr(self, key)) is not None}
        _save(path, {"mu": self.mean, "sigma": self.cov, **extra})

    @classmethod
    def load(cls, path: str | os.PathLike[str], mean_key: str = "mu", cov_key: str = "sigma") -> "Statistics":
        """Read statistics that this class, EDM or the ADM evaluator wrote; nothing in the file is executed.

        Args:
            path: npz file.
            mean_key, cov_key: mu_s and sigma_s for the spatial statistics of an ADM reference batch.
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no npz file, lacks the keys, or its arrays are no statistics.
        """
        arrays = _load(path, [mean_key, cov_key], list(KNOWN))
        try:
            for key in (mean_key, cov_key):
                if arrays[key].dtype.kind not in "fiu":
                    raise ValueError(f"{key} is of type {arrays[key].dtype}, not of real numbers")
            known = {key: kind(arrays[key]) for key, kind in KNOWN.items() if key in arrays}
            return cls(arrays[mean_key].astype(np.float64), arrays[cov_key].astype(np.float64), **known)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


class FeatureStatistics:
    r"""Streaming mean and covariance: memory O(d^2), whatever the number of images.

    Kept are N, the mean m and the scatter S = sum_i (x_i - m)(x_i - m)^T, all in float64. A batch of b rows with mean
    m' and scatter S' joins as

        S <- S + S' + N b / (N + b) (m' - m)(m' - m)^T,    m <- m + b / (N + b) (m' - m)

    which, unlike the difference of raw moments, loses no digits when the mean is large.

    Reference: Chan, Golub and LeVeque, 1983, Eq. 2.1, https://doi.org/10.1080/00031305.1983.10483115

    Args:
        dim: d, the number of features of an image.
        device: where the sums live; one with float64.
    """

    def __init__(self, dim: int, device: str | torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def update(self, features: ArrayLike) -> None:
        """Add a batch of features [b, d]; b may be 0.

        Raises:
            ValueError: if d differs, or a value is not finite.
        """
        x = as_features(features, at_least=0).to(self.mean.device)
        if x.shape[1] != len(self.mean):
            raise ValueError(f"features have {x.shape[1]} dimensions, the statistics {len(self.mean)}")
        if len(x) > 0:
            mean = x.mean(0)
            self._join(len(x), mean, x - mean)

    def merge(self, other: "FeatureStatistics") -> None:
        """Add what another one has gathered.

        Raises:
            ValueError: if its dimension differs.
        """
        if other.mean.shape != self.mean.shape:
            raise ValueError(f"statistics of {len(other.mean)} and {len(self.mean)} dimensions cannot be merged")
        if other.count > 0:
            self.scatter += other.scatter.to(self.mean.device)
            self._join(other.count, other.mean.to(self.mean.device), self.mean.new_empty(0, len(self.mean)))

    def all_reduced(self) -> "FeatureStatistics":
        """The statistics of all ranks' images together; every rank must call it, those without images too.

        Raises:
            RuntimeError: if another rank stopped.
        """
        total = FeatureStatistics(len(self.mean), self.mean.device)
        counts = distributed.all_reduce_sum(self.mean.new_tensor([self.count]))
        total.count = int(counts.item())
        total.mean = distributed.all_reduce_sum(self.mean * (self.count / max(total.count, 1)))
        gap = self.mean - total.mean
        total.scatter = distributed.all_reduce_sum(torch.addr(self.scatter, gap, gap, alpha=self.count))
        return total

    def result(self, detector: str | None = None, detector_hash: str | None = None) -> Statistics:
        """Mean and unbiased covariance of what was gathered, of this rank alone: see `all_reduced`.

        Args:
            detector, detector_hash: what made the features, to be kept with the numbers.
        Raises:
            ValueError: if fewer than 2 rows were gathered.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images; {self.count} given")
        cov = (self.scatter + self.scatter.T) / (2 * (self.count - 1))
        return Statistics(self.mean.cpu().numpy(), cov.cpu().numpy(), self.count, detector, detector_hash)

    def save(self, path: str | os.PathLike[str], progress: Mapping[str, np.ndarray] | None = None) -> None:
        """Write the sums so that a killed run can continue from them; whole or not at all.

        Args:
            path: npz file.
            progress: arrays that tell what is inside, such as the seeds done; in one file, so that they agree.
        """
        state = {"count": np.array(self.count), "mean": self.mean.cpu().numpy(), "scatter": self.scatter.cpu().numpy()}
        _save(path, {**state, **{f"progress_{key}": value for key, value in (progress or {}).items()}})

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str | torch.device
    ) -> tuple["FeatureStatistics", dict[str, np.ndarray]]:
        """Read what `save` wrote.

        Returns:
            The statistics, and `progress`.
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no file of `save`.
        """
        arrays = _load(path, ["count", "mean", "scatter"])
        stats = cls(len(arrays["mean"]), device)
        stats.count = int(arrays["count"])
        stats.mean = torch.from_numpy(arrays["mean"]).to(device)
        stats.scatter = torch.from_numpy(arrays["scatter"]).to(device)
        progress = {key.removeprefix("progress_"): v for key, v in arrays.items() if key.startswith("progress_")}
        return stats, progress

    def _join(self, count: int, mean: Tensor, centred: Tensor) -> None:
        """Add `count` rows of that mean, whose scatter is that of the rows `centred`."""
        total = self.count + count
        gap = mean - self.mean
        # The gap between the means is one more row of the product: one pass over the large matrix.
        rows = torch.cat([centred, gap[None] * (self.count * count / total) ** 0.5])
        self.scatter.addmm_(rows.T, rows)
        self.mean += gap * (count / total)
        self.count = total


def _save(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own keyword


def _load(
    path: str | os.PathLike[str], required: list[str], optional: list[str] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of those names; without `optional`, all others too."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in required if key not in file]:
                raise KeyError(", ".join(missing))
            wanted = file.files if optional is None else [*required, *(key for key in optional if key in file)]
            return {key: file[key] for key in wanted}
    except KeyError as error:
        raise ValueError(f"{path} has no array {error.args[0]}") from error
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not an npz file of plain arrays: {error}") from error
