"""The networks that have a name, and how a name, a path or a URL becomes a local file."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from dnnlib.util import cached_path, fetch, is_url

REPOSITORY = Path(__file__).resolve().parent.parent
NETWORKS_TOML = REPOSITORY / "configs" / "networks.toml"


@dataclass(frozen=True)
class Preset:
    """One entry of configs/networks.toml.

    Attributes:
        name: what the user types.
        licence: of the weights.
        url: where the file is fetched from; or
        path: where it lies, relative to the repository.
        sha256: of the file, where it is known.
        note: one line for the list of networks.
    """

    name: str
    licence: str
    url: str | None = None
    path: str | None = None
    sha256: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if (self.url is None) == (self.path is None):
            raise ValueError(f"network {self.name!r} needs either a url or a path")

    @property
    def local_path(self) -> Path:
        """Where the file is, or will be once it is fetched."""
        return cached_path(self.url) if self.url is not None else REPOSITORY / str(self.path)


def load_presets(path: str | os.PathLike[str] = NETWORKS_TOML) -> dict[str, Preset]:
    """The entries of a TOML file by name, in its order.

    Raises:
        ValueError: if the file is not TOML, or an entry has an unknown or a missing key.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    presets = {}
    for name, table in tables.items():
        try:
            presets[name] = Preset(name=name, **table)
        except TypeError as error:
            raise ValueError(f"{path}, [{name}]: {str(error).partition(' ')[2]}") from error
    return presets


def resolve(source: str | os.PathLike[str]) -> tuple[Path, Preset | None]:
    """The local file that `source` stands for, fetched if need be.

    A name comes before a file of the same name; write ./NAME for the file.

    Args:
        source: a name in configs/networks.toml, a path or a URL.
    Returns:
        The path, and the entry if `source` is a name.
    Raises:
        FileNotFoundError: if there is no such file; a mistyped name is answered with the list of names.
        ValueError, RuntimeError, OSError: if the download fails; see `dnnlib.util.fetch`.
    """
    presets = load_presets()
    preset = presets.get(str(source))
    if preset is not None and preset.url is not None:
        return fetch(preset.url, preset.sha256), preset
    if preset is None and is_url(source):
        return fetch(str(source)), None
    path = Path(source) if preset is None else preset.local_path
    if path.is_file():
        return path, preset
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; a network is a file")
    if preset is None and path.name == str(source) and not path.suffix:
        raise FileNotFoundError(
            f"no network is called {str(source)!r}; choose from {', '.join(presets)}, a path or a URL"
        )
    raise FileNotFoundError(f"no such file: {path}")
