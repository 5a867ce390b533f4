"""The files that cells are made from: where they are, how they get here, and what tells one from another.

That is a file's hash; but of reference statistics it is what they say, as another version or machine computes the same
statistics into another file.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dnnlib.catalogue import Entry
from dnnlib.places import located
from dnnlib.util import cached_path, fetch, file_sha256, is_url
from metrics.detector import load_entries
from metrics.statistics import Statistics, same_summary
from skip.tables.item import Cell
from training.presets import load_presets

REFERENCE = "reference"  # the role of statistics of real images


def location(role: str, name: str) -> str | Path | None:
    """The URL or path that a name stands for; None for what another program keeps in its cache.

    Args:
        role: "network", "detector" or any other; what follows a space tells several of one role apart.
        name: a name in configs/networks.toml or configs/detectors.toml, a path or a URL.
    """
    entries: dict[str, Mapping[str, Entry]] = {
        "network": load_presets(),
        "detector": load_entries(),
    }
    entry = entries.get(role.partition(" ")[0], {}).get(name)
    if entry is not None:
        return entry.url or entry.local_path

    return name if is_url(name) else located(name)


def local_path(role: str, name: str) -> Path | None:
    """Where the file is on this machine, or will be once it is fetched."""
    where = location(role, name)
    return cached_path(where) if isinstance(where, str) else where


def obtain(cell: Cell) -> None:
    """Fetch what the cell needs and is not here.

    Raises:
        ValueError, RuntimeError, OSError: if a download fails.
    """
    for role, name in cell.settings.sources().items():
        if isinstance(where := location(role, name), str):
            fetch(where)


def identity(role: str, name: str) -> dict[str, Any] | None:
    """What tells a file from others: {"sha256"}, or {"summary"} of reference statistics; None if it is not here.

    Raises:
        ValueError: if reference statistics are damaged.
    """
    path = local_path(role, name)
    if path is None or not path.is_file():
        return None
    if role.partition(" ")[0] != REFERENCE:
        return {"sha256": file_sha256(path)}
    about = path.stat()
    return {"summary": _summary(path, about.st_mtime_ns, about.st_size)}


def is_made_from(stored: dict[str, Any], role: str, name: str) -> bool:
    """Whether a stored identity is that of the file; so it is taken to be where the file is not here."""
    now = identity(role, name)
    if now is None:
        return True
    # Results of before there were summaries have hashes.
    if "summary" not in now or "summary" not in stored:
        return stored.get("sha256") == local_sha256(role, name)
    return isinstance(stored["summary"], dict) and same_summary(stored["summary"], now["summary"])


@cache
def _summary(path: Path, mtime: int, size: int) -> dict[str, float]:
    """Of a file of statistics; each version of it, told by the last two, is read once per process."""
    return Statistics.load(path).summary()


def local_sha256(role: str, name: str) -> str | None:
    """The hash of a file if it is on this machine."""
    path = local_path(role, name)
    if path is None or not path.is_file():
        return None
    return file_sha256(path)
