"""One front door for feature networks: `load_detector(name | path | URL, device)`, whatever the network."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dnnlib.catalogue import Entry, resolve
from dnnlib.keywords import load_tables
from dnnlib.places import ROOT
from metrics.demo_detector.files import load_demo_detector
from metrics.inception import load_inception
from metrics.transformers_detector import load_transformers

DEFAULT = "inception-2015-12-05"
DETECTORS_TOML = ROOT / "configs" / "detectors.toml"


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


@dataclass(frozen=True)
class DetectorEntry(Entry):
    """A detector of configs/detectors.toml: an entry with one of a URL, a path, and a name on the Hugging Face hub.

    Attributes:
        hub: the name of a model there.
        resize: of Inception-v3: "tensorflow" or "torch".
    """

    hub: str | None = None
    resize: str = "tensorflow"

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.url, self.path, self.hub)) != 1:
            raise ValueError(f"detector {self.name!r} needs exactly one of url, path and hub")


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
    if entry is not None and entry.hub is not None:
        return load_transformers(entry.hub, dtype).to(device)
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


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"
