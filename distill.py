"""Distil a diffusion network into one step: teacher -> network-snapshot-*.safetensors."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.cli import Group
from dnnlib.flags import MIMG, MIMG_OR_0, SEED, WORKERS, Finite
from metrics.demo_detector import RESOLUTION, DemoDetector
from metrics.detector import load_detector
from metrics.perceptual import demo_perceptual
from sampling.levels import MOST_STEPS
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

POSITIVE = Finite(min=0, min_open=True)


def run_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The flags that both methods have."""
    flags = [
        click.option("--outdir", metavar="DIR", required=True, help="Where to save; a run found there goes on"),
        click.option("--teacher", metavar="NET", required=True, help="Network to distil: a name, path or URL"),
        click.option("--duration", metavar="MIMG", type=MIMG, default=10, help="Length in million images"),
        click.option("--batch", type=click.IntRange(min=1), default=512, help="Images a step, over all ranks"),
        click.option("--batch-gpu", type=click.IntRange(min=1), help="Most images a rank holds at once; the rest accumulates"),
        click.option("--lr", type=POSITIVE, default=1e-4, help="Learning rate of the student"),
        click.option("--lr-rampup", metavar="MIMG", type=MIMG_OR_0, default=0, help="Linear warm-up"),
        click.option("--ema", metavar="MIMG", type=MIMG_OR_0, default=0.5, help="Half-life of the averaged weights, at most 5% of the images seen"),
        click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Of the networks' computation; weights stay float32"),
        click.option("--tick", metavar="KIMG", type=click.IntRange(min=1), default=50, help="Thousand images between lines of stats.jsonl"),
        click.option("--snap", metavar="TICKS", type=click.IntRange(min=1), default=50, help="Ticks between snapshots"),
        click.option("--seed", type=SEED, default=0, help="Of order, classes and noise"),
        click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1  [default: cuda where there is one]"),
        click.option("--tf32", is_flag=True, help="On CUDA: let float32 be TF32: several times faster, off by 1e-3"),
    ]  # fmt: skip
    for flag in reversed(flags):
        command = flag(command)
    return command


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


@main.command(resumes=True, context_settings={"show_default": True, "max_content_width": 110})
@run_flags
@click.option("--data", metavar="ZIP|DIR", required=True, help="Data set made by dataset_tool.py")
@click.option(
    "--levels",
    metavar="INT",
    type=click.IntRange(2, MOST_STEPS),
    default=18,
    help="Noise levels, EDM's grid from 80 to 0.002",
)
@click.option(
    "--target-decay",
    metavar="MU",
    type=Finite(0, 1, max_open=True),
    default=0.0,
    help="Of the average that the student is compared with; 0: with itself",
)
@click.option(
    "--distance",
    type=click.Choice([*DISTANCES, "perceptual"]),
    default="l2",
    help="Of images: squared, pseudo-Huber, or by the demo detector's features (32x32, gray)",
)
@click.option(
    "--workers", type=WORKERS, default=1, help="Processes that decode images of large data sets"
)
def consistency(**flags: Any) -> None:
    """Consistency distillation (Song et al., 2023): the student gives the end of the teacher's path from any point."""
    device = distributed.init(flags["device"], flags["tf32"])
    config = ConsistencyConfig(
        **_common(flags),
        data=flags["data"],
        num_levels=flags["levels"],
        target_decay=flags["target_decay"],
        distance=flags["distance"],
        workers=flags["workers"],
    )
    sigmas = SIGMAS["edm"](config.num_levels, config.sigma_min, config.sigma_max)
    method = ConsistencyDistillation(config, sigmas, _distance(config.distance, device), device)
    if config.distance == "perceptual" and method.dataset.image_shape != (
        1,
        RESOLUTION,
        RESOLUTION,
    ):
        shape = "x".join(map(str, method.dataset.image_shape))
        raise ValueError(
            f"--distance=perceptual reads 1x32x32 images; these are {shape}: use l2 or huber"
        )
    _report(distill(method, flags["outdir"], device))


@main.command(
    "diff-instruct", resumes=True, context_settings={"show_default": True, "max_content_width": 110}
)
@run_flags
@click.option(
    "--sigma-init",
    metavar="SIGMA",
    type=POSITIVE,
    default=1.0,
    help="Noise level of the generator's input",
)
@click.option(
    "--aux-lr",
    type=POSITIVE,
    default=1e-4,
    help="Learning rate of the denoiser of generated images",
)
def diff_instruct(**flags: Any) -> None:
    """Diff-Instruct (Luo et al., 2023): the student's images have the teacher's scores at every noise level."""
    device = distributed.init(flags["device"], flags["tf32"])
    config = DiffInstructConfig(
        **_common(flags), sigma_init=flags["sigma_init"], aux_lr=flags["aux_lr"]
    )
    _report(distill(DiffInstruct(config, device), flags["outdir"], device))


def _distance(name: str, device: torch.device) -> Distance:
    if name != "perceptual":
        return DISTANCES[name]
    detector = load_detector("demo", device)
    assert isinstance(detector, DemoDetector)
    return demo_perceptual(detector)


def _common(flags: dict[str, Any]) -> dict[str, Any]:
    """Settings of `DistillConfig` from the flags that both methods have."""
    return {
        name: flags[name] for name in ("teacher", "batch", "batch_gpu", "lr", "dtype", "seed")
    } | {
        "duration": round(flags["duration"] * 1e6),
        "lr_rampup": round(flags["lr_rampup"] * 1e6),
        "ema_halflife": round(flags["ema"] * 1e6),
        "tick": flags["tick"] * 1000,
        "snap": flags["tick"] * flags["snap"] * 1000,
    }


def _report(snapshot: Path) -> None:
    if distributed.rank() == 0:
        click.echo(snapshot)
    distributed.shutdown()


if __name__ == "__main__":
    main()
