"""A KL autoencoder: train one, encode a data set with it, and see what it reconstructs."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.cli import Group
from dnnlib.files import atomic_write, check_writable
from dnnlib.flags import (
    COUNT,
    MIMG,
    MIMG_OR_0,
    SEED,
    WORKERS,
    Finite,
    Flags,
    IntList,
    Program,
    add_flags,
    flag,
)
from metrics.perceptual import BUNDLED_SHAPE, Perceptual, bundled_perceptual
from sampling.generate import to_uint8
from skip.flags import POSITIVE, DeviceFlags, SinkFlags
from torch_utils import distributed
from training.autoencoder.encode import encode, reconstruct
from training.autoencoder.train import AutoencoderConfig, train_autoencoder
from training.dataset import ImageDataset
from training.presets import resolve

# fmt: off


@dataclass(frozen=True, kw_only=True)
class RunFlags(Flags, heading="Run"):
    """The run."""

    outdir: str     = flag("Where the results go", required=True, metavar="DIR")
    data: str       = flag("Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR")
    duration: float = flag("Length in million images", type=MIMG, default=1.0, metavar="MIMG")
    seed: int       = flag("Of weights, order and noise", type=SEED, default=0)


@dataclass(frozen=True, kw_only=True)
class NetworkFlags(Flags, heading="Network"):
    """The network; every level but the first halves the side."""

    cbase: int        = flag("Channels of the first level", type=COUNT, default=32, metavar="INT")
    cres: list[int]   = flag("Channels of each level, in cbase", type=IntList(1), default="1,2,4", metavar="LIST")
    num_blocks: int   = flag("Blocks a level of the encoder; the decoder has one more", type=COUNT, default=1, metavar="INT")
    channels: int     = flag("Channels of the latents", type=COUNT, default=4, metavar="INT")


@dataclass(frozen=True, kw_only=True)
class OptimisationFlags(Flags, heading="Optimisation"):
    """The steps."""

    batch: int            = flag("Images a step, over all ranks", type=COUNT, default=64, metavar="INT")
    batch_gpu: int | None = flag("Most images a rank holds at once; the rest accumulates", type=COUNT, metavar="INT")
    lr: float             = flag("Learning rate", type=POSITIVE, default=1e-3, metavar="FLOAT")
    lr_rampup: float      = flag("Linear warm-up", type=MIMG_OR_0, default=0.01, metavar="MIMG")
    ema: float            = flag("Half-life of the averaged weights; at most 5% of the images seen", type=MIMG_OR_0, default=0.02, metavar="MIMG")
    perceptual: float     = flag("Weight of a distance by the demo detector's features (32x32, gray); 0 for none", type=Finite(min=0), default=0.0, metavar="FLOAT")
    kl: float             = flag("Weight of the divergence from N(0, I)", type=Finite(min=0), default=1e-6, metavar="FLOAT")


@dataclass(frozen=True, kw_only=True)
class ReportFlags(Flags, heading="Reports and computation"):
    """What is told of the run, and where it is computed."""

    tick: int    = flag("Thousand images between lines of stats.jsonl", type=COUNT, default=10, metavar="KIMG")
    snap: int    = flag("Ticks between snapshots, each a place to resume from", type=COUNT, default=10, metavar="TICKS")
    workers: int = flag("Processes that decode images of large data sets", type=WORKERS, default=1)
    device: DeviceFlags
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class EncodeFlags(Flags):
    """What goes through an autoencoder, and where to."""

    autoencoder: str = flag("What `autoencoder.py train` made", required=True, metavar="PATH|URL")
    data: str        = flag("Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR")
    dest: str        = flag("File to write", required=True, metavar="NPZ")
    device: DeviceFlags


@dataclass(frozen=True, kw_only=True)
class CountFlags(Flags):
    """How many images."""

    num: int | None = flag("Take the first so many images  [default: all]", type=COUNT, metavar="INT")


# fmt: on


@click.group(cls=Group)
def main() -> None:
    """Train a KL autoencoder, and make latents of images for train.py.

    Examples:

    \b
    # Latents of 8x8 with 4 channels from images of 32x32; how good are its reconstructions?
    python autoencoder.py train --outdir runs/vae --data datasets/fashion-mnist-32.zip --duration 0.5
    python autoencoder.py reconstruct --autoencoder runs/vae/network-snapshot-000500.safetensors \\
        --data datasets/fashion-mnist-32.zip --num 10000 --dest out/reconstructed.npz
    python fid.py calc --images out/reconstructed.npz --num 10000 --detector demo --ref assets/demo/reference.npz

    \b
    # Encode the images once; then train on the latents
    python autoencoder.py encode --autoencoder runs/vae/network-snapshot-000500.safetensors \\
        --data datasets/fashion-mnist-32.zip --dest datasets/latents.npz
    python train.py --outdir runs/ldm --data datasets/latents.npz --cond 1 --arch ldm --label-dropout 0.1
    """


@main.command("train", cls=Program, resumes=True, context_settings={"max_content_width": 110})
@add_flags(RunFlags, NetworkFlags, OptimisationFlags, ReportFlags)
def train_command(
    run: RunFlags, network: NetworkFlags, steps: OptimisationFlags, reports: ReportFlags
) -> None:
    """Train a KL autoencoder on images; print the last snapshot's path.

    A run that was killed goes on when the same command is given again, and ends with the same weights.
    """
    sinks, device = reports.sinks.targets(), reports.device.init()
    config = AutoencoderConfig(
        data=run.data,
        network=_network(network),
        duration=round(run.duration * 1e6),
        seed=run.seed,
        batch=steps.batch,
        batch_gpu=steps.batch_gpu,
        lr=steps.lr,
        lr_rampup=round(steps.lr_rampup * 1e6),
        ema_halflife=round(steps.ema * 1e6),
        kl_weight=steps.kl,
        perceptual=steps.perceptual,
        tick=reports.tick * 1000,
        snap=reports.tick * reports.snap * 1000,
        workers=reports.workers,
    )

    distance = _distance(config, device) if config.perceptual else None
    snapshot = train_autoencoder(config, run.outdir, device, distance, sinks)
    if distributed.rank() == 0:
        click.echo(snapshot)
    distributed.shutdown()


def _network(flags: NetworkFlags) -> dict[str, Any]:
    """Keywords of `KLAutoencoder`."""
    return {
        "ch": flags.cbase,
        "ch_mult": flags.cres,
        "num_res_blocks": flags.num_blocks,
        "z_channels": flags.channels,
        "embed_dim": flags.channels,
        "norm_groups": None,
    }


def _distance(config: AutoencoderConfig, device: torch.device) -> Perceptual:
    """By the features of the bundled detector, which reads images of one shape."""
    shape = ImageDataset(config.data, use_labels=False).image_shape
    if shape != BUNDLED_SHAPE:
        read, these = ("x".join(map(str, one)) for one in (BUNDLED_SHAPE, shape))
        raise ValueError(
            f"--perceptual={config.perceptual:g} reads {read} images; these are {these}: leave it out"
        )
    return bundled_perceptual(device)


def _alone(flags: EncodeFlags) -> torch.device:
    """The device of a command that one process does."""
    device = flags.device.init()
    if distributed.world_size() > 1:
        raise ValueError(
            f"one process does this, and {distributed.world_size()} were started: call it without torchrun"
        )
    return device


@main.command("encode", cls=Program)
@add_flags(EncodeFlags)
def encode_command(flags: EncodeFlags) -> None:
    """Encode all images of a data set, for train.py; print what was written as JSON."""
    device = _alone(flags)
    check_writable(flags.dest, "--dest")
    count = encode(resolve(flags.autoencoder)[0], flags.data, Path(flags.dest), device)
    click.echo(json.dumps({"images": count, "dest": flags.dest}))
    distributed.shutdown()


@main.command("reconstruct", cls=Program)
@add_flags(EncodeFlags, CountFlags)
def reconstruct_command(flags: EncodeFlags, images: CountFlags) -> None:
    """Encode images and decode them again, to look at or to measure; print what was written as JSON."""
    device = _alone(flags)
    check_writable(flags.dest, "--dest")
    autoencoder = resolve(flags.autoencoder)[0]
    batches = reconstruct(autoencoder, flags.data, images.num, device)
    found = torch.cat([to_uint8(batch).cpu() for batch in batches])
    with atomic_write(flags.dest) as file:
        np.savez(file, arr_0=found.permute(0, 2, 3, 1).numpy())
    click.echo(json.dumps({"images": len(found), "dest": flags.dest}))
    distributed.shutdown()


if __name__ == "__main__":
    main()
