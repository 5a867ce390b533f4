"""One front door for feature networks: `load_detector(name | path | URL, device)`, whatever the network."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dnnlib.catalogue import Entry, resolve
from dnnlib.keywords import load_tables
from dnnlib.places import DETECTORS_TOML
from metrics.demo_detector.files import load_demo_detector
from metrics.inception import load_inception
from metrics.transformers_detector import SIZE, TransformersDetector, load_transformers


class Detector(Protocol):
    """A feature network: uint8 images in, features and logits out; a torch.nn.Module in eval mode.

    Attributes:
        name: goes into every result; features of different names must not be compared.
        feature_dim: length of a feature vector.
        num_logits: length of a vector of logits; 0 if the network classifies nothing, and has no Inception Score.
        sha256: of the file of weights; goes into every result.
    """

    @property
    def name(self) -> str: ...
    @property
    def feature_dim(self) -> int: ...
    @property
    def num_logits(self) -> int: ...
    @property
    def sha256(self) -> str: ...

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, W] on the detector's device -> features [N, feature_dim], logits [N, num_logits].

        Both in float32, or in float64 where the detector computes in that.

        Raises:
            ValueError: if the detector cannot read such images.
        """
        ...


@runtime_checkable
class SpatialDetector(Detector, Protocol):
    """A detector with spatial features, which sFID is of: Inception-v3.

    Attributes:
        spatial_dim: how many of an image.
    """

    @property
    def spatial_dim(self) -> int: ...

    def with_spatial(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As a call, and the spatial features [N, spatial_dim]."""
        ...


@dataclass(frozen=True)
class DetectorEntry(Entry):
    """A detector of configs/detectors.toml: an entry with one of a URL, a path, and a name on the Hugging Face hub.

    Attributes:
        hub: the name of a model there.
        features: of a model on the hub: how many it has of an image; what loads with others is refused.
        size: of a model on the hub: pixels along an edge of what it reads.
        projected: of CLIP on the hub: its embedding of length 1 behind the projection.
        resize: of Inception-v3: "tensorflow", "torch" or "clean".
        floor: uint8 levels at or below it count as 0, see `Floored`; None leaves images as they are.
    """

    hub: str | None = None
    features: int | None = None
    size: int = SIZE
    projected: bool = False
    resize: str = "tensorflow"
    floor: int | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.url, self.path, self.hub)) != 1:
            raise ValueError(f"detector {self.name!r} needs exactly one of url, path and hub")


class Floored(torch.nn.Module):
    """A detector behind a floor: a uint8 level v counts as v if v > floor, else as 0.

    A control for changes that nobody sees: a background whose levels are 0 to 3 in some images and exactly 0 in others
    moves distances between features. Its distances compare with statistics of its own features alone, which its name
    sees to.

    Args:
        detector: in eval mode.
        floor: the highest level that is black, 1 to 254.
    Raises:
        ValueError: if the floor is none.
    """

    def __init__(self, detector: Detector, floor: int) -> None:
        super().__init__()
        if not 1 <= floor <= 254:
            raise ValueError(f"floor is {floor}; the highest level that is black must be 1 to 254")
        self.detector, self.floor = detector, floor
        self.name = f"{detector.name}-floor{floor}"
        self.feature_dim, self.num_logits = detector.feature_dim, detector.num_logits
        self.sha256 = detector.sha256
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, W] -> features and logits, as the detector's own."""
        features, logits = self.detector(images * (images > self.floor))
        return features, logits


@cache
def load_entries(path: str | os.PathLike[str] = DETECTORS_TOML) -> dict[str, DetectorEntry]:
    """The entries of a TOML file by name, in its order; each file is read once per process.

    Raises:
        ValueError: if the file is not TOML, or an entry has an unknown or a missing key.
    """
    return load_tables(path, DetectorEntry)


def load_detector(
    source: str | os.PathLike[str], device: str | torch.device, dtype: torch.dtype = torch.float32
) -> Detector:
    """Load a feature network.

    A name comes before a file of the same name; write ./NAME for the file. The kind of network is told from the
    content of the file: safetensors hold the demo's, a folder one for the package transformers, others Inception-v3.

    Args:
        source: a name in configs/detectors.toml, a path, or a URL (which is fetched into the cache).
        device: where the network goes.
        dtype: of its convolutions and products; float32 is what published numbers use.
    Returns:
        The network on the device, in eval mode and without gradients.
    Raises:
        FileNotFoundError: if there is no such file; a mistyped name is answered with the list of names.
        ValueError: if the file is damaged, has another hash than configs/detectors.toml says, or is no detector's.
        RuntimeError: if a download fails; or transformers is needed and not installed.
    """
    entry = load_entries().get(str(source))
    network = _network(source, entry, device, dtype)
    if entry is None or entry.floor is None:
        return network
    return Floored(network, entry.floor)


def _network(
    source: str | os.PathLike[str],
    entry: DetectorEntry | None,
    device: str | torch.device,
    dtype: torch.dtype,
) -> Detector:
    """The network itself, whatever an entry says of its images."""
    if entry is not None and entry.hub is not None:
        return _from_hub(entry.hub, entry, dtype).to(device)
    path, _ = resolve(source, load_entries(), "detector", folders=True)
    if path.is_dir():
        return load_transformers(path, dtype).to(device)
    if _is_safetensors(path):
        if dtype != torch.float32:
            raise ValueError(
                f"the demo detector runs in float32, not {str(dtype).removeprefix('torch.')}"
            )
        return load_demo_detector(path).to(device)
    return load_inception(path, entry.resize if entry else "tensorflow", dtype).to(device)


def _from_hub(hub: str, entry: DetectorEntry, dtype: torch.dtype) -> TransformersDetector:
    """A model from the hub, which must be what its entry says."""
    found = load_transformers(hub, dtype, entry.size, entry.projected)
    if entry.sha256 and not found.sha256.startswith(entry.sha256):
        raise ValueError(
            f"{hub}: expected weights of sha256 {entry.sha256}, found {found.sha256}; get them again"
        )
    if entry.features not in (None, found.feature_dim):
        raise ValueError(
            f"{hub} has {found.feature_dim} features, and the detector {entry.name} {entry.features}: "
            "it is another network"
        )
    return found


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"
