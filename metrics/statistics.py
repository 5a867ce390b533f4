"""Mean and covariance of features: gathered in float64 batch by batch, over ranks, into npz files and out of them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnnlib.arrays import open_arrays
from dnnlib.files import atomic_write
from dnnlib.text import printable
from metrics.features import ArrayLike, as_features
from torch_utils import distributed, safe_pickle
from torch_utils.torch_files import ArrayRules, is_archive, read_archive

KNOWN: dict[str, Any] = {  # beside mu and sigma
    "count": int,
    "detector": str,
    "detector_hash": str,
    "detector_source": str,
    "channels": int,
}
# Of an image; a covariance of more takes gigabytes, and no feature network has them.
MOST_FEATURES = 16384
# What EDM2's files call the statistics of a feature network, by the beginning of our name for it
PICKLED = {"inception": "fid", "dinov2": "fd_dinov2"}


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of a set of features, and where they come from.

    Args:
        mean: float64 [d].
        cov: float64 [d, d], unbiased (divided by N - 1).
        count: N, the number of images; None where a file does not tell.
        detector: name of the feature network; None where a file does not tell.
        detector_hash: sha256 of its weights, or what else tells two of the same name apart; None if unknown.
        detector_source: how the detector was named when they were made: a name, path or URL; None if unknown.
        channels: of the images, 1 (grayscale) or 3 (RGB); None where a file does not tell.
        spatial: of the spatial features of the same images, as ADM's reference batches have them; None without.
    Raises:
        ValueError: if the shapes do not belong together or a value is not finite.
    """

    mean: np.ndarray
    cov: np.ndarray
    count: int | None = None
    detector: str | None = None
    detector_hash: str | None = None
    channels: int | None = None
    detector_source: str | None = None
    spatial: "Statistics | None" = None

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
                raise ValueError(
                    f"statistics of {what} {a} and {b} cannot be compared; make both with one detector"
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz that EDM's programs read (keys mu and sigma); what else is known goes beside them.

        The spatial features' are mu_s and sigma_s, as in ADM's reference batches.
        """
        extra = {key: np.array(value) for key in KNOWN if (value := getattr(self, key)) is not None}
        if self.spatial is not None:
            extra |= {"mu_s": self.spatial.mean, "sigma_s": self.spatial.cov}
        _save(path, {"mu": self.mean, "sigma": self.cov, **extra})

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        mean_key: str = "mu",
        cov_key: str = "sigma",
        detector: str | None = None,
        spatial: bool = False,
    ) -> "Statistics":
        """Read statistics that this class or another tool wrote; nothing in the file is executed.

        Args:
            path: an npz of mu and sigma (EDM, ADM's evaluator, pytorch-fid, clean-fid); a pickle of EDM2's,
                {"fid": {"mu", "sigma"}, "fd_dinov2": {"mu", "sigma"}}; or torch-fidelity's cache of {"mu", "sigma"}.
            mean_key, cov_key: mu_s and sigma_s for the spatial statistics of an ADM reference batch.
            detector: name of the feature network that they are needed for: a pickle holds those of two. None takes
                what comes first, to find damage before a network is loaded.
            spatial: read the spatial features' too, where an npz has them.
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is none of these, lacks the keys, or its arrays are no statistics.
        """
        if _is_pickle(path):
            arrays = _read_pickle(path, detector)
        elif is_archive(Path(path)):
            arrays = _read_torch(Path(path))
        else:
            arrays = _read_npz(path, mean_key, cov_key)
        found = cls._of(arrays, path)
        if spatial and _has_spatial(path):
            return replace(found, spatial=cls._of(_read_npz(path, "mu_s", "sigma_s"), path))
        return found

    @classmethod
    def _of(cls, arrays: dict[str, np.ndarray], path: str | os.PathLike[str]) -> "Statistics":
        """Statistics from arrays of the file at `path`."""
        try:
            for key in ("mean", "cov"):
                if arrays[key].dtype.kind not in "fiu":
                    raise ValueError(f"{key} is of type {arrays[key].dtype}, not of real numbers")
            known = {key: _scalar(key, arrays[key]) for key in KNOWN if key in arrays}
            return cls(arrays["mean"].astype(np.float64), arrays["cov"].astype(np.float64), **known)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {printable(error)}") from error

    def summary(self) -> dict[str, float]:
        r"""A few numbers that tell these statistics from others, whatever file they are in.

        d, |m|^2, tr C, |C|^2, and m^2 . w, w . C w with w_i = 1 + cos(i) / 2, which see in which features something
        lies. The same statistics that another machine or version has computed have them too, but for rounding:
        `same_summary`. All are sums of terms of one sign, so that rounding stays small.
        """
        w = 1 + np.cos(np.arange(self.dim)) / 2
        return {
            "dim": self.dim,
            "mean_square": float(self.mean @ self.mean),
            "trace": float(self.cov.trace()),
            "cov_square": float(np.square(self.cov).sum()),
            "mean_probe": float(np.square(self.mean) @ w),
            "cov_probe": float(w @ self.cov @ w),
        }


def same_summary(
    one: Mapping[str, float], other: Mapping[str, float], tolerance: float = 1e-5
) -> bool:
    """Whether two summaries are of the same statistics: equal to within float32 features' rounding."""
    numbers = [*one.values(), *other.values()]
    if one.keys() != other.keys() or not all(isinstance(number, int | float) for number in numbers):
        return False
    return all(abs(one[key] - other[key]) <= tolerance * abs(other[key]) for key in one)


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
            raise ValueError(
                f"features have {x.shape[1]} dimensions, the statistics {len(self.mean)}"
            )
        if len(x) > 0:
            mean = x.mean(0)
            self._join(len(x), mean, x - mean)

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
        total.scatter = distributed.all_reduce_sum(
            torch.addr(self.scatter, gap, gap, alpha=self.count)
        )
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
        return Statistics(
            self.mean.cpu().numpy(), cov.cpu().numpy(), self.count, detector, detector_hash
        )

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


def _read_npz(path: str | os.PathLike[str], mean_key: str, cov_key: str) -> dict[str, np.ndarray]:
    """Mean, covariance and what else is known; shapes are compared before memory is taken."""
    with open_arrays(path) as file:
        if mean_key not in file and "feats" in file:
            raise ValueError(
                f"{path} holds the features of real images, not their statistics: it takes the place of the images"
            )
        file.require(mean_key, cov_key)
        mean, cov = file.header(mean_key).shape, file.header(cov_key).shape
        if len(mean) != 1 or cov != mean * 2:
            raise ValueError(
                f"{path}: mean has shape {list(mean)} and cov {list(cov)}; need [d] and [d, d]"
            )
        if mean[0] > MOST_FEATURES:
            raise ValueError(
                f"{path} is of {mean[0]:,} features, and no feature network has more than {MOST_FEATURES:,}"
            )
        known = {name: file.read(name, most_bytes=10_000) for name in KNOWN if name in file}
        return {"mean": file.read(mean_key), "cov": file.read(cov_key)} | known


def _has_spatial(path: str | os.PathLike[str]) -> bool:
    """Whether a file of statistics is an npz with those of spatial features."""
    if _is_pickle(path) or is_archive(Path(path)):
        return False
    with open_arrays(path) as file:
        return "mu_s" in file and "sigma_s" in file


def _is_pickle(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as pickles of protocol 2 and later do."""
    if not Path(path).is_file():
        return False  # which the reader of npz files says
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def _read_pickle(path: str | os.PathLike[str], detector: str | None) -> dict[str, np.ndarray]:
    """Mean, covariance and count of one feature network from a pickle of EDM2's."""
    try:
        with open(path, "rb") as file:
            found = safe_pickle.load(file)
    except ValueError as error:
        raise ValueError(
            f"{path} is neither an npz file nor a pickle of plain arrays: {printable(error)}"
        ) from error

    held = found if isinstance(found, dict) else {}
    known = [key for key in PICKLED.values() if key in held]
    fitting = []
    # EDM2 resizes as TensorFlow does: what another resize gives is not comparable.
    if detector is not None and "-resize" not in detector:
        fitting = [PICKLED[begin] for begin in PICKLED if detector.startswith(begin)]
    entry = next(iter(known if detector is None else fitting), None)
    if entry not in held:
        names = ", ".join(known) or "neither fid nor fd_dinov2"
        needed = "" if detector is None else f" for the detector {detector}"
        raise ValueError(f"{path} has no statistics{needed}; it holds {names}")

    part = held[entry]
    if not isinstance(part, dict) or not all(
        isinstance(part.get(key), np.ndarray) for key in ("mu", "sigma")
    ):
        raise ValueError(f"{path}: {entry} is not a mean mu and a covariance sigma")

    count = held.get("num_images")
    known_of = {"count": np.array(count)} if isinstance(count, int) else {}
    if detector is not None:
        known_of["detector"] = np.array(detector)
    return {"mean": part["mu"], "cov": part["sigma"]} | known_of


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    """Mean and covariance from a file of torch-fidelity's cache, whose name has -stat-fid- in it."""
    try:
        found = read_archive(path, ArrayRules)
    except ValueError as error:
        raise ValueError(f"{path}: {printable(error)}") from error

    held = found if isinstance(found, dict) else {}
    mean, cov = held.get("mu"), held.get("sigma")
    if not isinstance(mean, np.ndarray) or not isinstance(cov, np.ndarray):
        raise ValueError(
            f"{path} is a torch.save file, but not of a mean mu and a covariance sigma as arrays"
        )
    return {"mean": mean, "cov": cov}


def _scalar(key: str, value: np.ndarray) -> Any:
    """One of KNOWN, as the type that it has."""
    if value.ndim:
        raise ValueError(f"{key} has shape {list(value.shape)}; need one value")
    if KNOWN[key] is int and value.dtype.kind not in "iu":
        raise ValueError(f"{key} is of type {value.dtype}, not a whole number")
    return KNOWN[key](value)
