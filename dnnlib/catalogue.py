"""Names of files: what a table in configs/ calls by a name, and how a name, a path or a URL becomes a local file.

This is the one place that resolves them. What a file holds, a network or a detector, is the business of who reads it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dnnlib.places import ROOT
from dnnlib.util import cached_path, fetch, file_sha256, is_url


@dataclass(frozen=True)
class Entry:
    """One table of a TOML file, by its name; subclasses add what their files need.

    Attributes:
        name: what the user types.
        licence: of the weights.
        url: where the file is fetched from; or
        path: where it lies, relative to the repository.
        sha256: of the file, or its first digits as far as they are known; "" is not checked.
        obtain: how to get the file by hand, one sentence, where nothing fetches it.
        note: one line for people.
    """

    name: str
    licence: str
    url: str | None = None
    path: str | None = None
    sha256: str = ""
    obtain: str = ""
    note: str = ""

    @property
    def local_path(self) -> Path | None:
        """Where the file is, or will be once it is fetched; None of what another program keeps."""
        return None if (place := self.url or self.path) is None else local_file(place)

    def file(self) -> Path:
        """The local file, fetched if need be, its hash compared.

        Raises:
            FileNotFoundError: with the way to get it, if nothing fetches it.
            ValueError: if its hash is another.
            RuntimeError, OSError: if the download fails.
        """
        if self.url is not None:
            return fetch(self.url, self.sha256 or None)

        return self.by_hand(str(self.path), self.name, self.sha256)

    def by_hand(self, path: str, what: str, sha256: str) -> Path:
        """A file that nothing fetches, its hash compared; FileNotFoundError with the way to get it."""
        file = ROOT / path
        if not file.exists():
            way = f"{self.obtain}; save it as " if self.obtain else "there is no file "
            raise FileNotFoundError(f"{what} is not here: {way}{file}")
        if sha256 and file.is_file() and not (found := file_sha256(file)).startswith(sha256):
            raise ValueError(
                f"{file} is damaged: expected sha256 {sha256}, found {found}; get the file again"
            )
        return file


Named = TypeVar("Named", bound=Entry)


def local_file(place: str) -> Path:
    """Where the file of a URL, or of a path relative to the repository, is or will be."""
    return cached_path(place) if is_url(place) else ROOT / place


def resolve(
    source: str | os.PathLike[str], entries: Mapping[str, Named], what: str, folders: bool = False
) -> tuple[Path, Named | None]:
    """The local file that `source` stands for, fetched if need be.

    A name comes before a file of the same name; write ./NAME for the file.

    Args:
        source: a name, a path, a URL, or a file of the Hugging Face Hub; see `dnnlib.hub`.
        entries: what has a name.
        what: it is, as messages call it: "network".
        folders: whether it may be a folder.
    Returns:
        The path, and the entry if `source` is a name.
    Raises:
        FileNotFoundError: if there is no such file; a mistyped name is answered with the list of names.
        ValueError: if it is a pipe or a device, or has another hash than its entry says.
        RuntimeError, OSError: if a download fails; see `dnnlib.util.fetch`.
    """
    entry = entries.get(str(source))
    if entry is not None:
        return entry.file(), entry
    if is_url(source):
        return fetch(str(source)), None

    path = Path(source)
    if path.is_file() or (folders and path.is_dir()):
        return path, None
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; a {what} is a file")
    if path.exists():  # a pipe, which would be waited for, or a device
        raise ValueError(f"{path} is no ordinary file; name one with the weights of a {what}")
    if path.name == str(source) and not path.suffix:
        raise FileNotFoundError(
            f"no {what} is called {str(source)!r}; choose from {', '.join(entries)}, a path or a URL"
        )
    raise FileNotFoundError(f"no such file: {path}")
