"""The training loop: one that can be killed at any moment and ends in the same state.

Everything random in step k of rank r is drawn from (seed, k, r), and the order of the images is a function of how many
have been consumed; so the weights, their average, the optimiser and one number are all that a resumed run needs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from dnnlib.sinks.mirror import Mirror, Target
from dnnlib.sinks.sink import Subject
from torch_utils import distributed
from training.augment import Augmentation
from training.dataset import ImageDataset, InfiniteSampler, Mirrored
from training.latents import TrainingData, open_data
from training.loss import DenoisingLoss, loss_of
from training.power_ema import LENGTH, path_of
from training.precond import Precond
from training.run.config import TrainingConfig
from training.run.entries import UNIT, entries
from training.run.loop import repeat
from training.run.reporter import Reporter
from training.run.snapshots import SNAPSHOT, snapshot_path
from training.run.state import STATE_FILE, TrainingState, recorded, start
from training.run.steps import generator
from training.storage import save_network

PRELOAD_BYTES = 2**30
LATEST = f"{SNAPSHOT}-latest.safetensors"

OnSnapshot = Callable[[Path, int], None]


def train(
    config: TrainingConfig,
    outdir: str | Path,
    device: torch.device,
    on_snapshot: OnSnapshot | None = None,
    sinks: Sequence[Target] = (),
) -> Path:
    """Train a network, or go on with the run in `outdir`; return the last snapshot's path.

    Writes network-snapshot-<thousand images>.safetensors (the averaged weights), training-state.pt, stats.jsonl and
    config.json, and with each snapshot the averages of `config.power_ema`, which `training.power_ema` reads. A killed
    run resumes from its last state, of ten minutes ago at most, and ends with identical weights.

    Args:
        config: the run.
        outdir: its folder.
        device: of this rank.
        on_snapshot: called on every rank with each snapshot and the images seen, before the state is saved: if the run
            is killed meanwhile, it is called again.
        sinks: what else gets curves and pictures.
    Raises:
        ValueError: if a setting is out of range or `outdir` was made with other settings.
        RuntimeError: if another run is at work in `outdir`.
        RuntimeError, Stopped: see also `run_steps`.
    """
    outdir, ranks = Path(outdir), distributed.world_size()
    config.check(ranks)
    dataset = open_data(config.data, use_labels=config.cond)
    with distributed.claimed(outdir):
        state = start(config, dataset, outdir, device)
        with recorded(config, state, outdir):
            module: nn.Module = state.net
            if ranks > 1:
                module = DistributedDataParallel(
                    state.net, device_ids=[device] if device.type == "cuda" else None
                )
            loss_fn = loss_of(config.precond, config.loss, state.net)
            batches = rank_batches(config, dataset, state.images_seen, device)

            def step() -> Tensor:
                return training_step(config, state, module, loss_fn, next(batches))

            def store(ema: Precond, path: Path, **told: Any) -> None:
                save_network(ema, path, **told)
                if path.name != LATEST:
                    _store_powers(state, outdir)

            return run_steps(config, state, step, outdir, device, {}, on_snapshot, store, sinks)


def _store_powers(state: TrainingState, outdir: Path) -> None:
    for std, mean in zip(state.powers.stds, state.powers.means, strict=True):
        told = {"images_seen": state.images_seen, LENGTH: std}
        save_network(cast(Precond, mean), path_of(outdir, state.images_seen, std), **told)


def check(config: TrainingConfig, outdir: str | Path, device: torch.device) -> None:
    """Refuse what `train` would refuse before its first step, first images included; nothing stays in `outdir`.

    Raises:
        ValueError, RuntimeError, OSError: as `train`.
    """
    config.check(distributed.world_size())
    dataset = open_data(config.data, use_labels=config.cond)
    with distributed.claimed(outdir):
        state = start(config, dataset, Path(outdir), device)
        next(rank_batches(config, dataset, state.images_seen, device))


def run_steps(
    config: TrainingConfig,
    state: TrainingState,
    step: Callable[[], Tensor],
    outdir: Path,
    device: torch.device,
    provenance: Mapping[str, Any],
    on_snapshot: OnSnapshot | None = None,
    store: Callable[..., None] = save_network,
    sinks: Sequence[Target] = (),
) -> Path:
    """Repeat a step to the end of the run; report, and keep what a killed run goes on from.

    Each snapshot and, after ten minutes without one or at a signal, the state are kept: the latter with the averaged
    weights as network-snapshot-latest.safetensors, which the next snapshot replaces.

    Args:
        config: the run.
        state: changed in place.
        step: changes the state's networks once; returns this rank's mean loss.
        outdir: the run's folder.
        device: of this rank.
        provenance: what snapshots tell of where they come from.
        on_snapshot: see `train`.
        store: called as store(averaged weights, path, **what a snapshot tells), on rank 0.
        sinks: what else gets curves and pictures; one that fails does not end the run.
    Returns:
        The last snapshot's path.
    Raises:
        RuntimeError: if a loss, or what would be saved, is not finite; what was saved before is untouched.
        Stopped: at a signal, on every rank.
    """
    latest = outdir / LATEST

    def keep(snapshot: bool) -> None:
        state.check(device)
        path = snapshot_path(outdir, state.images_seen) if snapshot else latest
        if distributed.rank() == 0:
            store(state.ema, path, images_seen=state.images_seen, **provenance)
        if snapshot and on_snapshot is not None:
            distributed.barrier()
            distributed.wait_for(path.exists)
            on_snapshot(path, state.images_seen)
        mirror.update()
        if distributed.rank() == 0:
            state.save(outdir / STATE_FILE)
        if distributed.rank() == 0 and snapshot:
            latest.unlink(missing_ok=True)

    subject = Subject(outdir, UNIT, asdict(config))
    mirror = Mirror(
        sinks if distributed.rank() == 0 else (),
        subject,
        lambda: entries(outdir, state.images_seen),
    )

    with mirror, Reporter(config, outdir, state, mirror) as report:
        repeat(step, state, config.duration, config.batch, config.snap, device, report.step, keep)
    return snapshot_path(outdir, state.images_seen)


def training_step(
    config: TrainingConfig,
    state: TrainingState,
    module: nn.Module,
    loss_fn: DenoisingLoss,
    batch: tuple[Tensor, Tensor],
) -> Tensor:
    """One optimiser step, accumulated over parts of the batch; returns this rank's mean loss a value.

    Args:
        config: the run's settings.
        state: changed in place, but for images_seen.
        module: state.net, or the same under DistributedDataParallel.
        loss_fn: the loss of each value.
        batch: this rank's images [N, C, H, W] in [-1, 1] and labels [N, L].
    """
    images, labels = batch
    step = state.images_seen // config.batch
    # Of integers: the same in every process.
    draw_seed = hash((config.seed, step, distributed.rank())) % 2**63
    torch.manual_seed(draw_seed)  # dropout
    random = torch.Generator(images.device).manual_seed(draw_seed)
    sigma, noise = loss_fn.draw(images, random)
    augment_labels: Tensor | None = None
    if config.augment:
        # On CUDA what is drawn here decides what is computed: drawn there, the device would have to be waited for.
        drawn_by = (
            random if images.device.type == "cpu" else torch.Generator().manual_seed(draw_seed)
        )
        images, augment_labels = Augmentation(config.augment)(images, drawn_by)
    if config.label_dropout:
        kept = torch.rand([len(labels), 1], generator=random, device=random.device)
        labels = labels * (kept >= config.label_dropout).to(labels)

    state.optimizer.zero_grad(set_to_none=True)
    share = len(images)
    parts = range(0, share, config.batch_gpu or share)
    total = torch.zeros([], device=images.device)
    for first in parts:
        rows = slice(first, first + parts.step)
        if isinstance(module, DistributedDataParallel):
            module.require_backward_grad_sync = first == parts[-1]
        told = None if augment_labels is None else augment_labels[rows]
        losses = loss_fn(module, images[rows], labels[rows], sigma[rows], noise[rows], told)
        losses.sum().mul(config.loss_scale / share).backward()
        total += losses.detach().sum()

    for group in state.optimizer.param_groups:
        group["lr"] = config.learning_rate(state.images_seen)
    for param in state.net.parameters():
        if param.grad is not None:
            torch.nan_to_num(
                param.grad.div_(config.loss_scale), nan=0.0, posinf=1e5, neginf=-1e5, out=param.grad
            )
    state.optimizer.step()
    _average(state, config.ema_beta(state.images_seen))
    state.powers.follow(state.net, state.images_seen + config.batch, config.batch)
    return total / images.numel()


@torch.no_grad()
def _average(state: TrainingState, beta: float) -> None:
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.net.parameters()), 1 - beta)


def rank_batches(
    config: TrainingConfig, dataset: TrainingData, images_seen: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's share of each batch from `images_seen` on: images in [-1, 1] (or latents), and labels."""
    rank, ranks = distributed.rank(), distributed.world_size()
    small = dataset.nbytes <= PRELOAD_BYTES
    if small:
        dataset.to_tensor()

    parts: list[Dataset[tuple[Tensor, Tensor]]] = [dataset]
    if config.xflip:
        parts.append(_mirrored(dataset, config.data))
    images: ConcatDataset[tuple[Tensor, Tensor]] = ConcatDataset(parts)
    loader = DataLoader(
        images,
        batch_size=config.batch // ranks,
        sampler=InfiniteSampler(len(images), rank, ranks, seed=config.seed, start=images_seen),
        num_workers=0 if small else config.workers,
        pin_memory=device.type == "cuda",
    )

    for stored, labels in loader:
        # Another use of the step's randomness than `training_step`.
        random = generator(config, images_seen, device, use=1)
        yield (
            dataset.values(stored.to(device, non_blocking=True), random),
            labels.to(device, non_blocking=True),
        )
        images_seen += config.batch


def _mirrored(dataset: TrainingData, path: str) -> Mirrored:
    if not isinstance(dataset, ImageDataset):
        raise ValueError(
            f"{path} holds latents, which have no mirror image: encode a data set that has its images twice"
        )
    return Mirrored(dataset)
