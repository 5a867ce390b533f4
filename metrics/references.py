"""What generated images are compared with: published or own statistics, and the real images themselves."""

import os
import zipfile
from pathlib import Path
from typing import Any

from dnnlib.arrays import open_arrays
from dnnlib.places import located
from dnnlib.util import fetch, file_sha256, is_url
from metrics.detector import Detector, load_entries
from metrics.images import Images, open_images
from metrics.names import DEFAULT
from metrics.statistics import Statistics
from metrics.stored_features import StoredFeatures, holds_features
from training.data.image_names import known_suffixes, suffix


class References:
    """The files that real images are known by, read and checked before anything is computed.

    A reference batch of the ADM evaluator holds both images and the statistics (mu, sigma) of many more. Its
    statistics are then the reference, as they are to that evaluator, and its images serve the metrics that need
    images.

    Args:
        ref: statistics, a path or URL; None takes those of `ref_images`.
        ref_images: images, a path, or their features as another tool has kept them; None where no metric needs them.
        spatial: read the statistics of spatial features too, where they are.
    Attributes:
        statistics: of `ref`, or those in the file of `ref_images`; None if there are none. Of a file for two detectors
            they are Inception's: `fitting` knows better.
        real: the images or their features, or None.
        record: what a result tells of them, as JSON.
    Raises:
        FileNotFoundError, ValueError, RuntimeError: if a file is missing, damaged or of another kind.
    """

    def __init__(self, ref: str | None, ref_images: str | None, spatial: bool = False) -> None:
        self._spatial = spatial
        self.own = ref is None and ref_images is not None and has_statistics(located(ref_images))
        self._path: Path | None = None
        self.statistics: Statistics | None = None
        self.real: Images | StoredFeatures | None = None
        self.record: dict[str, Any] = {}

        named = ref_images if self.own else ref
        if named is not None:
            self._path = fetch(named) if is_url(named) else located(named)
            self.statistics = self._read(None)
            self.record |= {"reference": named, "reference_sha256": file_sha256(self._path)}
            if self.statistics is not None and self.statistics.count is not None:
                self.record["reference_num"] = self.statistics.count
        if self.own:
            self.record["reference_statistics"] = (
                "mu and sigma in the file of images, not those of its images"
            )
        if ref_images is not None:
            self.real = _open(located(ref_images))
            self.record |= {"reference_images": ref_images, "reference_images_num": len(self.real)}
            if isinstance(self.real, StoredFeatures):
                self.record["reference_images_are"] = (
                    "features, of which their file does not tell the detector"
                )

    def detector(self, given: str | None, default: str = DEFAULT) -> str:
        """The detector to load: the one that is given, or else the one that the statistics were made with.

        Raises:
            ValueError: if that is no name in configs/detectors.toml: a file must not make us fetch or run another.
        """
        return detector_of(self.statistics, given, default)

    def fitting(self, detector: Detector) -> Statistics | None:
        """The statistics of this detector's features; None takes those of the real images.

        Raises:
            ValueError: if `ref` has none. Where the file of `ref_images` has those of another detector, its images
                take their place, and the record says so.
        """
        if self._path is None:
            return None
        if not self.own:
            return self._read(detector.name)

        found = self._read(detector.name)
        differs = found is None or found.dim != detector.feature_dim
        if found is not None and found.detector is not None:
            differs = differs or found.detector != detector.name

        if differs:
            for key in ("reference", "reference_sha256", "reference_num"):
                self.record.pop(key, None)
            said = "of the images: mu and sigma in their file are another detector's"
            self.record["reference_statistics"] = said
            return None
        return found

    def _read(self, detector: str | None) -> Statistics | None:
        """The statistics of a detector; before it is known, whichever there are, to find damage early."""
        assert self._path is not None
        return Statistics.load(self._path, detector=detector, spatial=self._spatial)


def _open(path: Path) -> Images | StoredFeatures:
    """The images at a path, or the features of theirs that another tool has kept."""
    return StoredFeatures(path) if holds_features(path) else open_images(path)


def has_statistics(path: str | os.PathLike[str]) -> bool:
    """Whether a file of images holds mu and sigma too, as ADM's reference batches do.

    Raises:
        ValueError: if it is a damaged npz.
    """
    if Path(path).suffix.lower() != ".npz" or not Path(path).is_file():
        return False
    with open_arrays(path) as arrays:
        return "mu" in arrays and "sigma" in arrays


def holds_images(path: str | os.PathLike[str]) -> bool:
    """Whether a folder or file is one of images, and has no statistics: by the names in it."""
    path = Path(path)
    if path.is_dir() or (path.suffix.lower() == ".npy" and path.is_file()):
        return True
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    pictures = any(suffix(name) in known_suffixes() for name in names)
    return (pictures or "arr_0.npy" in names) and "mu.npy" not in names


def detector_of(statistics: Statistics | None, given: str | None, default: str = DEFAULT) -> str:
    """The detector to load; see `References.detector`."""
    if given is not None:
        return given
    source = None if statistics is None else statistics.detector_source
    if source is None:
        return default
    if source not in load_entries():
        raise ValueError(
            f"the reference was made with the detector {source!r}, which configs/detectors.toml does not name: "
            "name it as the detector yourself"
        )
    return source
