"""What autoencoder.py does."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.files import atomic_write, check_writable
from metrics.perceptual import Perceptual, bundled_perceptual, check_bundled
from programs.autoencoder.flags import (
    CountFlags,
    EncodeFlags,
    NetworkFlags,
    OptimisationFlags,
    ReportFlags,
    RunFlags,
)
from sampling.generate import to_uint8
from torch_utils import distributed
from training.autoencoder.encode import encode, reconstruct
from training.autoencoder.train import AutoencoderConfig, train_autoencoder
from training.dataset import ImageDataset
from training.presets import resolve


def train(
    run: RunFlags, network: NetworkFlags, steps: OptimisationFlags, reports: ReportFlags
) -> None:
    """What `autoencoder.py train` does."""
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


def encode_all(flags: EncodeFlags) -> None:
    """What `autoencoder.py encode` does."""
    device = _alone(flags)
    check_writable(flags.dest, "--dest", ".npz")
    count = encode(resolve(flags.autoencoder)[0], flags.data, Path(flags.dest), device)
    click.echo(json.dumps({"images": count, "dest": flags.dest}))
    distributed.shutdown()


def reconstruct_all(flags: EncodeFlags, images: CountFlags) -> None:
    """What `autoencoder.py reconstruct` does."""
    device = _alone(flags)
    check_writable(flags.dest, "--dest", ".npz")
    autoencoder = resolve(flags.autoencoder)[0]
    batches = reconstruct(autoencoder, flags.data, images.num, device)
    found = torch.cat([to_uint8(batch).cpu() for batch in batches])
    with atomic_write(flags.dest) as file:
        np.savez(file, arr_0=found.permute(0, 2, 3, 1).numpy())
    click.echo(json.dumps({"images": len(found), "dest": flags.dest}))
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
    check_bundled(shape, f"--perceptual={config.perceptual:g}", "leave it out")
    return bundled_perceptual(device)


def _alone(flags: EncodeFlags) -> torch.device:
    """The device of a command that one process does."""
    device = flags.device.init()
    if distributed.world_size() > 1:
        raise ValueError(
            f"one process does this, and {distributed.world_size()} were started: call it without torchrun"
        )
    return device
