"""`python -m skip.finetune`: fine-tuning of the skip coefficients, or of the network, as a program."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import Group
from dnnlib.files import check_writable
from dnnlib.flags import COUNT, SEED, Finite, Flags, Program, add_flags, flag
from skip.finetune.objectives import FittedRho, tune_network, tune_rho
from skip.finetune.settings import DTYPES, FineTuning, as_json
from skip.flags import DeviceFlags
from skip.options import warn_beyond
from skip.scale_file import save_scale
from skip.studies.score_matching import WEIGHTINGS
from torch_utils import distributed

# fmt: off


@dataclass(frozen=True, kw_only=True)
class SubjectFlags(Flags, heading="What to train"):
    """The network, and what it is trained on."""

    network: str   = flag("Name (python -m training.checkpoint list), path or URL", default="demo")
    data: str      = flag("Data set made by dataset_tool.py", default="assets/demo/images.zip")
    detector: str  = flag("Feature network: a name in configs/detectors.toml, a path or a URL", default="demo")
    weighting: str = flag("Of noise levels", type=click.Choice(list(WEIGHTINGS)), default="edm")


@dataclass(frozen=True, kw_only=True)
class RunFlags(Flags, heading="How"):
    """The run."""

    duration_images: int  = flag("Length, a multiple of the batch", old=["--duration"], type=COUNT, required=True, metavar="INT")
    batch: int            = flag("Images a step, over all ranks", type=COUNT, default=32)
    batch_gpu: int | None = flag("Most images a rank holds at once; the rest accumulates", type=COUNT)
    seed: int             = flag("Of order, noise levels and noise", type=SEED, default=0)
    dtype: str            = flag("Of the network's computation; weights stay float32", type=click.Choice(DTYPES), default="float32")
    device: DeviceFlags


@dataclass(frozen=True, kw_only=True)
class RhoFlags(Flags, heading="Coefficients"):
    """What the training of coefficients has besides."""

    bounded: bool           = flag("rho = sigmoid(theta), in (0, 1), or any number", name="--bounded/--free", default=False)
    rho_start: float | None = flag("rho of each layer at first  [default: 1; bounded 0.95]", type=Finite(), metavar="FLOAT")
    lr: float               = flag("Adam's learning rate", type=Finite(), default=0.01)
    dest: str               = flag("File of coefficients to write, for --rho-layers; the state is beside it", old=["--out"], required=True)


@dataclass(frozen=True, kw_only=True)
class WeightFlags(Flags, heading="Weights"):
    """What the training of the network has besides."""

    factor: float     = flag("Of the feature loss, beside the pixel loss", type=Finite(), default=1.0)
    every: int | None = flag("Images between snapshots  [default: --duration-images]", type=COUNT)
    ema_images: int   = flag("Half-life of averaged weights, for the snapshots; 0: none", old=["--ema"], type=click.IntRange(min=0), default=0, metavar="INT")
    lr: float         = flag("Adam's learning rate", type=Finite(), default=1e-5)
    outdir: str       = flag("Folder of snapshots and of the state", old=["--out"], required=True)


# fmt: on


@click.group(cls=Group)
def main() -> None:
    """Fine-tune on score matching in feature space.

    A run that was killed goes on when the same command is given again: its state is kept every ten minutes and at a
    signal.
    """


@main.command("rho", cls=Program, resumes=True)
@add_flags(SubjectFlags, RunFlags, RhoFlags)
def rho_command(subject: SubjectFlags, run: RunFlags, coefficients: RhoFlags) -> None:
    """Train the skip coefficients alone; print them as JSON."""
    device = run.device.init()
    settings, out = _settings(subject, run, coefficients.lr), Path(coefficients.dest)
    check_writable(out, "--dest")
    start = coefficients.rho_start
    warn_beyond([] if start is None else [start])

    state = out.with_name(f"{out.name}.state")
    if out.exists() and not state.exists():
        raise ValueError(
            f"{out} is there, but no {state.name} beside it to go on from, and a new run would write over it; name "
            "another --dest, or move it away"
        )

    fitted = tune_rho(
        settings, run.duration_images, state, device, coefficients.bounded, start, run.batch_gpu
    )
    if distributed.rank() == 0:
        about = {"bounded": coefficients.bounded, "images": run.duration_images}
        save_scale(out, fitted.scale, **as_json(settings), **about)
        click.echo(json.dumps(_found(fitted) | about | {"out": str(out)}))
    distributed.shutdown()


def _found(fitted: FittedRho) -> dict[str, Any]:
    """The coefficients, and what became of the loss, as JSON."""
    rho, quarters = fitted.path[-1], fitted.losses.chunk(4)
    return {
        "rho": rho.tolist(),
        "mean": float(rho.mean()),
        "min": float(rho.min()),
        "max": float(rho.max()),
        "loss_first_quarter": float(quarters[0].mean()),
        "loss_last_quarter": float(quarters[-1].mean()),
    }


@main.command("network", cls=Program, resumes=True)
@add_flags(SubjectFlags, RunFlags, WeightFlags)
def network_command(subject: SubjectFlags, run: RunFlags, weights: WeightFlags) -> None:
    """Train all weights on pixel and feature loss; print the snapshots' paths as JSON."""
    device = run.device.init()
    paths = tune_network(
        _settings(subject, run, weights.lr),
        run.duration_images,
        weights.every or run.duration_images,
        Path(weights.outdir),
        device,
        weights.factor,
        weights.ema_images,
        run.batch_gpu,
    )
    if distributed.rank() == 0:
        snapshots = [str(path) for path in paths]
        click.echo(json.dumps({"images": run.duration_images, "snapshots": snapshots}))
    distributed.shutdown()


def _settings(subject: SubjectFlags, run: RunFlags, lr: float) -> FineTuning:
    return FineTuning(
        subject.network,
        subject.data,
        subject.detector,
        run.batch,
        lr,
        run.seed,
        subject.weighting,
        run.dtype,
    )


if __name__ == "__main__":
    main()
