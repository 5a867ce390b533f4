"""The loop of fine-tuning: any parameters, a loss for each image; a killed run goes on and ends the same."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dnnlib.claims import claim_file
from skip.finetune.examples import Examples, rank_examples
from skip.finetune.settings import FineTuning
from skip.finetune.state import Run
from skip.studies.inputs import RealImages
from torch_utils import distributed
from training.run.loop import repeat
from training.run.optimizer import sum_over_ranks
from training.run.watch import check_tensors

Losses = Callable[[Examples], Tensor]  # -> [N], with gradients


@dataclass(frozen=True)
class Hooks:
    """What else happens on the way, on every rank.

    Attributes:
        after_step: called after each step; returns what to record of it, float64 [...] on the CPU, or None.
        on_snapshot: called with the images seen where they are a multiple of the interval, and at the end, before the
            state is saved: if the run is killed meanwhile, it is called again.
    """

    after_step: Callable[[], Tensor | None] = lambda: None
    on_snapshot: Callable[[int], None] = lambda images: None


def fit(
    run: Run,
    loss: Losses,
    real: RealImages,
    settings: FineTuning,
    until: int,
    every: int,
    saved: Path,
    device: torch.device,
    batch_gpu: int | None = None,
    hooks: Hooks | None = None,
) -> None:
    """Adam on the mean of a loss over images, noise levels and noise.

    Args:
        run: where it stands; changed in place.
        loss: of each of this rank's examples.
        real: the images.
        settings: of the run.
        until: images to see in all; a run that has seen more stays as it is.
        every: images between two saved states; the end is saved too, and what would be ten minutes without.
        saved: the file of the state, from which a killed run goes on.
        device: of this rank.
        batch_gpu: most images a rank holds at once; the rest of its share is accumulated. None: all at once.
        hooks: called on the way.
    Raises:
        ValueError: if a length is not one of whole steps, the batch cannot be shared out, or the state does not fit.
        RuntimeError: if a loss, or what would be saved, is not finite, or another run writes the state; what was saved
            before is untouched.
        Stopped: at a signal, on every rank.
    """
    settings.check_length("the length", until)
    settings.check_length("the interval", every)
    ranks = distributed.world_size()
    if settings.batch % ranks:
        raise ValueError(
            f"a batch of {settings.batch} cannot be shared by {ranks} ranks; choose a multiple of {ranks}"
        )
    if batch_gpu is not None and batch_gpu < 1:
        raise ValueError(f"batch_gpu is {batch_gpu}; it must be at least 1")

    with _alone(saved):
        is_new = not saved.exists()
        run.load(saved, device)
        try:
            if not run.history:
                run.save(saved)  # from here on a missing state means that it was removed

            batches = rank_examples(real, settings, run.images_seen, until, device)
            fitting = _Fit(run, loss, batches, settings.batch, batch_gpu, hooks or Hooks())
            with tqdm(
                total=until, initial=run.images_seen, unit="img", disable=distributed.rank() != 0
            ) as bar:
                repeat(
                    fitting.step, run, until, settings.batch, every, device,
                    report=lambda loss, done: fitting.report(bar),
                    keep=lambda snapshot: fitting.keep(saved, snapshot, device),
                )  # fmt: skip
        except Exception:
            if is_new and not run.kept and distributed.rank() == 0:
                # It got nowhere: other settings can be tried in the same place.
                saved.unlink(missing_ok=True)
            raise
        distributed.barrier()  # what rank 0 wrote is there


class _Fit:
    """A run on its way: its steps, what is recorded of each, and what is kept."""

    def __init__(
        self,
        run: Run,
        loss: Losses,
        batches: Iterator[Examples],
        batch: int,
        batch_gpu: int | None,
        hooks: Hooks,
    ) -> None:
        self.run = run
        self.loss = loss
        self.batches = batches
        self.batch = batch
        self.batch_gpu = batch_gpu
        self.hooks = hooks

    def step(self) -> Tensor:
        self.examples = next(self.batches)
        # Of all ranks.
        self.mean = step(self.run, self.loss, self.examples, self.batch, self.batch_gpu)
        return self.mean / distributed.world_size()

    def report(self, bar: tqdm) -> None:
        found = self.hooks.after_step()
        self.run.history.append(self.mean if found is None else torch.cat([self.mean, found]))
        bar.set_postfix(loss=f"{float(self.mean):.4g}", refresh=False)
        bar.update(self.batch)

    def keep(self, saved: Path, snapshot: bool, device: torch.device) -> None:
        self.run.check(device)
        # Without, layers would keep packed copies of weights that soon change.
        with torch.enable_grad():
            # Finite, and yet too large?
            after_step = self.loss(self.examples.part(slice(self.batch_gpu))).detach()
        check_tensors({"the loss with what would be saved": [after_step]}, device)
        self.run.kept = True
        if snapshot:
            self.hooks.on_snapshot(self.run.images_seen)
        self.run.save(saved)


@contextlib.contextmanager
def _alone(saved: Path) -> Iterator[None]:
    with claim_file(saved) if distributed.rank() == 0 else contextlib.nullcontext():
        distributed.require_shared(saved.parent)  # no rank begins before
        yield


def step(
    run: Run, loss: Losses, examples: Examples, batch: int, batch_gpu: int | None = None
) -> Tensor:
    """One step of Adam, on the sum of the ranks' losses over `batch`; returns that mean, float64 [1] on the CPU."""
    run.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros(1, dtype=torch.float64, device=examples.images.device)
    with torch.inference_mode(False), torch.enable_grad():
        share = len(examples.images)
        for first in range(0, share, batch_gpu or share):
            rows = slice(first, first + (batch_gpu or share))
            losses = loss(examples.part(rows))
            losses.sum().div(batch).backward()
            total += losses.detach().sum() / batch
    sum_over_ranks([one.grad for one in run.parameters if one.grad is not None])
    run.optimizer.step()
    return distributed.all_reduce_sum(total).cpu()
