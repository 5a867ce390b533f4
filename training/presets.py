"""The networks that have a name, and how a name, a path or a URL becomes a local file."""

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dnnlib.keywords import load_tables
from dnnlib.places import ROOT
from dnnlib.util import cached_path, fetch, file_sha256, is_url

NETWORKS_TOML = ROOT / "configs" / "networks.toml"
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Preset:
    """One entry of configs/networks.toml.

    Attributes:
        name: what the user types.
        licence: of the weights.
        url: where the file is fetched from; or
        path: where it lies, relative to the repository.
        obtain: how to get the file by hand, one sentence, where nothing fetches it.
        sha256: of the file, where it is known.
        size: of the file in MB, about: parameters times their bytes; None if unknown.
        autoencoder: the second file that a latent network needs: a URL, or a path as `path`.
        num_heads, head_channels: of the network's attention, how many heads or how many channels in each, where its
            file does not tell it and is unlike the published ones.
        dtype: what the network computes in on a CUDA device, "float16" or "bfloat16"; None: what its file says.
        defaults: sampler settings for those that the user does not choose: fields of
            `sampling.settings.SamplerSettings`, and "guidance"; see `skip.options.image_source`.
        note: one line for the list of networks.
    """

    name: str
    licence: str
    url: str | None = None
    path: str | None = None
    obtain: str = ""
    sha256: str | None = None
    size: int | None = None
    autoencoder: str | None = None
    num_heads: int | None = None
    head_channels: int | None = None
    dtype: str | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if (self.url is None) == (self.path is None):
            raise ValueError(f"network {self.name!r} needs either a url or a path")
        if self.dtype not in (None, *HALVES):
            raise ValueError(f"its dtype is {self.dtype!r}; it may be {' or '.join(HALVES)}, and is so on CUDA only")

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
        return cached_path(self.url) if self.url is not None else ROOT / str(self.path)

    @property
    def missing(self) -> list[Path]:
        """Of its files, that of the autoencoder included, where those will be that are not here yet."""
        files = [self.local_path]
        if self.autoencoder is not None:
            files.append(cached_path(self.autoencoder) if is_url(self.autoencoder) else ROOT / self.autoencoder)
        return [path for path in files if not path.is_file()]

    def file(self) -> Path:
        """The local file of the network, fetched if need be; errors: see `resolve`."""
        if self.url is not None:
            return fetch(self.url, self.sha256)
        file = self._by_hand(str(self.path), self.name)
        if self.sha256 is not None and not file_sha256(file).startswith(self.sha256):
            raise ValueError(f"{file} is damaged: its SHA-256 is not that of {self.name}; get the file again")
        return file

    def autoencoder_file(self) -> Path | None:
        """The local file of the autoencoder, fetched if need be, None if there is none; errors: see `resolve`."""
        if self.autoencoder is None:
            return None
        if is_url(self.autoencoder):
            return fetch(self.autoencoder)
        return self._by_hand(self.autoencoder, f"the autoencoder of {self.name}")

    def _by_hand(self, path: str, what: str) -> Path:
        if not (ROOT / path).is_file():
            way = f"{self.obtain}; save it as " if self.obtain else "there is no file "
            raise FileNotFoundError(f"{what} is not here: {way}{ROOT / path}")
        return ROOT / path


@cache
def load_presets(path: str | os.PathLike[str] = NETWORKS_TOML) -> dict[str, Preset]:
    """The entries of a TOML file by name, in its order; each file is read once per process.

    Raises:
        ValueError: if the file is not TOML, or an entry has an unknown or a missing key.
    """
    return load_tables(path, Preset)


def resolve(source: str | os.PathLike[str]) -> tuple[Path, Preset | None]:
    """The local file that `source` stands for, fetched if need be.

    A name comes before a file of the same name; write ./NAME for the file.

    Args:
        source: a name in configs/networks.toml, a path or a URL.
    Returns:
        The path, and the entry if `source` is a name.
    Raises:
        FileNotFoundError: if there is no such file; a mistyped name is answered with the list of names, and a network
            that nothing fetches with the way to get it.
        ValueError, RuntimeError, OSError: if the download fails; see `dnnlib.util.fetch`.
    """
    presets = load_presets()
    preset = presets.get(str(source))
    if preset is not None:
        return preset.file(), preset
    if is_url(source):
        return fetch(str(source)), None
    path = Path(source)
    if path.is_file():
        return path, None
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; a network is a file")
    if path.name == str(source) and not path.suffix:
        raise FileNotFoundError(
            f"no network is called {str(source)!r}; choose from {', '.join(presets)}, a path or a URL"
        )
    raise FileNotFoundError(f"no such file: {path}")
