"""Distil a diffusion network into one step: teacher -> network-snapshot-*.safetensors."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch

from dnnlib.cli import Group
from dnnlib.flags import COUNT, MIMG, MIMG_OR_0, SEED, WORKERS, Finite, Flags, add_flags, flag
from metrics.perceptual import BUNDLED_SHAPE, bundled_perceptual
from sampling.levels import SIGMAS
from sampling.names import MOST_STEPS
from skip.flags import DeviceFlags, SinkFlags
from torch_utils import distributed
from training.distillation.consistency import (
    DISTANCES,
    ConsistencyConfig,
    ConsistencyDistillation,
    Distance,
)
from training.distillation.diff_instruct import DiffInstruct, DiffInstructConfig
from training.distillation.loop import distill

POSITIVE = Finite(min=0, min_open=True)


# fmt: off


@dataclass(frozen=True, kw_only=True)
class RunFlags(Flags):
    """What both methods have."""

    outdir: str                           = flag("Where to save; a run found there goes on", required=True, metavar="DIR")
    teacher: str                          = flag("Network to distil: a name, path or URL", required=True, metavar="NET")
    duration: float                       = flag("Length in million images", type=MIMG, default=10, metavar="MIMG")
    batch: int                            = flag("Images a step, over all ranks", type=COUNT, default=512)
    batch_gpu: int | None                 = flag("Most images a rank holds at once; the rest accumulates", type=COUNT)
    lr: float                             = flag("Learning rate of the student", type=POSITIVE, default=1e-4)
    lr_rampup: float                      = flag("Linear warm-up", type=MIMG_OR_0, default=0, metavar="MIMG")
    ema: float                            = flag("Half-life of the averaged weights, at most 5% of the images seen", type=MIMG_OR_0, default=0.5, metavar="MIMG")
    dtype: Literal["float32", "bfloat16"] = flag("Of the networks' computation; weights stay float32", default="float32")
    tick: int                             = flag("Thousand images between lines of stats.jsonl", type=COUNT, default=50, metavar="KIMG")
    snap: int                             = flag("Ticks between snapshots", type=COUNT, default=50, metavar="TICKS")
    seed: int                             = flag("Of order, classes and noise", type=SEED, default=0)
    device: DeviceFlags
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class ConsistencyFlags(Flags):
    """What consistency distillation has besides."""

    data: str           = flag("Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR")
    levels: int         = flag("Noise levels, EDM's grid from 80 to 0.002", type=click.IntRange(2, MOST_STEPS), default=18, metavar="INT")
    target_decay: float = flag("Of the average that the student is compared with; 0: with itself", type=Finite(0, 1, max_open=True), default=0.0, metavar="MU")
    distance: str       = flag("Of images: squared, pseudo-Huber, or by the demo detector's features (32x32, gray)", type=click.Choice([*DISTANCES, "perceptual"]), default="l2")
    workers: int        = flag("Processes that decode images of large data sets", type=WORKERS, default=1)


@dataclass(frozen=True, kw_only=True)
class DiffInstructFlags(Flags):
    """What Diff-Instruct has besides."""

    sigma_init: float = flag("Noise level of the generator's input", type=POSITIVE, default=1.0, metavar="SIGMA")
    aux_lr: float     = flag("Learning rate of the denoiser of generated images", type=POSITIVE, default=1e-4)


# fmt: on


@click.group(cls=Group)
def main() -> None:
    """Distil a diffusion network into one that draws in one step.

    The student begins as the teacher. A run that was killed goes on when the same command is given again, and
    ends with the same weights: its state is kept with each snapshot, every ten minutes and at a signal. Progress is on stderr; stats.jsonl holds the loss curve.

    Examples:

    \b
    # Consistency distillation of the bundled network; then draw in one step, from noise level 80
    python distill.py consistency --outdir runs/cd --teacher demo --data datasets/fashion-mnist-32.zip \\
        --batch 128 --duration 0.1 --ema 0.01 --tick 5
    python generate.py --outdir out/cd --network runs/cd/network-snapshot-000100.safetensors \\
        --sampler consistency --sigmas 80

    \b
    # Diff-Instruct needs no data; its network draws from noise level --sigma-init
    python distill.py diff-instruct --outdir runs/di --teacher demo --batch 128 --duration 0.1 --ema 0.01 --tick 5
    python generate.py --outdir out/di --network runs/di/network-snapshot-000100.safetensors \\
        --sampler consistency --sigmas 1
    """


@main.command(resumes=True, context_settings={"max_content_width": 110})
@add_flags(RunFlags, ConsistencyFlags)
def consistency(run: RunFlags, flags: ConsistencyFlags) -> None:
    """Consistency distillation (Song et al., 2023): the student gives the end of the teacher's path from any point."""
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

    if config.distance == "perceptual" and method.dataset.image_shape != BUNDLED_SHAPE:
        shape = "x".join(map(str, method.dataset.image_shape))
        raise ValueError(
            f"--distance=perceptual reads 1x32x32 images; these are {shape}: use l2 or huber"
        )
    _report(distill(method, run.outdir, device, sinks))


@main.command("diff-instruct", resumes=True, context_settings={"max_content_width": 110})
@add_flags(RunFlags, DiffInstructFlags)
def diff_instruct(run: RunFlags, flags: DiffInstructFlags) -> None:
    """Diff-Instruct (Luo et al., 2023): the student's images have the teacher's scores at every noise level."""
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


if __name__ == "__main__":
    main()
