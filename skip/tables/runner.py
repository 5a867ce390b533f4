"""Runs cells: each once, whatever items share it; what is done stays done."""

import shutil
import sys
from collections.abc import Iterable

import torch
from tqdm import tqdm

from skip.tables.results import Results, key
from skip.tables.settings import Job
from skip.tables.spec import Cell
from torch_utils import distributed


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once, in order."""
    return list({key(cell): cell for cell in cells}.values())


def run(cells: Iterable[Cell], results: Results, device: torch.device, batch: int) -> int:
    """Measure the cells that are not done; every rank calls it with the same cells.

    Args:
        cells: in order.
        results: where results go.
        device: of this rank.
        batch: images at a time.
    Returns:
        How many were measured now.
    Raises:
        ValueError, OSError, RuntimeError: as the studies; the cells before stay done.
    """
    todo = [cell for cell in unique(cells) if results.state(cell) != "done"]
    distributed.barrier()  # every rank has looked before one writes
    for number, cell in enumerate(todo):
        if distributed.rank() == 0:
            what = ", ".join(f"{name}={value}" for name, value in cell.varies.items()) or "one cell"
            tqdm.write(f"[{number + 1}/{len(todo)}] {cell.study}: {what}", file=sys.stderr)
        partial = results.partial(cell)
        job = Job(device, batch, partial, results.path(cell).with_suffix(""))
        values = cell.settings.run(job)
        if distributed.rank() == 0:
            results.save(cell, values)
            shutil.rmtree(partial, ignore_errors=True)
        distributed.barrier()
    return len(todo)
