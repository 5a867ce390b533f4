"""Train a diffusion network: dataset zip -> network-snapshot-*.safetensors."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import inspect
import json
from dataclasses import asdict
from typing import Any

import click
import torch

from dnnlib.cli import warn
from dnnlib.flags import (
    MIMG,
    MIMG_OR_0,
    SEED,
    WORKERS,
    Finite,
    FlagGroups,
    Program,
    add_flags,
    flag,
)
from skip.monitor import Monitor
from skip.options import DEVICE_FLAGS
from torch_utils import distributed
from training.augment import AUGMENT_DIM
from training.dataset import ImageDataset
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
CHANNELS_PER_HEAD = 64  # of DhariwalUNet
EMA_RAMPUP = 0.05
PRECONDITIONINGS = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond"}


class IntList(click.ParamType):
    """Whole numbers divided by commas, e.g. 1,2,4, none below a least one."""

    name = "list"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        try:
            numbers = [int(x) for x in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a list like 1,2,4", param, ctx)
        if min(numbers) < self.least:
            self.fail(f"{value!r} has a number below {self.least}", param, ctx)
        return numbers


_COUNT = click.IntRange(min=1)
_POSITIVE = Finite(min=0, min_open=True)
_FRACTION = Finite(0, 1)

# Those that EDM's train.py has too have its names, meanings and defaults, but for --seed: random there.
FLAGS: FlagGroups = {
    "Run": [
        flag("--outdir", "Where the results go", required=True, metavar="DIR"),
        flag("--data", "Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR"),
        flag("--cond", "Train class-conditionally: the data set has labels", type=bool, default=False, show_default=True),
        flag("--duration", "Length in million images", type=MIMG, default=200, show_default=True, metavar="MIMG"),
        flag("--seed", "Of weights, order, noise and dropout", type=SEED, default=0, show_default=True),
        flag("--transfer", "Begin with the weights of this network", metavar="NAME|PATH|URL"),
        flag("--dry-run", "Refuse what the run would refuse, print the settings, and stop", is_flag=True),
    ],
    "Network": [
        flag("--arch", "Architecture", type=click.Choice(list(ARCHITECTURES)), default="ddpmpp", show_default=True),
        flag("--precond", "Preconditioning and loss", type=click.Choice(list(PRECONDITIONINGS)), default="edm", show_default=True),
        flag("--cbase", "Channels: model_channels  [default: of --arch]", type=_COUNT, metavar="INT"),
        flag("--cres", "Channels of each level, in cbase  [default: of --arch]", type=IntList(1), metavar="LIST"),
        flag("--num-blocks", "Blocks a level  [default: of --arch]", type=_COUNT, metavar="INT"),
        flag("--attn", "Resolutions with attention, 0 for none  [default: of --arch]", type=IntList(0), metavar="LIST"),
        flag("--dropout", "Dropout probability", type=_FRACTION, default=0.13, show_default=True, metavar="FLOAT"),
    ],
    "Optimisation": [
        flag("--batch", "Images a step, over all ranks", type=_COUNT, default=512, show_default=True, metavar="INT"),
        flag("--batch-gpu", "Most images a rank holds at once; the rest accumulates", type=_COUNT, metavar="INT"),
        flag("--lr", "Learning rate", type=_POSITIVE, default=1e-3, show_default=True, metavar="FLOAT"),
        flag("--lr-rampup", "Linear warm-up", type=MIMG_OR_0, default=10, show_default=True, metavar="MIMG"),
        flag("--ema", "Half-life of the averaged weights; without --transfer at most 5% of the images seen", type=MIMG_OR_0, default=0.5, show_default=True, metavar="MIMG"),
        flag("--augment", "Probability of each augmentation; 0 for none", type=_FRACTION, default=0.12, show_default=True, metavar="FLOAT"),
        flag("--xflip", "Count the data set twice, the second time mirrored", type=bool, default=False, show_default=True),
    ],
    "Computation": [
        flag("--fp16", "Compute in float16 on GPUs, in training and afterwards", type=bool, default=False, show_default=True),
        flag("--ls", "Loss scaling, for --fp16", type=_POSITIVE, default=1, show_default=True, metavar="FLOAT"),
        flag("--dtype", "What training computes in; weights stay float32", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True),
        flag("--workers", "Processes that decode images of large data sets", type=WORKERS, default=1, show_default=True),
        *DEVICE_FLAGS,
    ],
    "Reports": [
        flag("--tick", "Thousand images between lines of stats.jsonl", type=_COUNT, default=50, show_default=True, metavar="KIMG"),
        flag("--snap", "Ticks between snapshots, each a place to resume from", type=_COUNT, default=50, show_default=True, metavar="TICKS"),
        flag("--grid", "A contact sheet of each snapshot's images, COLSxROWS or none", old=["--sheet"], default="8x4", show_default=True, metavar="SIZE"),
        flag("--fid-num", "Measure FID on this many images of each snapshot; 0 for none", type=click.IntRange(min=0), default=0, show_default=True, metavar="INT"),
        flag("--ref", "FID's reference statistics", old=["--fid-ref"], default="assets/demo/reference.npz", show_default=True, metavar="NPZ|PKL|URL"),
        flag("--detector", "FID's detector  [default: the one that --ref was made with]", old=["--fid-detector"], metavar="NAME|PATH|URL"),
    ],
}  # fmt: skip


@click.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(FLAGS)
def main(**flags: Any) -> None:
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
    config = training_config(flags)
    device = distributed.init(flags["device"], flags["tf32"])
    torch.backends.cudnn.benchmark = True
    monitor = Monitor(
        flags["outdir"], device, flags["grid"], flags["fid_num"], flags["ref"], flags["detector"]
    )
    image_shape = ImageDataset(config.data, use_labels=False).image_shape
    monitor.check(image_shape)
    _tell_of_lost_attention(config.network, image_shape[-1])
    if flags["dry_run"]:
        check(config, flags["outdir"], device)
        if distributed.rank() == 0:
            click.echo(json.dumps(asdict(config), indent=2))
        distributed.shutdown()
        return
    snapshot = train(config, flags["outdir"], device, monitor)
    if distributed.rank() == 0:
        click.echo(snapshot)
    distributed.shutdown()


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


def training_config(flags: dict[str, Any]) -> TrainingConfig:
    """The run that the flags describe."""
    network = dict(ARCHITECTURES[flags["arch"]], dropout=flags["dropout"], use_fp16=flags["fp16"])
    names = {
        "cbase": "model_channels",
        "cres": "channel_mult",
        "num_blocks": "num_blocks",
        "attn": "attn_resolutions",
    }
    network |= {key: flags[flag] for flag, key in names.items() if flags[flag] is not None}
    if flags["augment"]:
        network["augment_dim"] = AUGMENT_DIM

    if flags["fp16"] and flags["dtype"] != "float32":
        raise ValueError(
            f"--fp16 and --dtype={flags['dtype']} both choose what is computed in; give one of them"
        )

    return TrainingConfig(
        data=flags["data"],
        network=network,
        precond=PRECONDITIONINGS[flags["precond"]],
        cond=flags["cond"],
        duration=round(flags["duration"] * 1e6),
        batch=flags["batch"],
        batch_gpu=flags["batch_gpu"],
        lr=flags["lr"],
        lr_rampup=round(flags["lr_rampup"] * 1e6),
        ema_halflife=round(flags["ema"] * 1e6),
        ema_rampup=0.0
        if flags["transfer"]
        else EMA_RAMPUP,  # the average of trained weights need not forget them
        dtype="float16" if flags["fp16"] else flags["dtype"],
        loss_scale=flags["ls"],
        seed=flags["seed"],
        transfer=flags["transfer"],
        augment=flags["augment"],
        xflip=flags["xflip"],
        workers=flags["workers"],
        tick=flags["tick"] * 1000,
        snap=flags["tick"] * flags["snap"] * 1000,
    )


if __name__ == "__main__":
    main()
