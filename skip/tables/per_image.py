"""Values per image, shared out over the ranks and kept in chunks on disk, so that a killed run goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from dnnlib.files import atomic_write
from torch_utils import distributed

Compute = Callable[[list[int]], dict[str, Tensor]]  # seeds -> {name: one value or row per seed, [n, ...]}


def collect(folder: Path, seeds: Sequence[int], batch: int, compute: Compute, desc: str) -> dict[str, np.ndarray]:
    """What `compute` gives for all seeds, in their order.

    Batches are cut the same way whatever the number of ranks, and whatever was done before.

    Args:
        folder: of the chunks; emptied by the caller once the result is safe.
        seeds: one per image.
        batch: images at a time.
        compute: one batch.
        desc: for the progress bar.
    Returns:
        {name: [N, ...]} on rank 0, an empty dict on the others.
    """
    chunks = [list(seeds[i : i + batch]) for i in range(0, len(seeds), batch)]
    paths = [folder / f"{number:06d}-batch{batch}.npz" for number in range(len(chunks))]
    todo = [number for number, path in enumerate(paths) if not path.exists()]
    distributed.barrier()  # every rank has looked before one writes
    mine = todo[distributed.rank() :: distributed.world_size()]
    with tqdm(total=sum(len(chunks[n]) for n in mine), unit="img", desc=desc, disable=distributed.rank() != 0) as bar:
        for number in mine:
            found = {name: value.cpu().numpy() for name, value in compute(chunks[number]).items()}
            with atomic_write(paths[number]) as file:
                np.savez(file, **found)  # type: ignore[arg-type]  # its stub takes a name for allow_pickle
            bar.update(len(chunks[number]))
    distributed.barrier()
    if distributed.rank() != 0:
        return {}
    parts = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            parts.append({name: arrays[name] for name in arrays.files})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
