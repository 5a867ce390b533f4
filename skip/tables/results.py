"""results/: one JSON a cell, named by a hash of the settings, with what tells the files that it was made from.

That is a file's hash; but of reference statistics it is what they say, as another version or machine computes the same
statistics into another file.
"""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from dnnlib.files import read_text, write_json
from dnnlib.places import ROOT, located
from dnnlib.text import printable
from dnnlib.util import cached_path, fetch, file_sha256, is_url
from metrics.detector import load_entries
from metrics.statistics import Statistics, same_summary
from skip.evidence.estimate import Estimate
from skip.tables.cells.settings import plain
from skip.tables.spec import Cell
from torch_utils.precision import KINDS, Kind
from training.presets import load_presets

State = Literal["done", "stale", "begun", "to do"]
REFERENCE = "reference"  # the role of statistics of real images
CHECKSUM = "checksum"
MOST_BYTES = 50_000_000  # of a result; they have some 30,000


def key(cell: Cell, kind: Kind = KINDS[0]) -> str:
    """Everything that determines the result, as 16 hexadecimal digits.

    Args:
        cell: the measurement.
        kind: what it is computed in. A CPU adds nothing to the text, so that its results keep their names.
    """
    parts: tuple[Any, ...] = cell.determined_by
    if kind["device"] != "cpu":
        parts += ({name: kind[name] for name in ("device", "tf32")},)
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kind_in_words(kind: Kind) -> str:
    """As "float16 on cuda", "float32 on cuda with TF32"; older results do not tell the dtype: "float32 on cpu"."""
    dtype = printable(kind.get("dtype", "the network's dtype" if kind["device"] != "cpu" else "float32"))
    return f"{dtype} on {printable(kind['device'])}" + (" with TF32" if kind["tf32"] else "")


