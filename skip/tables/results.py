"""results/: one JSON a cell, named by a hash of the settings, with what tells the files that it was made from."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from dnnlib.json_files import read_text, write_json
from dnnlib.seeds import parse_seeds
from dnnlib.text import printable, reason
from skip.evidence.estimate import Estimate
from skip.tables.cells.words import record_of
from skip.tables.item import Cell
from skip.tables.sources import identity, is_made_from, local_sha256
from torch_utils.precision import KINDS, Kind

# Stale: a file it was made from is another one now.
State = Literal["done", "stale", "begun", "to do"]
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
    unsaid = "float32" if kind["device"] == "cpu" else "the network's dtype"
    text = f"{printable(kind.get('dtype', unsaid))} on {printable(kind['device'])}"
    return f"{text} with TF32" if kind["tf32"] else text


@dataclass(frozen=True)
class Outcome:
    """A cell, and all that a folder of results says of it.

    Attributes:
        cell: what is measured.
        state: whether it is.
        path: of its result, there or to come.
        values: by name; empty unless it is done.
        least_of_three: by the name of an FID, the least of the cell's and of those of the two ranges of N seeds that
            follow its seeds 0 to N - 1: what EDM reports. Only where all three are done, and were looked for.
        computed_in: device, TF32 and, of newer results, the network's dtype; None unless it is done.
        elsewhere: whether it is done, and only in another kind than new results here.
    """

    cell: Cell
    state: State
    path: Path
    values: Mapping[str, Estimate] = field(default_factory=dict)
    least_of_three: Mapping[str, Estimate] = field(default_factory=dict)
    computed_in: Kind | None = None
    elsewhere: bool = False

    @property
    def done(self) -> bool:
        """Whether it is measured, with the files that are here."""
        return self.state == "done"


class Results:
    """The results of cells in a folder.

    Args:
        folder: of <study>-<key>.json; partial results are in its sub-folder .partial.
        kinds: of devices and precision, that results may have been computed in. The first is that of new ones; a cell
            that is not done in it may be so in another. None is a CPU alone.
    """

    def __init__(self, folder: Path, kinds: Sequence[Kind] | None = None) -> None:
        self.folder, self.kinds = folder, tuple(kinds or KINDS[:1])

    def read(self, cell: Cell, seed_ranges: bool = False) -> Outcome:
        """Everything that is known of a cell.

        Args:
            cell: the measurement.
            seed_ranges: also look for those of the two ranges of seeds that follow, see `Outcome.least_of_three`.
        Raises:
            ValueError: if the file of the result is damaged.
        """
        found = self._done(cell)
        if found is None:
            return Outcome(cell, self._not_done(cell), self._path(cell, self.kinds[0]))
        kind, record = found
        return Outcome(
            cell,
            "done",
            self._path(cell, kind),
            record.values,
            self._least_of_three(cell, record.values) if seed_ranges else {},
            kind | record.computed_in,
            elsewhere=kind != self.kinds[0],
        )

    def state(self, cell: Cell) -> State:
        """Whether a cell is done; a damaged file is a ValueError."""
        return self._not_done(cell) if self._done(cell) is None else "done"

    def load(self, cell: Cell) -> dict[str, Estimate] | None:
        """The values, or None unless the cell is done; a damaged file is a ValueError."""
        found = self._done(cell)
        return None if found is None else dict(found[1].values)

    def path(self, cell: Cell) -> Path:
        """Where a cell's result is, or will be."""
        found = self._done(cell)
        return self._path(cell, self.kinds[0] if found is None else found[0])

    def partial(self, cell: Cell) -> Path:
        """Where a killed run left what it had; of other files it would be another folder."""
        hashes = [local_sha256(role, name) for role, name in cell.settings.sources().items()]
        made_from = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:8]
        return self.folder / ".partial" / f"{self._name(cell, self.kinds[0])}-{made_from}"

    def save(
        self, cell: Cell, values: dict[str, Estimate], computed: Mapping[str, Any] | None = None
    ) -> None:
        """Write a result, atomically; equal results make equal files on equal versions.

        Args:
            cell: what was measured, in the first of the kinds.
            values: by name.
            computed: what else is known of the computation: the network's "dtype", and "compile".
        """
        kind = self.kinds[0]
        sources = {
            role: {"name": n} | (identity(role, n) or {})
            for role, n in cell.settings.sources().items()
        }
        record: dict[str, Any] = {
            "study": cell.study,
            "settings": record_of(cell.settings),
            "values": {name: value.to_json() for name, value in values.items()},
            "sources": sources,
            "computed_in": kind | dict(computed or {}),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_json(self._path(cell, kind), record | {CHECKSUM: _checksum(record)})

    def _path(self, cell: Cell, kind: Kind) -> Path:
        return self.folder / f"{self._name(cell, kind)}.json"

    @staticmethod
    def _name(cell: Cell, kind: Kind) -> str:
        return f"{cell.study}-{key(cell, kind)}"

    def _done(self, cell: Cell) -> "tuple[Kind, _Record] | None":
        """The first kind in which the cell is done with the files that are here, and the result."""
        for kind in self.kinds:
            record = self._record(cell, kind)
            if record is not None and record.is_of_the_files_of(cell):
                return kind, record
        return None

    def _not_done(self, cell: Cell) -> State:
        """How far the cell is in the kind of new results, none of which is done."""
        if self._record(cell, self.kinds[0]) is not None:
            return "stale"
        parts = (self.folder / ".partial").glob(f"{self._name(cell, self.kinds[0])}-*")
        # Whether they are of these files takes reading a whole network, so only where there are any.
        return "begun" if any(parts) and self.partial(cell).exists() else "to do"

    def _least_of_three(self, cell: Cell, values: Mapping[str, Estimate]) -> dict[str, Estimate]:
        study: Any = cell.settings
        names = [name for name in values if name.partition("-")[0] == "fid"]
        n = study.count
        if not names or parse_seeds(study.seeds) != parse_seeds(f"0-{n - 1}"):
            return {}

        ranges = [values]
        for seeds in (f"{n}-{2 * n - 1}", f"{2 * n}-{3 * n - 1}"):
            ranges.append(self.load(replace(cell, settings=replace(study, seeds=seeds))) or {})

        least = {}
        for name in names:
            known = [one[name] for one in ranges if name in one]
            if len(known) == len(ranges):
                least[name] = min(known, key=lambda estimate: estimate.value)
        return least

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

    def is_of_the_files_of(self, cell: Cell) -> bool:
        """Whether it was made from the files that the cell names, as they are now."""
        return all(
            is_made_from(self.made_from.get(role, {}), role, name)
            for role, name in cell.settings.sources().items()
        )


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
        raise ValueError(
            f"{path} is a damaged result ({reason(error)}); remove it and run its item again"
        ) from error


def _checksum(record: dict[str, Any]) -> str:
    """A hash of all that a result says; those of before it was written have none."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once, in order."""
    return list({key(cell): cell for cell in cells}.values())
