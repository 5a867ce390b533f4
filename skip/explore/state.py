"""What the sliders of a page say, and that same choice as images, a command, Python, and a link."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any
from urllib.parse import urlencode

from dnnlib.seeds import Seeds, parse_seeds
from dnnlib.text import printable
from sampling.names import Labels
from sampling.samplers import SOLVERS
from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.source import ImageSource

MOST_IMAGES = 64
SAMPLERS = tuple(name for name in SOLVERS if name != "ablation")
UNLIMITED = ("", "inf", "Infinity", "infinity")  # of sigma_high, as people and browsers write it


@dataclass(frozen=True)
class State:
    """A choice of every slider. Every value has a default, so that a link names only what differs.

    Args:
        network: name, path or URL.
        rho_bottom, rho_top: of Skip-Tuning.
        sampler, steps: solver and number of noise levels.
        sigma_low, sigma_high: Skip-Tuning acts only where sigma_low < sigma <= sigma_high.
        class_idx: of every image; None for seed modulo classes.
        seeds: such as 0-15.
        guidance: scale; 1 for none.
        labels: "balanced", or "random" for a network without classes; no link says it.
    Raises:
        ValueError: if a value is none that images can be made with; names it.
    """

    network: str = "demo"
    rho_bottom: float = 0.8
    rho_top: float = 1.0
    sampler: str = "unipc"
    steps: int = 9
    sigma_low: float = 0.0
    sigma_high: float = math.inf
    class_idx: int | None = None
    seeds: str = "0-15"
    guidance: float = 1.0
    labels: Labels = "balanced"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(
                f"sampler {printable(self.sampler)} is unknown; choose from {', '.join(SAMPLERS)}"
            )
        number = len(self.parsed_seeds)
        if number > MOST_IMAGES:
            raise ValueError(
                f"seeds {printable(self.seeds)} are {number} images; at most {MOST_IMAGES} fit on the page"
            )
        self.source()

    @property
    def parsed_seeds(self) -> Seeds:
        """The seeds, in order."""
        return parse_seeds(self.seeds)

    @property
    def window(self) -> tuple[float, float] | None:
        """Where Skip-Tuning acts; None for everywhere."""
        everywhere = self.sigma_low == 0 and self.sigma_high == math.inf
        return None if everywhere else (self.sigma_low, self.sigma_high)

    def source(self, tuned: bool = True) -> ImageSource:
        """What makes the images.

        Args:
            tuned: False with rho 1, whatever the sliders say.
        """
        scale = SkipScale(self.rho_bottom, self.rho_top, window=self.window)
        by_seed = self.class_idx is None
        return ImageSource(
            network=self.network,
            sampler=SamplerSettings(sampler=self.sampler, steps=self.steps),
            scale=scale if tuned else SkipScale(),
            labels=self.labels if by_seed else "random",
            class_idx=self.class_idx,
            guidance=None if self.guidance == 1 else self.guidance,
        )

    def command(self) -> str:
        """The same images by generate.py."""
        words = [
            f"python generate.py --network={shlex.quote(self.network)} --outdir=out/explored",
            f"--seeds={self.seeds.replace(' ', '')}",
            f"--sampler={self.sampler} --steps={self.steps}",
            f"--rho-bottom={written(self.rho_bottom)} --rho-top={written(self.rho_top)}",
        ]

        if self.window is not None:
            words.append(f"--rho-sigma={written(self.sigma_low)},{written(self.sigma_high)}")
        words.append(
            f"--labels={self.labels}" if self.class_idx is None else f"--class={self.class_idx}"
        )
        if self.guidance != 1:
            words.append(f"--guidance={written(self.guidance)}")
        if self.columns * self.rows == len(self.parsed_seeds):
            words.append(f"--grid={self.columns}x{self.rows}")
        return " ".join(words)

    def snippet(self) -> str:
        """The same images in Python."""
        source = self.source()
        arguments = {
            "network": repr(self.network),
            "sampler": _call(source.sampler),
            "scale": _call(source.scale),
        }
        if self.class_idx is None:
            arguments["labels"] = repr(self.labels)
        else:
            arguments["class_idx"] = str(self.class_idx)
        if self.guidance != 1:
            arguments["guidance"] = repr(self.guidance)

        lines = "\n".join(f"    {name}={value}," for name, value in arguments.items())
        seeds = list(self.parsed_seeds)
        told = f"range({seeds[0]}, {seeds[-1] + 1})"
        if seeds != list(range(seeds[0], seeds[-1] + 1)):
            told = str(seeds)

        first = "from math import inf\n\n" if self.window is not None else ""
        return (
            f"{first}"
            "from skip_tuning import ImageSource, SamplerSettings, SkipScale\n"
            "\n"
            f"source = ImageSource(\n{lines}\n)\n"
            f'(batch,) = source.load("cpu").batches({told}, batch_size={len(seeds)})\n'
            "images = batch.images  # uint8 [N, C, H, W]\n"
        )

    @property
    def columns(self) -> int:
        """Of a sheet: as many as rows, or a few more."""
        return math.ceil(math.sqrt(len(self.parsed_seeds)))

    @property
    def rows(self) -> int:
        """Of a sheet."""
        return math.ceil(len(self.parsed_seeds) / self.columns)

    def query(self) -> str:
        """What of it is not the default, as the query of a link."""
        changed = {
            field.name: written(getattr(self, field.name))
            for field in fields(self)
            if field.name in _READERS and getattr(self, field.name) != field.default
        }
        return urlencode(changed)

    @classmethod
    def from_query(cls, query: Mapping[str, str], **otherwise: Any) -> "State":
        """The state that a link names; names that are none of ours, as other programs add to links, are passed over.

        Args:
            query: of the link.
            otherwise: instead of the defaults.
        Raises:
            ValueError: if a value is no such value; names it.
        """
        given = dict(otherwise)
        for name, read in _READERS.items():
            if name in query:
                try:
                    given[name] = read(query[name])
                except ValueError:
                    raise ValueError(f"{name}={printable(query[name])} is no value of it") from None
        return cls(**given)


def _level(text: str) -> float:
    return math.inf if text in UNLIMITED else float(text)


def _class(text: str) -> int | None:
    return None if text == "" else int(text)


_READERS: dict[str, Any] = {
    "network": str,
    "rho_bottom": float,
    "rho_top": float,
    "sampler": str,
    "steps": int,
    "sigma_low": float,
    "sigma_high": _level,
    "class_idx": _class,
    "seeds": str,
    "guidance": float,
}


def written(value: Any) -> str:
    """A value as a link, a control or a flag says it, which `State.from_query` reads back to the last digit."""
    text = "" if value is None else str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def _call(settings: Any) -> str:
    """A dataclass as Python, with what differs from its defaults."""
    given = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.default is MISSING or value != field.default:
            given.append(f"{field.name}={value!r}")
    return f"{type(settings).__name__}({', '.join(given)})"
