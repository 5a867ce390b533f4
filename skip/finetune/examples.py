"""What a run of fine-tuning is shown: images in a fixed order, each with its noise level and noise.

Everything random about an image is a function of the run's seed and of the image's position in it. So neither the
number of ranks nor where a run was killed changes anything but the order in which gradients are added up.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sampling.noise import SeedNoise
from skip.finetune.settings import FineTuning
from skip.scale import SkipScale
from skip.studies.inputs import RealImages
from skip.studies.score_matching import draw_sigma
from skip.tuned import SkipTuned
from torch_utils import distributed
from training.dataset import InfiniteSampler
from training.precond import Precond

PRELOAD_BYTES = 2**30


class Examples(NamedTuple):
    """Images x [N, C, H, W] in [-1, 1], one-hot classes [N, L] or None, noise levels [N] and noise n like x."""

    images: Tensor
    labels: Tensor | None
    sigma: Tensor
    noise: Tensor

    def part(self, rows: slice) -> "Examples":
        """Some of them."""
        labels = None if self.labels is None else self.labels[rows]
        return Examples(self.images[rows], labels, self.sigma[rows], self.noise[rows])


def real_images(settings: FineTuning, net: Precond) -> RealImages:
    """The images to train on, decoded once if they are few.

    Raises:
        FileNotFoundError, ValueError: if they do not fit the network.
    """
    real = RealImages(settings.data, SkipTuned(net, SkipScale()), 1)
    if real.data.nbytes <= PRELOAD_BYTES:
        real.data.to_tensor()
    return real


def example_seeds(seed: int, positions: Sequence[int]) -> list[int]:
    """A seed below 2^32 for the noise level and the noise of each position of a run."""
    return [int(np.random.SeedSequence([seed % 2**32, p]).generate_state(1)[0]) for p in positions]


def rank_examples(
    real: RealImages, settings: FineTuning, start: int, until: int, device: torch.device
) -> Iterator[Examples]:
    """This rank's share of each batch: of positions p = start + rank, start + rank + ranks, ..."""
    rank, ranks = distributed.rank(), distributed.world_size()
    order = iter(InfiniteSampler(len(real.data), rank, ranks, seed=settings.seed, start=start))
    for first in range(start, until, settings.batch):
        seeds = example_seeds(settings.seed, range(first + rank, first + settings.batch, ranks))
        images, labels = real.batch(list(itertools.islice(order, len(seeds))), device)
        noise = SeedNoise(seeds).randn(list(images.shape)).to(device)
        yield Examples(images, labels, draw_sigma(seeds).to(device), noise)
