"""`python -m skip.finetune`: fine-tuning of the skip coefficients, or of the network, as a program."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import Group
from dnnlib.files import check_writable
from dnnlib.flags import SEED, Finite, FlagGroups, Program, add_flags, flag
from skip.finetune.objectives import tune_network, tune_rho
from skip.finetune.settings import DTYPES, FineTuning, as_json
from skip.options import DEVICE_FLAGS, warn_beyond
from skip.scale_file import save_scale
from skip.studies.score_matching import WEIGHTINGS
from torch_utils import distributed

COMMON: FlagGroups = {
    "What to train": [
        flag("--network", "Name (python -m training.checkpoint list), path or URL", default="demo", show_default=True),
        flag("--data", "Data set made by dataset_tool.py", default="assets/demo/images.zip", show_default=True),
        flag("--detector", "Feature network: a name in configs/detectors.toml, a path or a URL", default="demo",
             show_default=True),
        flag("--weighting", "Of noise levels", type=click.Choice(list(WEIGHTINGS)), default="edm", show_default=True),
    ],
    "How": [
        flag("--duration-images", "Length, a multiple of the batch", old=["--duration"], type=click.IntRange(min=1),
             required=True, metavar="INT"),
        flag("--batch", "Images a step, over all ranks", type=click.IntRange(min=1), default=32, show_default=True),
        flag("--batch-gpu", "Most images a rank holds at once; the rest accumulates", type=click.IntRange(min=1)),
        flag("--seed", "Of order, noise levels and noise", type=SEED, default=0, show_default=True),
        flag("--dtype", "Of the network's computation; weights stay float32", type=click.Choice(DTYPES),
             default="float32", show_default=True),
        *DEVICE_FLAGS,
    ],
}  # fmt: skip
RHO: FlagGroups = {
    "Coefficients": [
        flag("--bounded/--free", "rho = sigmoid(theta), in (0, 1), or any number", default=False, show_default=True),
        flag("--rho-start", "rho of each layer at first  [default: 1; bounded 0.95]", type=Finite(), metavar="FLOAT"),
        flag("--lr", "Adam's learning rate", type=Finite(), default=0.01, show_default=True),
        flag("--dest", "File of coefficients to write, for --rho-layers; the state is beside it", old=["--out"],
             required=True),
    ],
}  # fmt: skip
NETWORK: FlagGroups = {
    "Weights": [
        flag("--factor", "Of the feature loss, beside the pixel loss", type=Finite(), default=1.0,
             show_default=True),
        flag("--every", "Images between snapshots  [default: --duration-images]", type=click.IntRange(min=1)),
        flag("--ema-images", "Half-life of averaged weights, for the snapshots; 0: none", old=["--ema"],
             type=click.IntRange(min=0), default=0, show_default=True, metavar="INT"),
        flag("--lr", "Adam's learning rate", type=Finite(), default=1e-5, show_default=True),
        flag("--outdir", "Folder of snapshots and of the state", old=["--out"], required=True),
    ],
}  # fmt: skip


@click.group(cls=Group)
def main() -> None:
    """Fine-tune on score matching in feature space.

    A run that was killed goes on when the same command is given again: its state is kept every ten minutes and at a
    signal.
    """


@main.command("rho", cls=Program, resumes=True)
@add_flags(COMMON, RHO)
def rho_command(**flags: Any) -> None:
    """Train the skip coefficients alone; print them as JSON."""
    device = distributed.init(flags["device"], flags["tf32"])
    settings, out = _settings(flags), Path(flags["dest"])
    check_writable(out, "--dest")
    warn_beyond([] if flags["rho_start"] is None else [flags["rho_start"]])

    state = out.with_name(f"{out.name}.state")
    if out.exists() and not state.exists():
        raise ValueError(
            f"{out} is there, but no {state.name} beside it to go on from, and a new run would write over it; name "
            "another --dest, or move it away"
        )

    fitted = tune_rho(
        settings,
        flags["duration_images"],
        state,
        device,
        flags["bounded"],
        flags["rho_start"],
        flags["batch_gpu"],
    )

    if distributed.rank() == 0:
        about = {"bounded": flags["bounded"], "images": flags["duration_images"]}
        save_scale(out, fitted.scale, **as_json(settings), **about)
        rho, mean = fitted.path[-1], fitted.losses.chunk(4)
        found = {
            "rho": rho.tolist(),
            "mean": float(rho.mean()),
            "min": float(rho.min()),
            "max": float(rho.max()),
        }
        found |= {
            "loss_first_quarter": float(mean[0].mean()),
            "loss_last_quarter": float(mean[-1].mean()),
        }
        click.echo(json.dumps(found | about | {"out": str(out)}))
    distributed.shutdown()


@main.command("network", cls=Program, resumes=True)
@add_flags(COMMON, NETWORK)
def network_command(**flags: Any) -> None:
    """Train all weights on pixel and feature loss; print the snapshots' paths as JSON."""
    device = distributed.init(flags["device"], flags["tf32"])
    every = flags["every"] or flags["duration_images"]
    paths = tune_network(
        _settings(flags), flags["duration_images"], every, Path(flags["outdir"]), device, flags["factor"],
        flags["ema_images"], flags["batch_gpu"],
    )  # fmt: skip
    if distributed.rank() == 0:
        click.echo(
            json.dumps(
                {"images": flags["duration_images"], "snapshots": [str(path) for path in paths]}
            )
        )
    distributed.shutdown()


def _settings(flags: dict[str, Any]) -> FineTuning:
    names = ("network", "data", "detector", "batch", "lr", "seed", "weighting", "dtype")
    return FineTuning(**{name: flags[name] for name in names})


if __name__ == "__main__":
    main()
