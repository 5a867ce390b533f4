"""Train a diffusion network: dataset zip -> network-snapshot-*.safetensors."""

from typing import Any

import click

from dnnlib.cli import one_line_errors
from torch_utils import distributed
from training.training_config import TrainingConfig
from training.training_loop import train

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


PRECONDITIONINGS = {"edm": "EDMPrecond"}


class IntList(click.ParamType):
    """Whole numbers divided by commas, e.g. 1,2,4."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        try:
            return [int(x) for x in value.split(",") if x]
        except ValueError:
            self.fail(f"{value!r} is not a list like 1,2,4", param, ctx)


@click.command(context_settings={"show_default": True, "max_content_width": 110})
@click.option("--outdir", metavar="DIR", required=True, help="Where to save; a run found there goes on")
@click.option("--data", metavar="ZIP|DIR", required=True, help="Data set made by dataset_tool.py")
@click.option("--cond", type=bool, default=False, help="Train class-conditionally: the data set has labels")
@click.option("--arch", type=click.Choice(list(ARCHITECTURES)), default="ddpmpp", help="Network architecture")
@click.option("--precond", type=click.Choice(list(PRECONDITIONINGS)), default="edm", help="Preconditioning and loss")
@click.option(
    "--duration",
    metavar="MIMG",
    type=click.FloatRange(min=0, min_open=True),
    default=200,
    help="Length in million images",
)
@click.option("--batch", type=click.IntRange(min=1), default=512, help="Images a step, over all ranks")
@click.option("--batch-gpu", type=click.IntRange(min=1), help="Most images a rank holds at once; the rest accumulates")
@click.option(
    "--cbase",
    metavar="INT",
    type=click.IntRange(min=1),
    help="Channels: model_channels  [default: of --arch]",
)
@click.option("--cres", metavar="LIST", type=IntList(), help="Channels of each level, in cbase  [default: of --arch]")
@click.option("--num-blocks", type=click.IntRange(min=1), help="Blocks a level  [default: of --arch]")
@click.option("--attn", metavar="LIST", type=IntList(), help="Resolutions with attention  [default: of --arch]")
@click.option("--dropout", type=click.FloatRange(0, 1), default=0.13, help="Dropout probability")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Learning rate")
@click.option("--lr-rampup", metavar="MIMG", type=click.FloatRange(min=0), default=10, help="Linear warm-up")
@click.option(
    "--ema",
    metavar="MIMG",
    type=click.FloatRange(min=0),
    default=0.5,
    help="Half-life of the averaged weights",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    help="Of the network's computation; weights stay float32",
)
@click.option(
    "--tick",
    metavar="KIMG",
    type=click.IntRange(min=1),
    default=50,
    help="Thousand images between lines of stats.jsonl",
)
@click.option("--snap", metavar="TICKS", type=click.IntRange(min=1), default=50, help="Ticks between snapshots")
@click.option(
    "--workers", type=click.IntRange(min=0), default=1, help="Processes that decode images of large data sets"
)
@click.option("--transfer", metavar="NET", help="Begin with the weights of this network: a name, path or URL")
@click.option("--seed", type=int, default=0, help="Of weights, order, noise and dropout")
@click.option("--device", help="cpu, cuda, ...  [default: cuda where there is one]")
def main(**flags: Any) -> None:
    """Train a diffusion network on a data set made by dataset_tool.py.

    A run that was killed goes on from its last snapshot when the same command is given again, and ends with the same
    weights. Progress is on stderr; stats.jsonl holds the loss curve.

    Examples:

    \b
    # A small class-conditional ADM on Fashion-MNIST, on a laptop's CPU
    python train.py --outdir runs/small --data datasets/fashion-mnist-32.zip --cond 1 --arch adm --cbase 16 \\
        --cres 1,2,4 --num-blocks 2 --attn 8 --batch 128 --duration 1 --lr-rampup 0.02 --ema 0.02

    \b
    # The same on eight GPUs of one machine
    torchrun --standalone --nproc_per_node=8 train.py --outdir runs/gpu --data datasets/fashion-mnist-32.zip --cond 1
    """
    with one_line_errors():
        device = distributed.init(flags["device"])
        snapshot = train(_config(flags), flags["outdir"], device)
        if distributed.rank() == 0:
            click.echo(snapshot)
        distributed.shutdown()


def _config(flags: dict[str, Any]) -> TrainingConfig:
    """The run that the flags describe."""
    network = dict(ARCHITECTURES[flags["arch"]], dropout=flags["dropout"])
    names = {
        "cbase": "model_channels",
        "cres": "channel_mult",
        "num_blocks": "num_blocks",
        "attn": "attn_resolutions",
    }
    network |= {key: flags[flag] for flag, key in names.items() if flags[flag] is not None}
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
        dtype=flags["dtype"],
        seed=flags["seed"],
        transfer=flags["transfer"],
        workers=flags["workers"],
        tick=flags["tick"] * 1000,
        snap=flags["tick"] * flags["snap"] * 1000,
    )


if __name__ == "__main__":
    main()
