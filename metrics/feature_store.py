"""Features of numbered images, in chunks on disk: one pass serves every metric, and a killed pass goes on."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dnnlib.files import atomic_write, write_json
from metrics.detector import Detector
from metrics.statistics import FeatureStatistics
from torch_utils import distributed

SETTINGS_FILE = "settings.json"
CHUNK_IMAGES = 1000

Batches = Callable[[list[int]], Iterable[tuple[list[int], Tensor]]]  # ids -> (ids, uint8 images [N, C, H, W]) ...


class FeatureStore:
    """A folder of chunks, each an npz of ids [n], features [n, d] and logits [n, l].

    Args:
        folder: where they are; created when the first file is written.
        settings: what determines the features, as JSON; a folder with others is refused.
    Raises:
        ValueError: if the folder holds features of other images or of another detector.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings, allow_nan=False))
        path = self.folder / SETTINGS_FILE
        if path.exists() and json.loads(path.read_text()) != self.settings:
            raise ValueError(f"{self.folder} holds features of other images or another detector; choose another folder")

    def open(self) -> None:
        """Create the folder; one process calls this first.

        Raises:
            OSError: if it cannot be written.
        """
        if not (self.folder / SETTINGS_FILE).exists():
            write_json(self.folder / SETTINGS_FILE, self.settings)

    def add(self, ids: Sequence[int], features: Tensor, logits: Tensor) -> None:
        """Write one chunk, atomically."""
        with atomic_write(self.folder / f"{ids[0]:09d}-{ids[-1]:09d}-{len(ids)}.npz") as file:
            np.savez(file, ids=np.array(ids), features=features.cpu().numpy(), logits=logits.cpu().numpy())

    def chunks(self) -> list[Path]:
        """The chunks' files, in an order that all processes agree on."""
        return sorted(self.folder.glob("*.npz"))

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ids, features and logits of one chunk.

        Raises:
            ValueError: if the file is damaged.
        """
        ids, features, logits = self._arrays(path, "ids", "features", "logits")
        return ids, features, logits

    def _arrays(self, path: Path, *names: str) -> list[np.ndarray]:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return [arrays[name] for name in names]
        except (ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it, and its images are done again") from error

    def done(self) -> set[int]:
        """The ids whose features are there."""
        return {int(i) for path in self.chunks() for i in self._arrays(path, "ids")[0]}

    def load(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of these ids, in their order: [N, d], [N, l]."""
        found = [self.read(path) for path in self.chunks()]
        every, features, logits = (np.concatenate(parts) for parts in zip(*found, strict=True))
        row_of = {int(i): row for row, i in enumerate(every)}
        rows = [row_of[i] for i in ids]
        return features[rows], logits[rows]

    def statistics(self, ids: Sequence[int], dim: int, device: torch.device) -> FeatureStatistics:
        """Mean and covariance of these ids' features, shared out over the ranks; every rank must call it."""
        wanted, seen = set(ids), set()
        gathered = FeatureStatistics(dim, "cpu" if device.type == "mps" else device)
        for number, path in enumerate(self.chunks()):
            found, features, _ = self.read(path)
            rows = [row for row, i in enumerate(found) if int(i) in wanted and int(i) not in seen]
            seen |= {int(found[row]) for row in rows}
            if number % distributed.world_size() == distributed.rank():
                gathered.update(features[rows])
        return gathered.all_reduced()

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def extract(store: FeatureStore, detector: Detector, ids: Sequence[int], batches: Batches, device: torch.device) -> int:
    """Fill the store with the features of `ids`, each rank its share; return how many this rank made.

    Args:
        store: goes on from what it holds.
        detector: the feature network, on `device`.
        ids: of the images.
        batches: yields the images of the ids it is given, in their order.
        device: where the images go.
    """
    if distributed.rank() == 0:
        store.open()
    distributed.barrier()
    done = store.done()
    distributed.barrier()  # all ranks have listed the same chunks
    missing = [i for i in list(ids)[distributed.rank() :: distributed.world_size()] if i not in done]
    for chunk_ids, features, logits in _chunked(_detected(detector, batches(missing), len(missing), device)):
        store.add(chunk_ids, features, logits)
    distributed.barrier()
    return len(missing)


def _detected(
    detector: Detector, batches: Iterable[tuple[list[int], Tensor]], total: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    with tqdm(total=total, unit="img", desc="features", disable=distributed.rank() != 0 or total == 0) as bar:
        for ids, images in batches:
            features, logits = detector(images.to(device))
            yield ids, features.float(), logits.float()
            bar.update(len(ids))


def _chunked(parts: Iterable[tuple[list[int], Tensor, Tensor]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Join parts until there are CHUNK_IMAGES."""
    held: list[tuple[list[int], Tensor, Tensor]] = []
    for part in parts:
        held.append(part)
        if sum(len(ids) for ids, _, _ in held) >= CHUNK_IMAGES:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(parts: list[tuple[list[int], Tensor, Tensor]]) -> tuple[list[int], Tensor, Tensor]:
    ids, features, logits = zip(*parts, strict=True)
    return [i for part in ids for i in part], torch.cat(features), torch.cat(logits)
