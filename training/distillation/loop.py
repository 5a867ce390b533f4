"""What the ways to distil a network into one step share: settings, first weights, updates and the loop.

As in training, everything random in step k of rank r is drawn from (seed, k, r): a run that is killed goes on from its
last snapshot and ends with the same weights.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dnnlib.sinks.mirror import Target
from torch_utils import distributed
from training.precond import Precond
from training.run.config import TrainingConfig
from training.run.size import check_batch
from training.run.state import TrainingState, recorded, resume
from training.storage import describe, load_network
from training.training_loop import run_steps


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainingConfig):
    """A distillation: a run whose network, classes and first weights are the teacher's.

    Args:
        teacher: name, path or URL of the network to distil.
        data: dataset zip or folder, for the methods that see real images.
        network: nothing; the teacher tells it.
        Others: see `TrainingConfig`.
    """

    teacher: str
    data: str = ""
    network: dict[str, Any] = field(default_factory=dict)


class Distillation(Protocol):
    """A method: its networks, and what one step does to them."""

    @property
    def config(self) -> DistillConfig:
        """The run."""
        ...

    @property
    def state(self) -> TrainingState:
        """What a snapshot keeps."""
        ...

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of each batch from `state.images_seen` on: images [N, C, H, W] and labels [N, L]."""
        ...

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Change the networks once; returns this rank's mean loss."""
        ...


def distill(
    method: Distillation, outdir: str | Path, device: torch.device, sinks: Sequence[Target] = ()
) -> Path:
    """Distil, or go on with the run in `outdir`; return the last snapshot's path.

    Writes what `training.training_loop.train` writes; a snapshot's provenance tells the teacher and the settings.

    Raises:
        ValueError: if `outdir` was made with other settings.
        RuntimeError: if another run is at work in `outdir`.
        RuntimeError, Stopped: see also `training.training_loop.run_steps`.
    """
    outdir, config, state = Path(outdir), method.config, method.state
    provenance = {
        "method": type(method).__name__,
        "teacher": config.teacher,
        "teacher_sha256": describe(config.teacher)["sha256"],
        "settings": {
            key: value for key, value in asdict(config).items() if key not in ("teacher", "network")
        },
    }

    with distributed.claimed(outdir):
        resume(config, state, outdir, device)
        with recorded(config, state, outdir):
            batches = method.batches()

            def step() -> Tensor:
                return method.step(*next(batches))

            return run_steps(config, state, step, outdir, device, provenance, sinks=sinks)


def load_teacher(config: DistillConfig, device: torch.device) -> Precond:
    """The network to distil, fixed, computing in the run's dtype.

    Raises:
        FileNotFoundError, ValueError: if it cannot be loaded, or a setting is out of range.
    """
    config.check(distributed.world_size())
    net = load_network(config.teacher, device)
    shape = (net.img_channels, net.img_resolution, net.img_resolution)
    check_batch(config.batch // distributed.world_size(), shape)
    return net


def trainable(net: Precond, config: DistillConfig) -> Precond:
    """A copy of `net` to train; without dropout, as it must follow what has none."""
    net = copy.deepcopy(net).eval().requires_grad_(True)
    net.dtype = getattr(torch, config.dtype)
    if next(net.parameters()).device.type == "cuda":
        net.channels_last()
    return net


def fixed(net: Precond) -> Precond:
    """A copy of `net` that no gradient reaches."""
    return copy.deepcopy(net).requires_grad_(False)
