"""What train.py does."""

import inspect
import json
from dataclasses import asdict
from typing import Any

import click
import torch

from dnnlib.cli import warn
from programs.train.flags import (
    ARCHITECTURES,
    DROPOUT,
    LATENT_ARCHITECTURES,
    PRECONDITIONINGS,
    REFERENCE,
    NetworkFlags,
    ReportFlags,
    TrainingFlags,
)
from skip.monitor import Monitor
from skip.options import check_reference
from torch_utils import distributed
from training.augment import AUGMENT_DIM
from training.latents import LatentDataset, TrainingData, open_data
from training.networks import DhariwalUNet
from training.run.config import TrainingConfig
from training.training_loop import check, train

HEAD_CHANNELS = 32  # of these
CHANNELS_PER_HEAD = 64  # of DhariwalUNet
EMA_RAMPUP = 0.05
AUGMENT = 0.12


def main(flags: TrainingFlags) -> None:
    """What `train.py` does."""
    run, reports = flags.run, flags.reports
    config = training_config(flags)  # refuses what contradicts itself, before anything is read
    _check_reports(reports)
    sinks = reports.sinks.targets()

    data = open_data(run.data, use_labels=False)
    if flags.network.arch == "ldm":
        config = training_config(flags, data.resolution)

    device = flags.compute.device.init()
    torch.backends.cudnn.benchmark = True
    _check_kind(flags.network.arch, data, config.data)
    monitor = Monitor(
        run.outdir, device, reports.grid, reports.fid_num, reports.ref or REFERENCE, reports.detector,
        _decoder(reports, data), reports.zoom,
    )  # fmt: skip
    monitor.check(data.shown_shape)
    if flags.network.arch != "uvit":
        _tell_of_lost_attention(config.network, flags.network.attn, data.resolution)

    if run.dry_run:
        check(config, run.outdir, device)
        if distributed.rank() == 0:
            click.echo(json.dumps(asdict(config), indent=2))
        distributed.shutdown()
        return

    snapshot = train(config, run.outdir, device, monitor, sinks)
    if distributed.rank() == 0:
        click.echo(snapshot)
    distributed.shutdown()


def _check_kind(arch: str, data: TrainingData, path: str) -> None:
    """Refuse latents for a network of images, and images for one of latents."""
    latents = isinstance(data, LatentDataset)
    if latents and arch not in LATENT_ARCHITECTURES:
        raise ValueError(
            f"{path} holds latents, and --arch={arch} is for images; choose {' or '.join(LATENT_ARCHITECTURES)}"
        )
    if not latents and arch in LATENT_ARCHITECTURES:
        raise ValueError(
            f"{path} holds images, and --arch={arch} is for latents; make some with autoencoder.py encode"
        )


def _decoder(reports: ReportFlags, data: TrainingData) -> str | None:
    """What shows latents: the autoencoder that was named, or else that of the data; None for images."""
    if isinstance(data, LatentDataset):
        return reports.autoencoder or data.autoencoder
    if reports.autoencoder is not None:
        raise ValueError(f"--autoencoder={reports.autoencoder} does nothing: --data are images")
    return None


def _check_reports(reports: ReportFlags) -> None:
    """Refuse flags of reports that nobody would see."""
    for name in ("ref", "detector"):
        value = getattr(reports, name)
        if value is not None and not reports.fid_num:
            raise ValueError(f"--{name}={value} does nothing without --fid-num")
    check_reference(reports.ref, takes_images=False)
    if reports.autoencoder is not None and reports.grid == "none" and not reports.fid_num:
        raise ValueError(
            f"--autoencoder={reports.autoencoder} does nothing: --grid=none without --fid-num shows no images"
        )


def _tell_of_lost_attention(
    network: dict[str, Any], asked: list[int] | None, resolution: int
) -> None:
    """Warn where --attn asks for attention that there is not, as in EDM.

    At a size that no level has, and among fewer channels than one head has.
    """
    sizes = [resolution >> level for level in range(len(network["channel_mult"]))]
    for size in asked or []:
        if size not in (0, *sizes):
            had = ", ".join(f"{one}x{one}" for one in sizes)
            warn(
                f"there is no attention at {size}x{size}, which --attn names: the network's levels are {had}"
            )

    if network.get("model_type") != "DhariwalUNet":
        return  # the others' heads are of any number of channels

    defaults = inspect.signature(DhariwalUNet).parameters
    for level, multiple in enumerate(network["channel_mult"]):
        size, channels = resolution >> level, network["model_channels"] * multiple
        wanted = network.get("attn_resolutions", defaults["attn_resolutions"].default)
        if size in wanted and channels < CHANNELS_PER_HEAD:
            warn(
                f"there is no attention at {size}x{size}: {channels} channels are fewer than the {CHANNELS_PER_HEAD} "
                "of a head (a larger --cbase or --cres has it; --attn without this level says nothing)"
            )


