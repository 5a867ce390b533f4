"""Train a diffusion network: dataset zip -> network-snapshot-*.safetensors."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import inspect
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import click
import torch

from dnnlib.cli import warn
from dnnlib.flags import (
    COUNT,
    MIMG,
    MIMG_OR_0,
    SEED,
    WORKERS,
    Finite,
    Flags,
    IntList,
    NumberList,
    Program,
    add_flags,
    flag,
)
from dnnlib.names import MOST_ZOOM, ROW
from skip.flags import DeviceFlags, SinkFlags
from skip.monitor import Monitor
from torch_utils import distributed
from training.augment import AUGMENT_DIM
from training.latents import LatentDataset, TrainingData, open_data
from training.networks import DhariwalUNet
from training.run.config import TrainingConfig
from training.training_loop import check, train

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "ddpmpp": {
        "model_type": "SongUNet", "embedding_type": "positional", "encoder_type": "standard",
        "decoder_type": "standard", "channel_mult_noise": 1, "resample_filter": [1, 1],
        "model_channels": 128, "channel_mult": [2, 2, 2],
    },
    "ncsnpp": {
        "model_type": "SongUNet", "embedding_type": "fourier", "encoder_type": "residual",
        "decoder_type": "standard", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1],
        "model_channels": 128, "channel_mult": [2, 2, 2],
    },
    "adm": {"model_type": "DhariwalUNet", "model_channels": 192, "channel_mult": [1, 2, 3, 4]},
}  # fmt: skip
# Of latents; with the preconditioning that each has.
LATENT_ARCHITECTURES = {"ldm": "LDMPrecond", "uvit": "UViTPrecond"}
HEAD_CHANNELS = 32  # of these
CHANNELS_PER_HEAD = 64  # of DhariwalUNet
EMA_RAMPUP = 0.05
AUGMENT = 0.12
PRECONDITIONINGS = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond"}


_POSITIVE = Finite(min=0, min_open=True)
_FRACTION = Finite(0, 1)

# Those that EDM's train.py has too have its names, meanings and defaults, but for --seed: random there.
# fmt: off


@dataclass(frozen=True, kw_only=True)
class RunFlags(Flags, heading="Run"):
    """The run."""

    outdir: str          = flag("Where the results go", required=True, metavar="DIR")
    data: str            = flag("Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR")
    cond: bool           = flag("Train class-conditionally: the data set has labels", type=bool, default=False)
    duration: float      = flag("Length in million images", type=MIMG, default=200, metavar="MIMG")
    seed: int            = flag("Of weights, order, noise and dropout", type=SEED, default=0)
    transfer: str | None = flag("Begin with the weights of this network", metavar="NAME|PATH|URL")
    dry_run: bool        = flag("Refuse what the run would refuse, print the settings, and stop", default=False)


@dataclass(frozen=True, kw_only=True)
class NetworkFlags(Flags, heading="Network"):
    """The network."""

    arch: str              = flag("Architecture; ldm and uvit are for latents of autoencoder.py", type=click.Choice([*ARCHITECTURES, *LATENT_ARCHITECTURES]), default="ddpmpp")
    precond: str | None    = flag("Preconditioning and loss  [default: edm; ldm and uvit have their own]", type=click.Choice(list(PRECONDITIONINGS)))
    cbase: int | None      = flag("Channels: model_channels  [default: of --arch]", type=COUNT, metavar="INT")
    cres: list[int] | None = flag("Channels of each level, in cbase  [default: of --arch]", type=IntList(1), metavar="LIST")
    num_blocks: int | None = flag("Blocks a level, of uvit on the way down  [default: of --arch]", type=COUNT, metavar="INT")
    patch: int | None      = flag("uvit: side of a token in latent pixels  [default: 2]", type=COUNT, metavar="INT")
    attn: list[int] | None = flag("Resolutions with attention, 0 for none  [default: of --arch]", type=IntList(0), metavar="LIST")
    dropout: float         = flag("Dropout probability, of EDM's networks", type=_FRACTION, default=0.13, metavar="FLOAT")


@dataclass(frozen=True, kw_only=True)
class OptimisationFlags(Flags, heading="Optimisation"):
    """The steps."""

    batch: int            = flag("Images a step, over all ranks", type=COUNT, default=512, metavar="INT")
    batch_gpu: int | None = flag("Most images a rank holds at once; the rest accumulates", type=COUNT, metavar="INT")
    lr: float             = flag("Learning rate", type=_POSITIVE, default=1e-3, metavar="FLOAT")
    lr_rampup: float      = flag("Linear warm-up", type=MIMG_OR_0, default=10, metavar="MIMG")
    ema: float            = flag("Half-life of the averaged weights; without --transfer at most 5% of the images seen", type=MIMG_OR_0, default=0.5, metavar="MIMG")
    power_ema: list[float] | None = flag("Lengths of power-function averages, as 0.05,0.1: stored with each snapshot, for python -m training.checkpoint reconstruct", type=NumberList(), metavar="LIST")
    augment: float | None = flag("Probability of each augmentation; 0 for none  [default: 0.12; of latents 0]", type=_FRACTION, metavar="FLOAT")
    label_dropout: float  = flag("Share of images whose class is left out: 0.1 for guidance", type=_FRACTION, default=0, metavar="FLOAT")
    xflip: bool           = flag("Count the data set twice, the second time mirrored", type=bool, default=False)


@dataclass(frozen=True, kw_only=True)
class ComputeFlags(Flags, heading="Computation"):
    """Where and in what it is computed."""

    fp16: bool                            = flag("Compute in float16 on GPUs, in training and afterwards", type=bool, default=False)
    ls: float                             = flag("Loss scaling, for --fp16", type=_POSITIVE, default=1, metavar="FLOAT")
    dtype: Literal["float32", "bfloat16"] = flag("What training computes in; weights stay float32", default="float32")
    workers: int                          = flag("Processes that decode images of large data sets", type=WORKERS, default=1)
    device: DeviceFlags


@dataclass(frozen=True, kw_only=True)
class ReportFlags(Flags, heading="Reports"):
    """What is told of the run on its way."""

    tick: int            = flag("Thousand images between lines of stats.jsonl", type=COUNT, default=50, metavar="KIMG")
    snap: int            = flag("Ticks between snapshots, each a place to resume from", type=COUNT, default=50, metavar="TICKS")
    grid: str            = flag("A contact sheet of each snapshot's images, COLSxROWS or none", old=["--sheet"], default="8x4", metavar="SIZE")
    zoom: int | None     = flag(f"Enlarge the images of --grid by this whole factor  [default: small ones until a row has about {ROW} pixels]", type=click.IntRange(1, MOST_ZOOM), metavar="INT")
    fid_num: int         = flag("Measure FID on this many images of each snapshot; 0 for none", type=click.IntRange(min=0), default=0, metavar="INT")
    ref: str             = flag("FID's reference statistics", old=["--fid-ref"], default="assets/demo/reference.npz", metavar="NPZ|PKL|URL")
    autoencoder: str | None = flag("What decodes latents for pictures and FID  [default: the one that --data names]", metavar="PATH|URL")
    detector: str | None = flag("FID's detector  [default: the one that --ref was made with]", old=["--fid-detector"], metavar="NAME|PATH|URL")
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(Flags):
    """All flags of train.py."""

    run: RunFlags
    network: NetworkFlags
    optimisation: OptimisationFlags
    compute: ComputeFlags
    reports: ReportFlags


# fmt: on


@click.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(TrainingFlags)
def main(flags: TrainingFlags) -> None:
    """Train a diffusion network on a data set made by dataset_tool.py.

    A run that was killed goes on when the same command is given again, and ends with the same weights: its state is kept
    with each snapshot, every ten minutes and at Ctrl-C or another signal that ends it. Progress is on stderr; stats.jsonl holds the loss curve, metrics.jsonl the FID of the snapshots.

    Examples:

    \b
    # A small class-conditional ADM on Fashion-MNIST, on a laptop's CPU
    python train.py --outdir runs/small --data datasets/fashion-mnist-32.zip --cond 1 --arch adm --cbase 16 \\
        --cres 1,2,4 --num-blocks 2 --attn 8 --augment 0 --batch 128 --duration 1 --lr-rampup 0.02 --ema 0.02

    \b
    # EDM's AFHQv2 network on the eight GPUs of one machine
    torchrun --standalone --nproc_per_node=8 train.py --outdir runs/afhqv2 --data datasets/afhqv2-64x64.zip \\
        --arch ddpmpp --batch 256 --cres 1,2,2,2 --lr 2e-4 --dropout 0.25 --augment 0.15
    """
    run, reports = flags.run, flags.reports
    config = training_config(flags)  # refuses what contradicts itself, before anything is read
    sinks = reports.sinks.targets()

    data = open_data(run.data, use_labels=False)
    if flags.network.arch == "ldm":
        config = training_config(flags, data.resolution)

    device = flags.compute.device.init()
    torch.backends.cudnn.benchmark = True
    _check_kind(flags.network.arch, data, config.data)
    monitor = Monitor(
        run.outdir, device, reports.grid, reports.fid_num, reports.ref, reports.detector, _decoder(reports, data),
        reports.zoom,
    )  # fmt: skip
    monitor.check(data.shown_shape)
    if "model_type" in config.network:
        _tell_of_lost_attention(config.network, data.resolution)

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


def _tell_of_lost_attention(network: dict[str, Any], resolution: int) -> None:
    """Warn where --attn asks for attention that there is not, as in EDM.

    At a size that no level has, and among fewer channels than one head has.
    """
    sizes = [resolution >> level for level in range(len(network["channel_mult"]))]
    for size in network.get("attn_resolutions", []):
        if size not in (0, *sizes):
            had = ", ".join(f"{one}x{one}" for one in sizes)
            warn(
                f"there is no attention at {size}x{size}, which --attn names: the network's levels are {had}"
            )

    if network["model_type"] != "DhariwalUNet":
        return  # a DDPM++ has one head, of any number of channels

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
    return ARCHITECTURES[flags.arch] | {"dropout": flags.dropout, "use_fp16": fp16} | given


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


if __name__ == "__main__":
    main()
