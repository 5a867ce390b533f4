"""Random draws that depend on an image's seed alone: not on its batch, its rank or its neighbours."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from sampling.names import Labels


class SeedNoise:
    """One random generator per image, seeded with its seed modulo 2 ** 32.

    Every method draws once from each generator and stacks the draws. The order of the calls is part of the
    result; EDM's, and ours, is: the noise by `randn` (float32), the class index by `randint`, then the churn
    noise of each step by `randn_like` (float64).

    Args:
        seeds: one per image of the batch.
        device: of the generators. None is the CPU, whichever device computes: an image is then the same on
            every device. A CUDA device gives EDM's own GPU draws, which differ.
    Raises:
        ValueError: without seeds.
    """

    def __init__(self, seeds: Iterable[int], device: torch.device | str | None = None) -> None:
        self.device = torch.device("cpu" if device is None else device)
        self.generators = [
            torch.Generator(self.device).manual_seed(int(seed) % 2**32) for seed in seeds
        ]
        if not self.generators:
            raise ValueError("random draws need at least one seed")

    @classmethod
    def by(cls, generators: Sequence[torch.Generator]) -> "SeedNoise":
        """Draws of generators that are there, one per image and all of one device; one may serve several images.

        Raises:
            ValueError: without generators.
        """
        if not generators:
            raise ValueError("random draws need at least one generator")
        noise = cls.__new__(cls)
        noise.device, noise.generators = generators[0].device, list(generators)
        return noise

    def randn(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal draws.

        Args:
            shape: [N, ...], N the number of seeds.
            dtype: of the draws; float32 and float64 draws are different numbers.
        Returns:
            Tensor of that shape on the generators' device.
        Raises:
            ValueError: if shape[0] is not the number of seeds.
        """
        if len(shape) == 0 or shape[0] != len(self.generators):
            raise ValueError(
                f"noise of shape {tuple(shape)} for {len(self.generators)} seeds: "
                "the first dimension must be the number of seeds"
            )
        return torch.stack(
            [
                torch.randn(tuple(shape[1:]), generator=g, device=self.device, dtype=dtype)
                for g in self.generators
            ]
        )

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal draws with the shape, dtype and device of `x` [N, ...]."""
        return self.randn(x.shape, x.dtype).to(x.device)

    def randint(self, high: int) -> Tensor:
        """One uniform integer in [0, high) per seed: int64 [N] on the generators' device."""
        return torch.stack(
            [torch.randint(high, (), generator=g, device=self.device) for g in self.generators]
        )


class Draws(NamedTuple):
    """What the seeds draw before a sampler's first step, in its order.

    Attributes:
        noise: z ~ N(0, I), float32 [N, C, H, W] on the generators' device.
        classes: one an image; empty without classes.
        random: the generators after these draws; whatever is drawn next is independent of both.
    """

    noise: Tensor
    classes: list[int]
    random: SeedNoise


def first_draws(
    seeds: Sequence[int],
    shape: Sequence[int],
    label_dim: int,
    labels: Labels = "random",
    class_idx: int | None = None,
    device: torch.device | str | None = None,
) -> Draws:
    """The noise and the classes that an image begins with: for the sampler, and for who replays its draws.

    Args:
        seeds: one per image.
        shape: [C, H, W] of one image.
        label_dim: L, the number of classes; 0 for an unconditional network.
        labels: "random": each image's class is drawn from its seed, as EDM does; "balanced": seed modulo classes.
        class_idx: the class of every image instead.
        device: of the generators; None is the CPU.
    Raises:
        ValueError: without seeds.
    """
    classes = None
    if class_idx is not None:
        classes = [class_idx] * len(seeds)
    elif labels == "balanced" and label_dim > 0:
        classes = [seed % label_dim for seed in seeds]
    return draws(SeedNoise(seeds, device), shape, label_dim, classes)


def draws(
    random: SeedNoise, shape: Sequence[int], label_dim: int, classes: Sequence[int] | None = None
) -> Draws:
    """The noise, and the classes, by generators.

    Args:
        random: one generator per image.
        shape, label_dim: as of `first_draws`.
        classes: of the images instead of those that are drawn.
    """
    noise = random.randn([len(random.generators), *shape])
    if label_dim == 0:
        return Draws(noise, [], random)

    # Drawn even where it is not used, so that later draws stay the same.
    drawn = [int(c) for c in random.randint(label_dim)]
    return Draws(noise, drawn if classes is None else list(classes), random)


class DrawnAhead:
    """`SeedNoise.randn_like` whose next draw is made in a thread, while another device is at work.

    A draw for 64 images of ImageNet-64 takes a CPU some 24 ms, in which a GPU would have nothing to do. The numbers are
    those of `randn_like`, as one thread makes all draws in their order; the last one is made in vain.

    Used in a with statement, at whose end the thread is gone.

    Args:
        random: the draws; nobody else may draw from it any more.
    """

    def __init__(self, random: SeedNoise) -> None:
        self._random = random
        self._thread = ThreadPoolExecutor(1)
        self._next: Future[Tensor] | None = None

    def __enter__(self) -> "DrawnAhead":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Standard normal draws with the shape, dtype and device of `x` [N, ...], which never change.

        Raises:
            ValueError: if they do.
        """
        draw = self._next or self._begin(x)
        noise = draw.result()
        if (noise.shape, noise.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"noise of shape {list(noise.shape)} was drawn ahead, for x of shape {list(x.shape)}"
            )
        self._next = self._begin(x)
        return noise.to(x.device, non_blocking=True)

    def _begin(self, x: Tensor) -> "Future[Tensor]":
        return self._thread.submit(self._draw, x.shape, x.dtype, x.device.type == "cuda")

    def _draw(self, shape: Sequence[int], dtype: torch.dtype, pinned: bool) -> Tensor:
        noise = self._random.randn(shape, dtype)
        # From memory that the system may move, CUDA copies only after all that it was told before.
        return noise.pin_memory() if pinned else noise
