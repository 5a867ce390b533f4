"""Features of numbered images, in chunks on disk: one pass serves every metric, and a killed pass goes on."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dnnlib.arrays import open_arrays, read_arrays
from dnnlib.claims import claim
from dnnlib.files import atomic_write, remove_partial_files
from dnnlib.json_files import read_json_object, write_json
from metrics.detector import Detector, SpatialDetector
from metrics.statistics import FeatureStatistics
from torch_utils import distributed

SETTINGS_FILE = "settings.json"
# A chunk is written when either is reached: what a killed run loses.
CHUNK_IMAGES, CHUNK_SECONDS = 256, 30.0
# Images added to the statistics at once; not the chunks, so that where a run was killed leaves no trace.
BLOCK = 1000

ARRAYS = ("ids", "features", "logits", "digests")
SPATIAL = "spatial"  # the array of a store whose settings have that

# Ids -> (ids, uint8 images [N, C, H, W]) ...
Batches = Callable[[Sequence[int]], Iterable[tuple[list[int], Tensor]]]


@dataclass(frozen=True)
class Part:
    """What is known of some images.

    Args:
        ids: n of them.
        features, logits: [n, d] and [n, l].
        digests: of the pixels, uint64 [n]; see `pixel_digests`.
        spatial: [n, s], where they were asked for.
    """

    ids: list[int]
    features: Tensor
    logits: Tensor
    digests: np.ndarray
    spatial: Tensor | None = None


def pixel_digests(images: Tensor) -> np.ndarray:
    """64 bits of a hash of each image's pixels: uint8 [N, C, H, W] -> uint64 [N].

    Sorted by it, images are in an order that is random, and the same wherever and in which order they are stored.
    """
    rows = images.cpu().contiguous().numpy()
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), "<u8")


class FeatureStore:
    """A folder of chunks, each an npz of ids [n], features [n, d], logits [n, l] and digests [n].

    Args:
        folder: where they are; created when the first file is written.
        settings: what determines the features, as JSON; a folder with others is refused. With {"spatial": true}, chunks
            have spatial features [n, s] too.
    Raises:
        ValueError: if the folder holds features of other images or of another detector.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings, allow_nan=False))
        self.has_spatial = bool(self.settings.get(SPATIAL))
        self._check_settings()

    def _check_settings(self) -> None:
        path = self.folder / SETTINGS_FILE
        cure = f"remove {self.folder}, or choose another folder"
        if path.exists() and read_json_object(path, cure) != self.settings:
            raise ValueError(
                f"{self.folder} holds features of other images or another detector; choose another folder"
            )

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder, for the block in which chunks are added; one process does this before the others look.

        Of two runs that begin together with different settings, one gets it. After an error in the block, a folder
        without a chunk is as it was before.

        Raises:
            ValueError: if it holds something else than features, or those of other images.
            OSError: if it cannot be written.
        """
        with contextlib.ExitStack() as held:
            try:
                mine = held.enter_context(claim(self.folder, shared=True, begin=self._begin))
            except OSError as error:
                raise OSError(
                    f"cannot write to {self.folder} ({error.strerror}); choose another folder"
                ) from error
            try:
                yield
            except Exception:
                with contextlib.suppress(RuntimeError, OSError), mine.undisturbed() as alone:
                    if alone and not self.chunks():
                        (self.folder / SETTINGS_FILE).unlink()
                raise

    def _begin(self, _alone: bool) -> None:
        remove_partial_files(
            self.folder, lambda name: name == SETTINGS_FILE or name.endswith(".npz")
        )
        self._check_settings()
        if (self.folder / SETTINGS_FILE).exists():
            return
        if any(not path.name.startswith(".") for path in self.folder.iterdir()):
            raise ValueError(
                f"{self.folder} holds other files than features; choose an empty or a new folder"
            )
        write_json(self.folder / SETTINGS_FILE, self.settings)

    def add(self, part: Part) -> None:
        """Write one chunk, atomically."""
        ids = part.ids
        arrays = {
            "ids": np.array(ids),
            "features": part.features.cpu().numpy(),
            "logits": part.logits.cpu().numpy(),
            "digests": part.digests,
        }
        if part.spatial is not None:
            arrays[SPATIAL] = part.spatial.cpu().numpy()
        with atomic_write(self.folder / f"{ids[0]:09d}-{ids[-1]:09d}-{len(ids)}.npz") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes a name for allow_pickle

    def chunks(self) -> list[Path]:
        """The chunks' files, in an order that all processes agree on."""
        return sorted(self.folder.glob("*.npz"))

    def remove_damaged(self) -> list[str]:
        """Delete the chunks that are damaged or lack an array; one process calls this.

        Returns:
            What was wrong with each, in one line that names it.
        """
        found = []
        needed = (*ARRAYS, SPATIAL) if self.has_spatial else ARRAYS
        for path in self.chunks():
            try:
                with open_arrays(path) as arrays:
                    arrays.require(*needed)
                    arrays.check()
                    lengths = {arrays.header(name).shape[:1] for name in needed}
                    if len(lengths) != 1:
                        raise ValueError(f"{path} holds arrays of different lengths")
            except ValueError as error:
                found.append(str(error))
                path.unlink(missing_ok=True)
        return found

    def _arrays(self, path: Path, *names: str) -> list[np.ndarray]:
        try:
            return read_arrays(path, names)
        except ValueError as error:
            raise ValueError(f"{error}; start again, and its images are done again") from error

    def done(self) -> set[int]:
        """The ids whose features are there."""
        return set(self._places())

    def _places(self) -> dict[int, tuple[Path, int]]:
        """Chunk and row of each id; of one that is there twice, the first."""
        found: dict[int, tuple[Path, int]] = {}
        for path in self.chunks():
            for row, i in enumerate(self._arrays(path, "ids")[0].tolist()):
                found.setdefault(i, (path, row))
        return found

    def _rows(
        self, name: str, ids: Sequence[int], places: dict[int, tuple[Path, int]]
    ) -> np.ndarray:
        """One array's rows of these ids, in their order; each chunk that is concerned is read once."""
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for target, i in enumerate(ids):
            if i not in places:
                raise ValueError(f"{self.folder} lacks the features of image {i}; start again")
            path, row = places[i]
            wanted.setdefault(path, []).append((target, row))

        result: np.ndarray | None = None
        for path, pairs in wanted.items():
            (array,) = self._arrays(path, name)
            result = (
                np.empty((len(ids), *array.shape[1:]), array.dtype) if result is None else result
            )
            targets, rows = (list(column) for column in zip(*pairs, strict=True))
            result[targets] = array[rows]
        return np.empty((0, 0), np.float32) if result is None else result

    def load(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of these ids, in their order: [N, d], [N, l]."""
        places = self._places()
        return self._rows("features", ids, places), self._rows("logits", ids, places)

    def spatial(self, ids: Sequence[int]) -> np.ndarray:
        """Spatial features of these ids, in their order: [N, s]."""
        return self._rows(SPATIAL, ids, self._places())

    def by_content(self, ids: Sequence[int]) -> np.ndarray:
        """The order of these images by `pixel_digests`: positions in `ids`, int64 [N]."""
        return np.argsort(self._rows("digests", ids, self._places()), kind="stable")

    def statistics(
        self, ids: Sequence[int], dim: int, device: torch.device, array: str = "features"
    ) -> FeatureStatistics:
        """Mean and covariance of these ids' rows of an array, shared out over the ranks; every rank must call it.

        Rounding depends on the ids, their order and the number of ranks, and not on the chunks.
        """
        places = self._places()
        gathered = FeatureStatistics(dim, "cpu" if device.type == "mps" else device)
        for start in range(distributed.rank() * BLOCK, len(ids), distributed.world_size() * BLOCK):
            gathered.update(self._rows(array, ids[start : start + BLOCK], places))
        return gathered.all_reduced()

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def extract(
    store: FeatureStore,
    detector: Detector,
    ids: Sequence[int],
    batches: Batches,
    device: torch.device,
) -> int:
    """Fill the store with the features of `ids`, each rank its share; return how many this rank made.

    Args:
        store: goes on from what it holds.
        detector: the feature network, on `device`.
        ids: of the images.
        batches: yields the images of the ids it is given, in their order.
        device: where the images go.
    """
    first = distributed.rank() == 0
    with store.opened() if first else contextlib.nullcontext():
        if first:
            for reason in store.remove_damaged():
                tqdm.write(f"{reason}; its images are done again", file=sys.stderr)
        distributed.require_shared(store.folder)
        done = _known_to_rank_0(store, ids)
        chunks = len(store.chunks()) if first else 0

        share = ids[distributed.rank() :: distributed.world_size()]
        # Which may be a range of 10^8.
        missing = [i for i in share if i not in done] if done else share
        hidden = not first or not missing
        there = len(share) - len(missing)
        with tqdm(
            total=len(share), initial=there, unit="img", desc="features", disable=hidden
        ) as bar:
            found = _detected(detector, batches(missing), device, bar, store.has_spatial)
            for part in _chunked(found):
                store.add(part)
                chunks += 1
        written = int(distributed.all_reduce_sum(torch.tensor(chunks, device=device)))
        distributed.wait_for(lambda: len(store.chunks()) >= written)
    return len(missing)


def _known_to_rank_0(store: FeatureStore, ids: Sequence[int]) -> set[int]:
    """Those of the ids that are done; the other ranks may see an older list of chunks."""
    done = store.done() if distributed.rank() == 0 else set[int]()
    (any_done,) = distributed.as_rank_0_says([bool(done)])
    if distributed.world_size() == 1 or not any_done:
        return done
    flags = distributed.as_rank_0_says([i in done for i in ids])
    return {i for i, flag in zip(ids, flags, strict=True) if flag}


def _detected(
    detector: Detector,
    batches: Iterable[tuple[list[int], Tensor]],
    device: torch.device,
    bar: "tqdm[Any]",
    has_spatial: bool,
) -> Iterator[Part]:
    for ids, images in batches:
        spatial = None
        if has_spatial:
            assert isinstance(detector, SpatialDetector)  # as who asks for them has seen
            features, logits, spatial = detector.with_spatial(images.to(device))
        else:
            features, logits = detector(images.to(device))
        yield Part(ids, features, logits, pixel_digests(images), spatial)
        bar.update(len(ids))


def _chunked(parts: Iterable[Part]) -> Iterator[Part]:
    """Join whole batches until there are CHUNK_IMAGES, or CHUNK_SECONDS have passed.

    A run that goes on thus makes the batches of an uninterrupted one, whose size rounding depends on.
    """
    held: list[Part] = []
    began = time.monotonic()
    for part in parts:
        held.append(part)
        if (
            sum(len(p.ids) for p in held) >= CHUNK_IMAGES
            or time.monotonic() - began >= CHUNK_SECONDS
        ):
            yield _joined(held)
            held, began = [], time.monotonic()
    if held:
        yield _joined(held)


def _joined(parts: list[Part]) -> Part:
    spatial = [part.spatial for part in parts if part.spatial is not None]
    return Part(
        [i for part in parts for i in part.ids],
        torch.cat([part.features for part in parts]),
        torch.cat([part.logits for part in parts]),
        np.concatenate([part.digests for part in parts]),
        torch.cat(spatial) if spatial else None,
    )
