"""The one loop of training, distillation and fine-tuning: steps until the end, what is kept meanwhile, and signals."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dnnlib.interrupts import Stopped
from torch_utils import distributed
from training.run.config import crossed
from training.run.watch import Watch


class Progress(Protocol):
    """What a run counts."""

    images_seen: int


def repeat(
    step: Callable[[], Tensor],
    progress: Progress,
    until: int,
    batch: int,
    every: int,
    device: torch.device,
    report: Callable[[float, bool], None],
    keep: Callable[[bool], None],
) -> None:
    """Repeat a step to the end of a run; every rank calls it.

    Args:
        step: changes the networks once; returns this rank's mean loss.
        progress: counted in here.
        until: images to see in all.
        batch: images of a step.
        every: images between two snapshots; the end is one too.
        device: of this rank.
        report: called after each step, with the mean loss over the ranks and whether it was the last.
        keep: stores what a killed run goes on from; told whether this is a snapshot, or only ten minutes without one or
            the end at a signal.
    Raises:
        RuntimeError: if a loss is not finite; nothing is kept of that step.
        Stopped: at a signal, on every rank.
    """
    with Watch(device) as watch:
        while progress.images_seen < until:
            loss = step()
            progress.images_seen += batch
            seen = watch.step(loss, progress.images_seen)
            done = progress.images_seen >= until
            report(seen.loss, done)

            snapshot = done or crossed(progress.images_seen, batch, every)
            stop = seen.signal is not None and not done
            if snapshot or stop or seen.due:
                keep(snapshot)
                watch.saved()
            if stop:
                distributed.barrier()  # the state is there
                distributed.leave()
                raise Stopped(
                    int(seen.signal or 0),
                    f"Stopped by a signal after {progress.images_seen:,} images",
                )
