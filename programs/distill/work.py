"""What distill.py does."""

from pathlib import Path
from typing import Any

import click
import torch

from metrics.perceptual import bundled_perceptual, check_bundled
from programs.distill.flags import ConsistencyFlags, DiffInstructFlags, RunFlags
from sampling.sigmas import SIGMAS
from torch_utils import distributed
from training.distillation.consistency import (
    DISTANCES,
    ConsistencyConfig,
    ConsistencyDistillation,
    Distance,
)
from training.distillation.diff_instruct import DiffInstruct, DiffInstructConfig
from training.distillation.loop import distill


def consistency(run: RunFlags, flags: ConsistencyFlags) -> None:
    """What `distill.py consistency` does."""
    sinks, device = run.sinks.targets(), run.device.init()
    config = ConsistencyConfig(
        **_common(run),
        data=flags.data,
        num_levels=flags.levels,
        target_decay=flags.target_decay,
        distance=flags.distance,
        workers=flags.workers,
    )
    sigmas = SIGMAS["edm"](config.num_levels, config.sigma_min, config.sigma_max)
    method = ConsistencyDistillation(config, sigmas, _distance(config.distance, device), device)

    if config.distance == "perceptual":
        check_bundled(method.dataset.image_shape, "--distance=perceptual", "use l2 or huber")
    _report(distill(method, run.outdir, device, sinks))


def diff_instruct(run: RunFlags, flags: DiffInstructFlags) -> None:
    """What `distill.py diff-instruct` does."""
    sinks, device = run.sinks.targets(), run.device.init()
    config = DiffInstructConfig(**_common(run), sigma_init=flags.sigma_init, aux_lr=flags.aux_lr)
    _report(distill(DiffInstruct(config, device), run.outdir, device, sinks))


def _distance(name: str, device: torch.device) -> Distance:
    if name != "perceptual":
        return DISTANCES[name]
    return bundled_perceptual(device)


def _common(run: RunFlags) -> dict[str, Any]:
    """Settings of `DistillConfig` from the flags that both methods have."""
    return {
        "teacher": run.teacher,
        "batch": run.batch,
        "batch_gpu": run.batch_gpu,
        "lr": run.lr,
        "dtype": run.dtype,
        "seed": run.seed,
        "duration": round(run.duration * 1e6),
        "lr_rampup": round(run.lr_rampup * 1e6),
        "ema_halflife": round(run.ema * 1e6),
        "tick": run.tick * 1000,
        "snap": run.tick * run.snap * 1000,
    }


def _report(snapshot: Path) -> None:
    if distributed.rank() == 0:
        click.echo(snapshot)
    distributed.shutdown()
