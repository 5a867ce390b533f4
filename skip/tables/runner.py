"""Runs cells: each once, whatever items share it; what is done stays done."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from tqdm import tqdm

from dnnlib.claims import locked
from dnnlib.files import remove_partial_files
from skip.source import LastNetwork
from skip.tables.cells.settings import Job
from skip.tables.item import Cell
from skip.tables.results import Results, unique
from skip.tables.sources import local_path, obtain
from torch_utils import distributed


def run(
    cells: Iterable[Cell],
    results: Results,
    device: torch.device,
    batch: int,
    features: Path | None = None,
    compile: bool = False,
    on_result: Callable[[], None] | None = None,
) -> int:
    """Measure the cells that are not done; every rank calls it with the same cells.

    Args:
        cells: in order.
        results: where results go.
        device: of this rank.
        batch: images at a time.
        features: where partial results stay, for cells that differ in their seeds alone to share; None removes them.
        compile: torch.compile the networks that images are sampled with.
        on_result: called after each cell.
    Returns:
        How many were measured now.
    Raises:
        ValueError, OSError, RuntimeError: as the studies; the cells before stay done.
    """
    if distributed.rank() == 0:
        _tidy(results)
    todo = _todo(unique(cells), results)

    # What cells hand on to the next: the warnings that were given, and the network.
    said, networks = set[str](), LastNetwork()
    made = 0
    for number, cell in enumerate(todo):
        if distributed.rank() == 0:
            what = ", ".join(f"{name}={value}" for name, value in cell.varies.items()) or "one cell"
            tqdm.write(f"[{number + 1}/{len(todo)}] {cell.study}: {what}", file=sys.stderr)

        obtain(cell)
        partial = results.partial(cell)
        folder = partial if features is None else features / _without_seeds(cell, results)
        job = Job(
            device,
            batch,
            folder,
            results.path(cell).with_suffix(""),
            said,
            networks,
            compile=compile,
        )

        try:
            with _alone(partial):
                made += _measure(cell, results, job)
        except Timeout as error:
            raise ValueError(
                f"another run is measuring this cell ({error.lock_file}); wait for it, or choose other --cells"
            ) from None
        if on_result is not None:
            on_result()
    return made


def _measure(cell: Cell, results: Results, job: Job) -> bool:
    """Measure a cell, unless another run has done so meanwhile; whether it was measured now."""
    if not _todo([cell], results):
        return False
    values = cell.settings.run(job)
    if distributed.rank() == 0:
        results.save(cell, values, job.computed)
        shutil.rmtree(results.partial(cell), ignore_errors=True)
    distributed.barrier()
    return True


def check(cells: Iterable[Cell], results: Results) -> None:
    """Refuse, before anything is computed, what the cells that are not done could not be measured with.

    Of cells with the same files one is checked, and of those whose files are here: nothing is fetched.

    Raises:
        ValueError, OSError, RuntimeError: if a file is damaged, or does not fit another one or the settings.
    """
    seen = set()
    for cell in unique(cells):
        sources = cell.settings.sources()
        files = (cell.study, *sources.items())
        if files in seen or results.state(cell) == "done":
            continue
        seen.add(files)
        paths = [local_path(role, name) for role, name in sources.items()]
        if all(path is not None and path.exists() for path in paths):
            cell.settings.check()


def _without_seeds(cell: Cell, results: Results) -> str:
    """The name of a folder for what the seeds share: equal if all but the seeds is."""
    any_seeds: Any = replace(cell.settings, seeds="0")  # type: ignore[type-var]
    return results.partial(replace(cell, settings=any_seeds)).name


def _todo(cells: list[Cell], results: Results) -> list[Cell]:
    """What rank 0 finds not done: other machines may hold older files."""
    mine = distributed.rank() == 0
    flags = distributed.as_rank_0_says([mine and results.state(cell) != "done" for cell in cells])
    return [cell for cell, flag in zip(cells, flags, strict=True) if flag]


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Keep other runs away from a cell.

    Raises:
        filelock.Timeout: if another run is at it.
    """
    if distributed.rank() != 0:
        yield
        return
    partial.parent.mkdir(parents=True, exist_ok=True)
    # Another run may take this long to look whether anyone holds it.
    with locked(partial.with_name(f"{partial.name}.lock"), 0.3):
        yield


def _tidy(results: Results) -> None:
    """Remove what killed runs left: partial files, and locks that nobody holds."""
    remove_partial_files(results.folder)
    for path in results.folder.glob(".partial/*.lock"):
        with contextlib.suppress(Timeout), _alone(path.with_suffix("")):
            pass
