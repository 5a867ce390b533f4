"""Values per image, shared out over the ranks and kept in chunks on disk, so that a killed run goes on."""

import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from dnnlib.files import atomic_write
from dnnlib.text import printable
from torch_utils import distributed

# What zipfile and numpy raise for files that are cut or changed; the last four: flags and methods that a bit turned on
DAMAGED = (
    ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error,
    NotImplementedError, RuntimeError, MemoryError, OSError,
)  # fmt: skip
NAMES = "names"  # of the other arrays: where an archive ends is not in its checksums
# Seeds -> {name: one value or row per seed, [n, ...]}.
Compute = Callable[[list[int]], dict[str, Tensor]]


def collect(
    folder: Path, seeds: Sequence[int], batch: int, compute: Compute, desc: str
) -> dict[str, np.ndarray]:
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

    # Rank 0 says what is missing: another machine may see the folder as it was.
    first = distributed.rank() == 0
    missing = [
        first and not _is_whole(path, len(chunk)) for path, chunk in zip(paths, chunks, strict=True)
    ]
    todo = [number for number, flag in enumerate(distributed.as_rank_0_says(missing)) if flag]
    distributed.require_shared(folder)

    mine = todo[distributed.rank() :: distributed.world_size()]
    with tqdm(
        total=sum(len(chunks[n]) for n in mine),
        unit="img",
        desc=desc,
        disable=distributed.rank() != 0,
    ) as bar:
        for number in mine:
            found = {name: value.cpu().numpy() for name, value in compute(chunks[number]).items()}
            found = {NAMES: np.array(list(found))} | found
            with atomic_write(paths[number]) as file:
                np.savez(file, **found)  # type: ignore[arg-type]  # its stub takes a name for allow_pickle
            bar.update(len(chunks[number]))
    distributed.barrier()

    if not first:
        return {}
    distributed.wait_for(lambda: all(path.exists() for path in paths))
    return _joined(paths, [len(chunk) for chunk in chunks])


def _joined(paths: Sequence[Path], counts: Sequence[int]) -> dict[str, np.ndarray]:
    """The arrays of all chunks, one after the other; all must be of one study."""
    parts: dict[str, list[np.ndarray]] = {}
    expected: dict[str, Any] = {}
    for path, count in zip(paths, counts, strict=True):
        part = _load(path, count)
        like = {name: _like(array) for name, array in part.items()}
        expected = expected or like
        if like != expected:
            raise ValueError(
                f"{path} holds other arrays than {paths[0].name}; remove {path.parent} and start again"
            )
        for name, array in part.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _is_whole(path: Path, count: int) -> bool:
    """Whether a chunk is there and can be read; one that cannot is named, and will be made again."""
    if not path.exists():
        return False
    try:
        _load(path, count)
    except ValueError as error:
        tqdm.write(f"{error}; its {count} images are done again", file=sys.stderr)
        return False
    return True


def _load(path: Path, count: int) -> dict[str, np.ndarray]:
    """The arrays of a chunk, each of `count` rows.

    Each member's checksum (CRC-32 of the zip) is compared before numpy looks at it, so that a header which a flipped
    bit changed is not followed.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                array = np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
                found[name.removesuffix(".npy")] = array
        if found.pop(NAMES).tolist() != list(found):
            raise ValueError("it lacks an array")
        if any(array.shape[:1] != (count,) for array in found.values()):
            raise ValueError(f"it does not hold {count} rows")
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged ({printable(error)})") from error
    return found


def _like(array: np.ndarray) -> tuple[Any, ...]:
    """What the chunks of one study have in common."""
    return array.dtype, array.shape[1:]
