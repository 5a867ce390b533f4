"""The networks that have a name: configs/networks.toml."""

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dnnlib import catalogue
from dnnlib.catalogue import Entry, local_file
from dnnlib.keywords import load_tables
from dnnlib.places import NETWORKS_TOML
from dnnlib.util import fetch, is_url

HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Preset(Entry):
    """A network of configs/networks.toml: an entry with either a URL or a path.

    Attributes:
        size: of the file in MB, about: parameters times their bytes; None if unknown.
        autoencoder: the second file that a latent network needs: a URL, or a path as `path`.
        autoencoder_sha256: of that, as `sha256`.
        num_heads, head_channels: of the network's attention, how many heads or how many channels in each, where its
            file does not tell it and is unlike the published ones.
        dtype: what the network computes in on a CUDA device, "float16" or "bfloat16"; None: what its file says.
        defaults: sampler settings for those that the user does not choose: fields of
            `sampling.settings.SamplerSettings`, "guidance", and "guide", the network that guides; see
            `skip.options.image_source`.
    """

    size: int | None = None
    autoencoder: str | None = None
    autoencoder_sha256: str = ""
    num_heads: int | None = None
    head_channels: int | None = None
    dtype: str | None = None
    defaults: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.url is None) == (self.path is None):
            raise ValueError(f"network {self.name!r} needs either a url or a path")
        if self.dtype not in (None, *HALVES):
            raise ValueError(
                f"its dtype is {self.dtype!r}; it may be {' or '.join(HALVES)}, and is so on CUDA only"
            )

        for name, value in self.heads.items():
            if value < 1:
                raise ValueError(f"its {name} is {value}; it must be at least 1")
        if len(self.heads) > 1:
            raise ValueError("it has num_heads and head_channels; give one of them")

    @property
    def heads(self) -> dict[str, int]:
        """Of num_heads and head_channels what is given."""
        given = {"num_heads": self.num_heads, "head_channels": self.head_channels}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def local_path(self) -> Path:
        """Where the file is, or will be once it is fetched."""
        return local_file(str(self.url or self.path))

    @property
    def missing(self) -> list[Path]:
        """Of its files, those of the autoencoder and the guide included, where those will be that are not here yet."""
        asked = (self.url, self.path, self.autoencoder, self.defaults.get("guide"))
        places = [place for place in asked if place is not None]
        return [file for file in map(local_file, places) if not file.is_file()]

    def autoencoder_file(self) -> Path | None:
        """The local file of the autoencoder, fetched if need be, None if there is none; errors: see `Entry.file`."""
        if self.autoencoder is None:
            return None
        if is_url(self.autoencoder):
            return fetch(self.autoencoder, self.autoencoder_sha256 or None)
        what = f"the autoencoder of {self.name}"
        return self.by_hand(self.autoencoder, what, self.autoencoder_sha256)


@cache
def load_presets(path: str | os.PathLike[str] = NETWORKS_TOML) -> dict[str, Preset]:
    """The entries of a TOML file by name, in its order; each file is read once per process.

    Raises:
        ValueError: if the file is not TOML, or an entry has an unknown or a missing key.
    """
    return load_tables(path, Preset)


def resolve(source: str | os.PathLike[str]) -> tuple[Path, Preset | None]:
    """The local file of a network, of a name in configs/networks.toml, a path or a URL; and the entry of a name.

    Raises:
        FileNotFoundError, ValueError, RuntimeError, OSError: as `dnnlib.catalogue.resolve`.
    """
    return catalogue.resolve(source, load_presets(), "network")
