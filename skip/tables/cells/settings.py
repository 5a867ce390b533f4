"""What a cell of a table measures: settings that every study shares, and the study's interface."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from dnnlib.cli import warn
from dnnlib.seeds import Seeds, parse_seeds
from sampling.names import NETWORK_GRIDS
from sampling.sigmas import edm
from skip.evidence.estimate import Estimate
from skip.scale import SkipScale
from skip.source import ImageSource, LastNetwork, LoadedSource
from skip.tables.cells.words import Across, record_of
from training.networks import SkipTarget
from training.presets import load_presets


@dataclass(frozen=True)
class Job:
    """Where and how a cell is computed; none of it changes the result.

    Attributes:
        device: of this rank.
        batch: images at a time.
        folder: of partial results, from which a killed run goes on.
        result: the file that the result goes to, without its ending, for studies that make pictures.
        said: warnings that were given already.
        networks: loads them, and keeps the last.
        computed: what `load` gave: "dtype" of the last network, and "compile" where it is compiled.
        compile: torch.compile the networks that images are sampled with.
    """

    device: torch.device
    batch: int
    folder: Path
    result: Path
    said: set[str] = field(default_factory=set, compare=False)
    networks: LastNetwork = field(default_factory=LastNetwork, compare=False)
    computed: dict[str, Any] = field(default_factory=dict, compare=False)
    compile: bool = False

    def load(self, source: ImageSource, compile: bool = False) -> LoadedSource:
        """A source of images on the device; of the same network as the last one, without reading it again.

        Args:
            source: what to load.
            compile: torch.compile it; studies that look into a network cannot have that.
        """
        loaded = source.load(self.device, compile, self.networks)
        self.computed["dtype"] = loaded.record["dtype"]
        if compile:
            self.computed["compile"] = True
        return loaded

    def warn(self, text: str) -> None:
        """Say something on stderr, once."""
        if text not in self.said:
            self.said.add(text)
            warn(text)


class Seeded:
    """Settings with seeds, each of them one image or one draw."""

    seeds: str

    @cached_property
    def numbers(self) -> Seeds:
        """The seeds."""
        return parse_seeds(self.seeds)

    @property
    def count(self) -> int:
        """How many seeds there are."""
        return len(self.numbers)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Seeded):
    """A network, its skip coefficients, and the seeds that are measured.

    Args:
        network: a name in configs/networks.toml, a path or a URL.
        dtype: of the network; None is float32 and, on CUDA, what its entry or file says.
        seeds: as "0-49999"; each is one image, or one draw.
        scale: rho of layer and noise level.
        across: what tables call the scale's way from the deepest layer to the last one: "bottom-to-one", or "constant"
            of one that stays.
        target: what in a decoder block sees the scaled skip: "full", or one of the paths of Appendix C.
        skip_method: what else acts on the skips, as `skip.methods.table.parse_methods` reads it.
    Raises:
        ValueError: if a choice is unknown or a number out of range.
    """

    network: str
    dtype: str | None = None
    seeds: str = "0-49999"
    scale: SkipScale = field(default_factory=SkipScale)
    across: Across = "bottom-to-one"
    target: SkipTarget = "full"
    skip_method: str | None = None

    def __post_init__(self) -> None:
        if self.across not in get_args(Across):
            raise ValueError(
                f"unknown across {self.across!r}; choose from {', '.join(get_args(Across))}"
            )
        self.count  # noqa: B018  # refuses a bad text now
        ImageSource(
            scale=self.scale, skip_target=self.target, dtype=self.dtype,
            skip_method=self.skip_method,
        )  # fmt: skip

    def effect(self) -> dict[str, Any]:
        """What the settings come to, as JSON: equal where two cells would measure the same."""
        return record_of(self)

    def check(self) -> None:
        """Load the network, on the CPU, and refuse settings that do not fit it."""
        self.network_alone().load("cpu")

    def network_alone(self) -> ImageSource:
        """The network and its skip coefficients; the sampler is any."""
        return ImageSource(
            self.network, scale=self.scale, skip_target=self.target, dtype=self.dtype,
            skip_method=self.skip_method,
        )  # fmt: skip

    def network_sources(self) -> dict[str, str]:
        """The network, and the autoencoder that its entry in configs/networks.toml names."""
        found = {"network": self.network}
        preset = load_presets().get(self.network)
        if preset is not None and preset.autoencoder:
            found["autoencoder"] = preset.autoencoder
        return found


class Study(Protocol):
    """The settings of one cell, a frozen dataclass, and how it is measured."""

    @property
    def seeds(self) -> str: ...
    @property
    def count(self) -> int: ...

    def evaluations(self) -> int:
        """Network evaluations that the cell costs, over all images."""
        ...

    def sources(self) -> dict[str, str]:
        """The files it needs, by role: names, paths or URLs."""
        ...

    def effect(self) -> dict[str, Any]:
        """What the settings come to, as JSON: equal where two cells would measure the same."""
        ...

    def check(self) -> None:
        """Load all files that are needed, fetched if need be, and compute nothing.

        Raises:
            ValueError, OSError, RuntimeError: if one is damaged, or does not fit another one or the settings.
        """
        ...

    def run(self, job: Job) -> dict[str, Estimate]:
        """Measure; under torchrun every rank calls it, and rank 0 has the result."""
        ...


@dataclass
class AnyRange:
    """A stand-in for a network that knows every noise level, to count evaluations before there is one."""

    sigma_min: float = 0.0
    sigma_max: float = math.inf

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The level itself."""
        return torch.as_tensor(sigma)

    @property
    def sigma_grids(self) -> dict[str, Callable[[int], Tensor]]:
        """As many levels as a network's own grid has."""
        return {name: lambda steps: edm(steps, 0.002, 80) for name in NETWORK_GRIDS}