class Results:
    """The results of cells in a folder.

    Args:
        folder: of <study>-<key>.json; partial results are in its sub-folder .partial.
        kinds: what results may have been computed in, see `torch_utils.precision.computed_in`: the first is that of new
            ones; a cell that is not done in it may be so in another. None is a CPU alone.
    """

    def __init__(self, folder: Path, kinds: Sequence[Kind] | None = None) -> None:
        self.folder, self.kinds = folder, tuple(kinds or KINDS[:1])

    def path(self, cell: Cell) -> Path:
        """Where a cell's result is, or will be."""
        return self._path(cell, self._kind(cell))

    def computed_in(self, cell: Cell) -> Kind | None:
        """Device, TF32 and, of newer results, the network's dtype; None unless the cell is done."""
        kind = self._kind(cell)
        if self._state(cell, kind) != "done":
            return None
        record = self._record(cell, kind)
        return kind | (record.computed_in if record else {})

    def elsewhere(self, cell: Cell) -> bool:
        """Whether the cell is done, and only in another kind than the first."""
        return self._kind(cell) != self.kinds[0]

    def _path(self, cell: Cell, kind: Kind) -> Path:
        return self.folder / f"{cell.study}-{key(cell, kind)}.json"

    def _kind(self, cell: Cell) -> Kind:
        """The first in which the cell is done, or the first of all."""
        first = self.kinds[0]
        return next((kind for kind in self.kinds if self._state(cell, kind) == "done"), first)

    def partial(self, cell: Cell) -> Path:
        """Where a killed run left what it had; of other files it would be another folder."""
        hashes = [local_sha256(role, name) for role, name in cell.settings.sources().items()]
        made_from = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:8]
        return self.folder / ".partial" / f"{cell.study}-{key(cell, self.kinds[0])}-{made_from}"

    def state(self, cell: Cell) -> State:
        """done; stale if a file it was made from is another one now; begun; or to do.

        Raises:
            ValueError: if the file of the result is damaged.
        """
        return self._state(cell, self._kind(cell))

    def _state(self, cell: Cell, kind: Kind) -> State:
        record = self._record(cell, kind)
        if record is None:
            return "begun" if self.partial(cell).exists() else "to do"
        for role, name in cell.settings.sources().items():
            if not _is_made_from(record.made_from.get(role, {}), role, name):
                return "stale"
        return "done"

    def load(self, cell: Cell) -> dict[str, Estimate] | None:
        """The values, or None unless the cell is done.

        Raises:
            ValueError: if the file of the result is damaged.
        """
        kind = self._kind(cell)
        record = self._record(cell, kind)
        if record is None or self._state(cell, kind) != "done":
            return None
        return dict(record.values)

    def save(self, cell: Cell, values: dict[str, Estimate], computed: Mapping[str, Any] | None = None) -> None:
        """Write a result, atomically; equal results make equal files on equal versions.

        Args:
            cell: what was measured, in the first of the kinds.
            values: by name.
            computed: what else is known of the computation: the network's "dtype", and "compile".
        """
        kind = self.kinds[0]
        sources = {role: {"name": n} | (identity(role, n) or {}) for role, n in cell.settings.sources().items()}
        record: dict[str, Any] = {
            "study": cell.study,
            "settings": plain(cell.settings),
            "values": {name: value.to_json() for name, value in values.items()},
            "sources": sources,
            "computed_in": kind | dict(computed or {}),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_json(self._path(cell, kind), record | {CHECKSUM: _checksum(record)})

    def _record(self, cell: Cell, kind: Kind) -> "_Record | None":
        """What the cell's file says, None if there is none."""
        path = self._path(cell, kind)
        try:
            about = path.stat()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise ValueError(f"{self.folder} is a file; name a folder of results") from None
        return _read(path, about.st_ino, about.st_mtime_ns, about.st_size)


@dataclass(frozen=True)
class _Record:
    """What the file of a result says: its values, what tells each file that it was made from, and the computation."""

    values: dict[str, Estimate]
    made_from: dict[str, dict[str, Any]]
    computed_in: dict[str, Any]


@cache
def _read(path: Path, inode: int, mtime: int, size: int) -> _Record:
    """A result; each version of a file, told by the last three, is read once per process.

    Raises:
        ValueError: naming the file, if it is none.
    """
    try:
        record = json.loads(read_text(path, MOST_BYTES))
        said = record.pop(CHECKSUM, None)
        if said is not None and said != _checksum(record):
            raise ValueError("its checksum is another")
        values = {name: Estimate.from_json(value) for name, value in record["values"].items()}
        made_from = {role: dict(source) for role, source in record["sources"].items()}
        return _Record(values, made_from, dict(record.get("computed_in", {})))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(error)
        raise ValueError(f"{path} is a damaged result ({reason}); remove it and run its item again") from error


def _checksum(record: dict[str, Any]) -> str:
    """A hash of all that a result says; those of before it was written have none."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


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
        return entry.url or (ROOT / entry.path if entry.path else None)
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
        return {"sha256": local_sha256(role, name)}
    about = path.stat()
    return {"summary": _summary(path, about.st_mtime_ns, about.st_size)}


def _is_made_from(stored: dict[str, Any], role: str, name: str) -> bool:
    """Whether a stored identity is that of the file; so it is taken to be where the file is not here."""
    now = identity(role, name)
    if now is None:
        return True
    if "summary" not in now or "summary" not in stored:  # results of before there were summaries have hashes
        return stored.get("sha256") == local_sha256(role, name)
    return isinstance(stored["summary"], dict) and same_summary(stored["summary"], now["summary"])


@cache
def _summary(path: Path, mtime: int, size: int) -> dict[str, float]:
    return Statistics.load(path).summary()


def local_sha256(role: str, name: str) -> str | None:
    """The hash of a file if it is on this machine."""
    path = local_path(role, name)
    if path is None or not path.is_file():
        return None
    return file_sha256(path)


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once, in order."""
    return list({key(cell): cell for cell in cells}.values())
