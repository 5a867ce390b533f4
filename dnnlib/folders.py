"""Every file below a folder, through links too."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from dnnlib.text import printable

_MOST_WAYS = 64  # by which links lead to one folder; beyond that, links multiply and no walk comes to its end


def walk_files(
    folder: str | os.PathLike[str], skip: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """Relative names, with /, of the files below `folder`, sorted. Links are followed; one that leads back is not.

    Args:
        folder: where to begin.
        skip: whether to pass over a file or folder of this bare name.
    Raises:
        ValueError: if a link leads nowhere, so that what it stood for would be missing without a word; or if links
            lead to one folder in more than 64 ways.
        OSError: if a folder cannot be listed; it names the folder.
    """
    found: list[str] = []
    ways: dict[tuple[int, int], int] = {}

    def visit(path: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        ways[identity] = ways.get(identity, 0) + 1
        if ways[identity] > _MOST_WAYS:
            raise ValueError(
                f"links lead to {printable(path)} in more than {_MOST_WAYS} ways; remove some of them"
            )

        folders = []
        with os.scandir(path) as entries:
            for entry in entries:
                if skip(entry.name):
                    continue
                kind = _kind(entry)
                if stat.S_ISDIR(kind):
                    folders.append(entry.name)
                elif stat.S_ISREG(kind):
                    found.append(prefix + entry.name)
        for name in folders:
            visit(os.path.join(path, name), f"{prefix}{name}/", above | {identity})

    visit(os.fspath(Path(folder)), "", frozenset())
    return sorted(found)


def _kind(entry: os.DirEntry[str]) -> int:
    """The type bits of what `entry` is, or leads to."""
    if not entry.is_symlink():
        return stat.S_IFDIR if entry.is_dir() else stat.S_IFREG if entry.is_file() else 0
    try:
        return os.stat(entry.path).st_mode
    except OSError as error:
        link = f"{printable(entry.path)} is a link to {printable(os.readlink(entry.path))}"
        raise ValueError(f"{link}, which leads nowhere; mend or remove it") from error
