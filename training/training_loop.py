"""The training loop: one that can be killed at any moment and ends in the same state.

Everything random in step k of rank r is drawn from (seed, k, r), and the order of the images is a function of how many
have been consumed, so the saved state is the weights, their average, the optimiser and one number.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from dnnlib.files import atomic_write, remove_partial_files
from torch_utils import distributed
from training.checkpoint import save_network
from training.dataset import ImageDataset, InfiniteSampler
from training.loss import EDMLoss
from training.precond import PRECONDS, Precond

STATE_FILE = "training-state.pt"


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines a training run.

    Args:
        data: dataset zip or folder.
        network: keywords of the preconditioned network, without image shape and label_dim, which the data give.
        precond: class name in `training.precond.PRECONDS`.
        duration: length in images.
        batch: images a step over all ranks.
        batch_gpu: most images a rank holds at once; the rest of its share is accumulated. None: all at once.
        lr: Adam's learning rate after the warm-up.
        lr_rampup: length of the linear warm-up in images.
        ema_halflife: half-life of the averaged weights in images.
        ema_rampup: the half-life is at most this fraction of the images seen so far.
        dtype: of the raw network's computation; the weights stay float32.
        seed: of initial weights, order, noise and dropout.
        snap: images between snapshots, each of them a place to resume from.
        tick: images between progress lines in stats.jsonl.
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
    seed: int = 0
    snap: int = 2_500_000
    tick: int = 50_000
    loss: dict[str, float] = field(default_factory=dict)


@dataclass
class TrainingState:
    """What a resumed run needs."""

    net: Precond
    ema: Precond
    optimizer: torch.optim.Optimizer
    images_seen: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write plain tensors and numbers, atomically."""
        with atomic_write(path) as file:
            torch.save(
                {
                    "net": self.net.state_dict(),
                    "ema": self.ema.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "images_seen": self.images_seen,
                    "seconds": self.seconds,
                },
                file,
            )

    def load(self, path: Path, device: torch.device) -> None:
        """Read what `save` wrote; nothing in the file is executed."""
        try:
            saved = torch.load(path, map_location=device, weights_only=True)
            self.net.load_state_dict(saved["net"])
            self.ema.load_state_dict(saved["ema"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except Exception as error:
            raise ValueError(f"cannot resume from {path} ({error}); remove it to start anew") from error
        self.images_seen, self.seconds = int(saved["images_seen"]), float(saved["seconds"])


def train(config: TrainingConfig, outdir: str | Path, device: torch.device) -> Path:
    """Train a network, or go on with it if `outdir` holds a state; return the last snapshot's path.

    Writes network-snapshot-<thousand images>.safetensors (the averaged weights), training-state.pt, stats.jsonl and
    config.json. A killed run resumes from its last state and ends with identical weights.

    Raises:
        ValueError: if a setting is out of range or `outdir` was made with other settings.
    """
    outdir = Path(outdir)
    ranks = distributed.world_size()
    _check(config, ranks)
    dataset = ImageDataset(config.data, use_labels=config.cond)
    state = _start(config, dataset, outdir, device)
    module: nn.Module = state.net
    if ranks > 1:
        module = DistributedDataParallel(state.net, device_ids=[device] if device.type == "cuda" else None)

    loss_fn = EDMLoss(**config.loss)
    batches = _batches(config, dataset, state.images_seen, device)
    report = _Reporter(config, outdir, state)
    while state.images_seen < config.duration:
        loss = _step(config, state, module, loss_fn, next(batches), device)
        state.images_seen += config.batch
        done = state.images_seen >= config.duration
        report.step(loss, done)
        if (done or _crossed(state.images_seen, config.batch, config.snap)) and distributed.rank() == 0:
            state.seconds = report.seconds()
            save_network(state.ema, _snapshot(outdir, state.images_seen), images_seen=state.images_seen)
            state.save(outdir / STATE_FILE)
    report.close()
    return _snapshot(outdir, state.images_seen)


def learning_rate(config: TrainingConfig, images_seen: int) -> float:
    """lr * min(images / lr_rampup, 1)."""
    return config.lr * min(images_seen / max(config.lr_rampup, 1e-8), 1.0)


def ema_beta(config: TrainingConfig, images_seen: int) -> float:
    """0.5 ** (batch / halflife), the half-life capped at ema_rampup * images."""
    halflife = min(config.ema_halflife, images_seen * config.ema_rampup) if config.ema_rampup else config.ema_halflife
    return 0.5 ** (config.batch / max(halflife, 1e-8))


def _step(
    config: TrainingConfig,
    state: TrainingState,
    module: nn.Module,
    loss_fn: EDMLoss,
    batch: tuple[Tensor, Tensor],
    device: torch.device,
) -> Tensor:
    """One optimiser step; returns the rank's mean loss a value."""
    step = state.images_seen // config.batch
    draw_seed = hash((config.seed, step, distributed.rank())) % 2**63
    generator = torch.Generator().manual_seed(draw_seed)
    torch.manual_seed(draw_seed)  # dropout
    images, labels = batch
    sigma, noise = loss_fn.draw(images, generator)

    state.optimizer.zero_grad(set_to_none=True)
    share = len(images)
    chunks = torch.arange(share).split(min(config.batch_gpu or share, share))
    total = torch.zeros([], device=device)
    for i, chunk in enumerate(chunks):
        rows = chunk.to(device)
        if isinstance(module, DistributedDataParallel):
            module.require_backward_grad_sync = i == len(chunks) - 1
        losses = loss_fn(module, images[rows], labels[rows], sigma[rows], noise[rows])
        losses.sum().div(share).backward()
        total += losses.detach().sum()

    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.images_seen)
    for param in state.net.parameters():
        if param.grad is not None:
            torch.nan_to_num(param.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=param.grad)
    state.optimizer.step()
    _average(state, ema_beta(config, state.images_seen))
    return total / images.numel()


@torch.no_grad()
def _average(state: TrainingState, beta: float) -> None:
    averaged, current = list(state.ema.parameters()), list(state.net.parameters())
    torch._foreach_lerp_(averaged, current, 1 - beta)
    for mean, now in zip(state.ema.buffers(), state.net.buffers(), strict=True):
        mean.copy_(now)


def _start(config: TrainingConfig, dataset: ImageDataset, outdir: Path, device: torch.device) -> TrainingState:
    torch.manual_seed(config.seed)
    net = PRECONDS[config.precond](
        img_resolution=dataset.resolution,
        img_channels=dataset.num_channels,
        label_dim=dataset.label_dim,
        **config.network,
    )
    net.to(device).train()
    net.dtype = getattr(torch, config.dtype)
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    state = TrainingState(net, ema, torch.optim.Adam(net.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8))

    settings = json.loads(json.dumps(asdict(config)))
    config_file = outdir / "config.json"
    if config_file.exists():
        _check_same(json.loads(config_file.read_text()), settings, outdir)
    if (outdir / STATE_FILE).exists():
        state.load(outdir / STATE_FILE, device)
    distributed.barrier()  # no rank may write before all have looked
    if distributed.rank() == 0:
        remove_partial_files(outdir)
        with atomic_write(config_file) as file:
            file.write((json.dumps(settings, indent=2) + "\n").encode())
    return state


def _check_same(old: dict[str, Any], new: dict[str, Any], outdir: Path) -> None:
    free = {
        "duration",
        "snap",
        "tick",
        "batch_gpu",
    }  # a longer run, or other reports, may go on from this state
    for key in sorted((set(old) | set(new)) - free):
        if old.get(key) != new.get(key):
            raise ValueError(
                f"{outdir} was trained with {key}={old.get(key)!r}, now {new.get(key)!r}; use another --outdir"
            )


def _batches(
    config: TrainingConfig, dataset: ImageDataset, start: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's share of each batch: images in [-1, 1] and labels, on the device."""
    rank, ranks = distributed.rank(), distributed.world_size()
    order = iter(InfiniteSampler(len(dataset), rank, ranks, seed=config.seed, start=start))
    share = config.batch // ranks
    preloaded = dataset.to_tensor() if dataset.nbytes <= 2**30 else None
    fetch: Callable[[list[int]], tuple[Tensor, Tensor]]
    if preloaded is not None:
        everything = preloaded

        def fetch(rows: list[int]) -> tuple[Tensor, Tensor]:
            return everything[0][rows], everything[1][rows]
    else:

        def fetch(rows: list[int]) -> tuple[Tensor, Tensor]:
            images, labels = zip(*(dataset[i] for i in rows), strict=True)
            return torch.stack(images), torch.stack(labels)

    while True:
        images, labels = fetch([next(order) for _ in range(share)])
        yield images.to(device).float() / 127.5 - 1, labels.to(device)


def _crossed(images_seen: int, batch: int, every: int) -> bool:
    """Whether the last step reached a multiple of `every` images."""
    return images_seen // every > (images_seen - batch) // every


def _snapshot(outdir: Path, images_seen: int) -> Path:
    return outdir / f"network-snapshot-{images_seen // 1000:06d}.safetensors"


def _check(config: TrainingConfig, ranks: int) -> None:
    for name in ("duration", "batch", "snap", "tick"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least 1")
    if config.batch % ranks:
        raise ValueError(f"a batch of {config.batch} cannot be shared by {ranks} ranks; choose a multiple of {ranks}")
    if config.batch_gpu is not None and config.batch_gpu < 1:
        raise ValueError(f"batch_gpu is {config.batch_gpu}; it must be at least 1")
    if not (math.isfinite(config.lr) and config.lr > 0):
        raise ValueError(f"lr is {config.lr}; it must be positive")
    if config.precond not in PRECONDS:
        raise ValueError(f"unknown precond {config.precond!r}; choose from {', '.join(PRECONDS)}")


class _Reporter:
    """Progress on stderr, and one line a tick in stats.jsonl, on rank 0 (the loss is the mean over ranks)."""

    def __init__(self, config: TrainingConfig, outdir: Path, state: TrainingState) -> None:
        self.config, self.state, self.path = config, state, outdir / "stats.jsonl"
        self.sum, self.steps, self.tick_images = 0.0, 0, 0
        self.began, self.tick_began = time.monotonic() - state.seconds, time.monotonic()
        quiet = distributed.rank() != 0
        self.bar = tqdm(
            total=config.duration,
            initial=state.images_seen,
            unit="img",
            unit_scale=True,
            disable=quiet,
            smoothing=0.05,
        )
        if not quiet and self.path.exists():  # forget what a killed run reported beyond its last state
            lines = [x for x in self.path.read_text().splitlines() if json.loads(x)["images"] <= state.images_seen]
            with atomic_write(self.path) as file:
                file.write("".join(x + "\n" for x in lines).encode())

    def seconds(self) -> float:
        """Training time so far, earlier sessions included."""
        return time.monotonic() - self.began

    def step(self, loss: Tensor, done: bool) -> None:
        """Count one step with this rank's mean loss."""
        self.sum += float(loss)
        self.steps += 1
        self.tick_images += self.config.batch
        self.bar.update(self.config.batch)
        if not done and not _crossed(self.state.images_seen, self.config.batch, self.config.tick):
            return
        mean = distributed.all_reduce_sum(torch.tensor(self.sum / self.steps, dtype=torch.float64))
        value = float(mean) / distributed.world_size()
        rate = self.tick_images / (time.monotonic() - self.tick_began)
        if distributed.rank() == 0:
            self.bar.set_postfix(loss=f"{value:.4f}")
            line = {
                "images": self.state.images_seen,
                "loss": round(value, 6),
                "lr": learning_rate(self.config, self.state.images_seen),
                "images_per_second": round(rate, 1),
                "seconds": round(self.seconds(), 1),
            }
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        self.sum, self.steps, self.tick_images, self.tick_began = 0.0, 0, 0, time.monotonic()

    def close(self) -> None:
        """End the progress bar."""
        self.bar.close()
