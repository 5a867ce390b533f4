"""The same seeds plain and Skip-Tuned, and how they differ, as pictures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from dnnlib.pictures import contact_sheet, fitting_zoom
from skip.explore.state import State
from skip.source import ImageSource, LastNetwork

SIDE = 512  # about how wide a sheet is on the page, in pixels
KEPT = 32  # sets of images that are not made twice
BATCH = 64


@dataclass(frozen=True)
class Compared:
    """What one state makes.

    Attributes:
        plain, tuned, difference: sheets of images; gray in the last is no difference, lighter and darker are more.
        evaluations: of the network, for each image.
        changed: how much a pixel changes on average, as a part of the range from black to white.
        seconds: how long this took.
    """

    plain: Image.Image
    tuned: Image.Image
    difference: Image.Image
    evaluations: int
    changed: float
    seconds: float


class Comparer:
    """Makes images, and keeps the last ones: a slider of rho then costs the tuned half alone.

    Args:
        device: where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._network = LastNetwork()
        self._made = lru_cache(maxsize=KEPT)(self._make)

    def __call__(self, state: State) -> Compared:
        """Both halves of a state.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: as `ImageSource.load`.
        """
        start = time.monotonic()
        seeds = tuple(state.parsed_seeds)
        plain, evaluations = self._made(state.source(tuned=False), seeds)
        tuned, _ = self.tuned(state)
        gap = tuned.astype(np.float32) - plain
        signed = (127.5 + gap / 2).clip(0, 255).astype(np.uint8)
        return Compared(
            sheet(plain, state.columns),
            sheet(tuned, state.columns),
            sheet(signed, state.columns),
            evaluations,
            float(np.abs(gap).mean() / 255),
            time.monotonic() - start,
        )

    def classes(self, network: str) -> int:
        """How many classes a network has, 0 for none; it stays loaded. Errors as of a call."""
        return self._network(network, self.device, None, None).label_dim

    def tuned(self, state: State) -> tuple[np.ndarray, int]:
        """The tuned half alone: images uint8 [N, C, H, W] and the evaluations of each; errors as of a call."""
        return self._made(state.source(), tuple(state.parsed_seeds))

    def _make(self, source: ImageSource, seeds: tuple[int, ...]) -> tuple[np.ndarray, int]:
        """Images uint8 [N, C, H, W] and the evaluations of each."""
        loaded = source.load(self.device, network=self._network)
        batches = list(loaded.batches(seeds, min(len(seeds), BATCH)))
        images = torch.cat([batch.images for batch in batches]).cpu().numpy()
        return images, batches[0].nfe


def sheet(images: Sequence[np.ndarray] | np.ndarray, columns: int) -> Image.Image:
    """Images in rows, each pixel enlarged by a whole factor so that the sheet is about SIDE wide."""
    return contact_sheet(list(images), columns, fitting_zoom(columns * images[0].shape[-1], SIDE))
