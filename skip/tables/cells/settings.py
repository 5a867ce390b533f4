"""What a cell of a table measures: settings that every study shares, and the study's interface."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from dnnlib.cli import warn
from dnnlib.keywords import check_keywords
from dnnlib.seeds import Seeds, parse_seeds
from sampling.settings import NETWORK_GRIDS, SamplerSettings
from sampling.sigmas import edm
from skip.evidence.estimate import Estimate
from skip.scale import Axis, SkipScale, Spacing, Time
from skip.source import ImageSource, LastNetwork, LoadedSource
from training.networks import SkipTarget

Across = Literal["bottom-to-one", "constant"]


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


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A network and its skip coefficients.

    Args:
        network: a name in configs/networks.toml, a path or a URL.
        dtype: of the network; None as `skip.source.ImageSource`.
        seeds: as "0-49999"; each is one image, or one draw.
        rho: of the deepest decoder layer.
        across: how the other layers go on: "bottom-to-one" or "constant".
        top: what they approach instead of one; None leaves it to `across`.
        spacing, time, axis, window: see `skip.scale.SkipScale`.
        time_range: ends of the time axis, its sigma_min and sigma_max; None is EDM's.
        target: see `training.networks.UNetBlock.forward`.
    Raises:
        ValueError: if a choice is unknown or a number out of range.
    """

    network: str
    dtype: str | None = None
    seeds: str = "0-49999"
    rho: float = 1.0
    across: Across = "bottom-to-one"
    spacing: Spacing = "paper"
    time: Time = "constant"
    axis: Axis = "edm"
    window: tuple[float, float] | None = None
    target: SkipTarget = "full"
    time_range: tuple[float, float] | None = None
    top: float | None = None

    def __post_init__(self) -> None:
        if self.across not in get_args(Across):
            raise ValueError(f"unknown across {self.across!r}; choose from {', '.join(get_args(Across))}")
        if self.top is not None and self.across != "bottom-to-one":
            raise ValueError(f"across = {self.across} says what rho is at the top; leave out top = {self.top}")
        self.count  # noqa: B018  # refuses a bad text now
        ImageSource(scale=self.scale, skip_target=self.target, dtype=self.dtype)

    @cached_property
    def numbers(self) -> Seeds:
        """The seeds."""
        return parse_seeds(self.seeds)

    @property
    def count(self) -> int:
        """How many seeds there are."""
        return len(self.numbers)

    def check(self) -> None:
        """Load the network, on the CPU, and refuse settings that do not fit it; see `Study.check`."""
        self.plain_source().load("cpu")

    def plain_source(self) -> ImageSource:
        """The network and its skip coefficients; the sampler is any."""
        return ImageSource(self.network, scale=self.scale, skip_target=self.target, dtype=self.dtype)

    @property
    def scale(self) -> SkipScale:
        """rho of layer and noise level."""
        top = self.top if self.top is not None else 1.0 if self.across == "bottom-to-one" else self.rho
        scale = SkipScale(self.rho, top, self.spacing, time=self.time, axis=self.axis, window=self.window)
        if self.time_range is None:
            return scale
        return replace(scale, sigma_min=self.time_range[0], sigma_max=self.time_range[1])


class Study(Protocol):
    """The settings of one cell, a frozen dataclass, and how it is measured."""

    @property
    def network(self) -> str: ...
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


def sampler_of(settings: Any) -> SamplerSettings:
    """The sampler among the settings of a dataclass that has all of its fields."""
    return SamplerSettings(**{f.name: getattr(settings, f.name) for f in fields(SamplerSettings)})


def build(study: Callable[..., Study], values: dict[str, Any]) -> Study:
    """Settings from values of a TOML file, where tuples are lists.

    Raises:
        ValueError: if a key is unknown or a value is wrong.
    """
    known = {f.name for f in fields(study)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown setting {key!r}; there are {', '.join(sorted(known))}")
    check_keywords(values, [study])  # type: ignore[list-item]  # a dataclass
    try:
        return study(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
    except TypeError as error:
        raise ValueError(str(error)) from error


def plain(study: Study, defaults: bool = True) -> dict[str, Any]:
    """The settings as JSON, without those that are None.

    Args:
        study: the settings.
        defaults: with those that have their default value. Without them, a setting that is added later, with a default
            that changes nothing, leaves the names of results as they are.
    """
    default = {f.name: f.default for f in fields(study)}  # type: ignore[arg-type]
    found = {}
    for name, value in asdict(study).items():  # type: ignore[call-overload]
        if value is not None and (defaults or value != default[name]):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found
