"""Everything that determines a training run, and the schedules that follow from it."""

from dataclasses import dataclass, field
from typing import Any

from dnnlib.numbers import LARGEST_SEED, check_positive
from training.augment import AUGMENT_DIM, Augmentation
from training.loss import TRAINABLE
from training.power_ema import check_length

MOST_BATCH = 1_000_000  # images a step; the largest published one is 4096


@dataclass(frozen=True)
class TrainingConfig:
    """A training run; lengths are counted in images.

    Args:
        data: dataset zip or folder.
        network: keywords of the preconditioned network, without image shape and label_dim, which the data give.
        precond: class name of the network, one of `training.loss.TRAINABLE`, which has its loss.
        cond: train with the data's labels.
        duration: length of the run.
        batch: images a step over all ranks.
        batch_gpu: most images a rank holds at once; the rest of its share is accumulated. None: all at once.
        lr: Adam's learning rate after the warm-up.
        lr_rampup: length of the linear warm-up.
        ema_halflife: half-life of the averaged weights.
        ema_rampup: the half-life is at most this fraction of the images seen so far.
        dtype: of the raw network's computation; the weights stay float32. "float16" on CUDA devices only.
        loss_scale: the loss is multiplied by it and the gradients are divided by it: small ones survive float16.
        seed: of initial weights, order, noise and dropout.
        snap: between snapshots, each of them a place to resume from.
        tick: between lines of stats.jsonl.
        workers: processes that decode images; data sets up to 1 GiB are decoded once and need none.
        loss: keywords of the loss.
        augment: probability of `training.augment.Augmentation`; 0 for none. The network needs augment_dim then.
        xflip: the data set counts twice, the second time mirrored.
        label_dropout: share of the images whose class is left out, for classifier-free guidance.
        power_ema: lengths of power-function averages, kept beside the other one and stored with each snapshot, from
            which `training.power_ema.reconstruct` makes those of other lengths.
        transfer: name, path or URL of a network of the same shape whose weights the run begins with; layers of class
            and augment labels may differ, and begin anew then.
    """

    data: str
    network: dict[str, Any]
    precond: str = "EDMPrecond"
    cond: bool = True
    duration: int = 200_000_000
    batch: int = 512
    batch_gpu: int | None = None
    lr: float = 1e-3
    lr_rampup: int = 10_000_000
    ema_halflife: int = 500_000
    ema_rampup: float = 0.05
    dtype: str = "float32"
    loss_scale: float = 1.0
    seed: int = 0
    snap: int = 2_500_000
    tick: int = 50_000
    workers: int = 1
    loss: dict[str, float] = field(default_factory=dict)
    transfer: str | None = None
    augment: float = 0.0
    xflip: bool = False
    label_dropout: float = 0.0
    power_ema: tuple[float, ...] | None = None

    def check(self, ranks: int) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: naming the setting and its value.
        """
        for name in ("duration", "batch", "snap", "tick"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch > min(MOST_BATCH, self.duration):
            raise ValueError(
                f"batch is {self.batch:,} images; it must be at most {MOST_BATCH:,}, and no more than the duration, "
                f"{self.duration:,} images"
            )
        if self.batch % ranks:
            raise ValueError(
                f"a batch of {self.batch} cannot be shared by {ranks} ranks; choose a multiple of {ranks}"
            )
        if self.batch_gpu is not None and self.batch_gpu < 1:
            raise ValueError(f"batch_gpu is {self.batch_gpu}; it must be at least 1")

        for name in ("lr", "loss_scale"):
            check_positive(name, getattr(self, name))
        if self.precond not in TRAINABLE:
            raise ValueError(
                f"there is no loss for the precond {self.precond!r}; choose from {', '.join(TRAINABLE)}"
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {LARGEST_SEED:,}")

        Augmentation(self.augment)
        if self.augment and self.network.get("augment_dim") != AUGMENT_DIM:
            raise ValueError(
                f"augment is {self.augment}, which needs a network with augment_dim={AUGMENT_DIM}"
            )

        self._check_labels()
        self._check_averages()

    def _check_labels(self) -> None:
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout is {self.label_dropout}; it must be from 0 to 1")
        if self.label_dropout and not self.cond:
            raise ValueError(
                f"label_dropout is {self.label_dropout}, but there are no labels to leave out: train with them"
            )

    def _check_averages(self) -> None:
        lengths = self.power_ema or ()
        for std in lengths:
            check_length(std)
        shown = [f"{std:.3f}" for std in lengths]  # as their files are called
        if len(set(shown)) < len(shown):
            raise ValueError(
                f"power_ema is {', '.join(shown)}; no two lengths may be the same to three digits"
            )

    def learning_rate(self, images_seen: int) -> float:
        """lr * min(images / lr_rampup, 1)."""
        return self.lr * min(images_seen / max(self.lr_rampup, 1e-8), 1.0)

    def ema_beta(self, images_seen: int) -> float:
        """0.5 ** (batch / half-life), the half-life at most ema_rampup * images (0: no such limit)."""
        halflife = (
            min(self.ema_halflife, images_seen * self.ema_rampup)
            if self.ema_rampup
            else self.ema_halflife
        )
        return 0.5 ** (self.batch / max(halflife, 1e-8))


def crossed(images_seen: int, batch: int, every: int) -> bool:
    """Whether the last step reached a multiple of `every` images."""
    return images_seen // every > (images_seen - batch) // every
