"""results/: one JSON a cell, named by a hash of the settings, with the hashes of the files that it was made from."""

import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from dnnlib.files import write_json
from dnnlib.util import cached_path, fetch, file_sha256, is_url
from metrics.detector import load_entries
from skip.tables.estimate import Estimate
from skip.tables.settings import REPOSITORY, located, plain
from skip.tables.spec import Cell
from training.presets import load_presets

State = Literal["done", "stale", "begun", "to do"]


def key(cell: Cell) -> str:
    """Everything that determines the result, as 16 hexadecimal digits."""
    text = json.dumps([cell.study, plain(cell.settings, defaults=False)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Results:
    """The results of cells in a folder.

    Args:
        folder: of <study>-<key>.json; partial results are in its sub-folder .partial.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell) -> Path:
        """Where a cell's result is."""
        return self.folder / f"{cell.study}-{key(cell)}.json"

    def partial(self, cell: Cell) -> Path:
        """Where a killed run left what it had; of other files it would be another folder."""
        hashes = [local_sha256(role, name) for role, name in cell.settings.sources().items()]
        made_from = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:8]
        return self.folder / ".partial" / f"{cell.study}-{key(cell)}-{made_from}"

    def state(self, cell: Cell) -> State:
        """done; stale if a file it was made from is another one now; begun; or to do.

        Raises:
            ValueError: if the file of the result is damaged.
        """
        path = self.path(cell)
        if path.exists():
            made_from = _read(path, "sources")
            now = {role: local_sha256(role, name) for role, name in cell.settings.sources().items()}
            changed = any(sha and made_from.get(role, {}).get("sha256") != sha for role, sha in now.items())
            return "stale" if changed else "done"
        return "begun" if self.partial(cell).exists() else "to do"

    def load(self, cell: Cell) -> dict[str, Estimate] | None:
        """The values, or None unless the cell is done."""
        if self.state(cell) != "done":
            return None
        values = _read(self.path(cell), "values")
        return {name: Estimate.from_json(value) for name, value in values.items()}

    def save(self, cell: Cell, values: dict[str, Estimate]) -> None:
        """Write a result, atomically; equal results make equal files on equal versions."""
        sources = {role: {"name": n, "sha256": local_sha256(role, n)} for role, n in cell.settings.sources().items()}
        record: dict[str, Any] = {
            "study": cell.study,
            "settings": plain(cell.settings),
            "values": {name: value.to_json() for name, value in values.items()},
            "sources": sources,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_json(self.path(cell), record)


def _read(path: Path, key: str) -> dict[str, Any]:
    """One part of a result.

    Raises:
        ValueError: naming the file, if it is none.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))[key])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is a damaged result; remove it and run its item again") from error


def location(role: str, name: str) -> str | Path | None:
    """The URL or path that a name stands for; None for what another program keeps in its cache.

    Args:
        role: "network", "detector" or any other; what follows a space tells several of one role apart.
        name: a name in configs/networks.toml or configs/detectors.toml, a path or a URL.
    """
    kind = role.partition(" ")[0]
    if kind == "network" and (preset := load_presets().get(name)) is not None:
        return preset.url or preset.local_path
    if kind == "detector" and (entry := load_entries().get(name)) is not None:
        return entry.url or (REPOSITORY / entry.path if entry.path else None)
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


def local_sha256(role: str, name: str) -> str | None:
    """The hash of a file if it is on this machine."""
    path = local_path(role, name)
    if path is None or not path.is_file():
        return None
    about = path.stat()
    return _sha256(path, about.st_mtime_ns, about.st_size)


@cache
def _sha256(path: Path, mtime: int, size: int) -> str:
    return file_sha256(path)