def _augment(flags: TrainingFlags) -> float:
    """The probability of an augmentation; latents have none, as an autoencoder does not keep what they change."""
    given = flags.optimisation.augment
    if flags.network.arch not in LATENT_ARCHITECTURES:
        return AUGMENT if given is None else given
    if given:
        raise ValueError(f"--augment={given:g} is of images; latents have none: leave it out")
    return 0.0


def _dropout(flags: NetworkFlags) -> float:
    """The probability of dropout, which networks of latents do not have."""
    if flags.arch not in LATENT_ARCHITECTURES:
        return DROPOUT if flags.dropout is None else flags.dropout
    if flags.dropout:
        raise ValueError(
            f"--dropout={flags.dropout:g} is of EDM's networks; --arch={flags.arch} has none: leave it out"
        )
    return 0.0


def training_config(flags: TrainingFlags, resolution: int = 0) -> TrainingConfig:
    """The run that the flags describe.

    Args:
        flags: the flags.
        resolution: of the data, which networks of latents need to be told.
    """
    run, steps, compute, reports = flags.run, flags.optimisation, flags.compute, flags.reports
    if compute.fp16 and compute.dtype != "float32":
        raise ValueError(
            f"--fp16 and --dtype={compute.dtype} both choose what is computed in; give one of them"
        )

    network = _network(flags.network, compute.fp16, run.cond, resolution)
    augment = _augment(flags)
    if augment:
        network["augment_dim"] = AUGMENT_DIM
    return TrainingConfig(
        data=run.data,
        network=network,
        precond=_precond(flags.network),
        cond=run.cond,
        duration=round(run.duration * 1e6),
        batch=steps.batch,
        batch_gpu=steps.batch_gpu,
        lr=steps.lr,
        lr_rampup=round(steps.lr_rampup * 1e6),
        ema_halflife=round(steps.ema * 1e6),
        # The average of trained weights need not forget them.
        ema_rampup=0.0 if run.transfer else EMA_RAMPUP,
        dtype="float16" if compute.fp16 else compute.dtype,
        loss_scale=compute.ls,
        power_ema=None if steps.power_ema is None else tuple(steps.power_ema),
        seed=run.seed,
        transfer=run.transfer,
        augment=augment,
        label_dropout=steps.label_dropout,
        xflip=steps.xflip,
        workers=compute.workers,
        tick=reports.tick * 1000,
        snap=reports.tick * reports.snap * 1000,
    )


def _precond(flags: NetworkFlags) -> str:
    """The class of the network."""
    if flags.arch not in LATENT_ARCHITECTURES:
        return PRECONDITIONINGS[flags.precond or "edm"]
    if flags.precond is not None:
        raise ValueError(
            f"--precond={flags.precond} is of EDM's networks; --arch={flags.arch} has its own, leave it out"
        )
    return LATENT_ARCHITECTURES[flags.arch]


def _network(flags: NetworkFlags, fp16: bool, cond: bool, resolution: int) -> dict[str, Any]:
    """The network's arguments: those of --arch, but for what other flags say."""
    dropout = _dropout(flags)
    if flags.arch == "uvit":
        return _uvit(flags) | {"use_fp16": fp16}
    if flags.patch is not None:
        raise ValueError(f"--patch={flags.patch} is of --arch=uvit; leave it out")
    if flags.arch == "ldm":
        return _ldm(flags, cond, resolution) | {"use_fp16": fp16}
    chosen = {
        "model_channels": flags.cbase,
        "channel_mult": flags.cres,
        "num_blocks": flags.num_blocks,
        "attn_resolutions": flags.attn,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return ARCHITECTURES[flags.arch] | {"dropout": dropout, "use_fp16": fp16} | given


def _ldm(flags: NetworkFlags, cond: bool, resolution: int) -> dict[str, Any]:
    """Arguments of LDM's U-Net; --attn names sizes in latent pixels, which it is told as halvings."""
    network: dict[str, Any] = {
        "model_channels": flags.cbase or 64,
        "channel_mult": flags.cres or [1, 2],
        "num_res_blocks": flags.num_blocks or 2,
        "num_head_channels": HEAD_CHANNELS,
        "norm_groups": None,
    }
    sizes = [resolution >> level for level in range(len(network["channel_mult"]))]
    wanted = sizes if flags.attn is None else flags.attn
    network["attention_resolutions"] = [2**i for i, size in enumerate(sizes) if size in wanted]
    if cond:
        network["context_dim"] = network["model_channels"]
    return network


def _uvit(flags: NetworkFlags) -> dict[str, Any]:
    """Arguments of U-ViT: so many blocks on the way down, one in the middle, as many on the way up."""
    for name in ("cres", "attn"):
        if getattr(flags, name) is not None:
            raise ValueError(f"--{name} is of U-Nets; --arch=uvit has one width: leave it out")
    width = flags.cbase or 128
    return {
        "embed_dim": width,
        "depth": 2 * (flags.num_blocks or 4) + 1,
        "num_heads": max(width // HEAD_CHANNELS, 1),
        "patch_size": flags.patch or 2,
    }
