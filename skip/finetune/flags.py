"""The flags that python -m skip.finetune alone has."""

from dataclasses import dataclass

import click

from dnnlib.completion import names
from dnnlib.flags import COUNT, SEED, Finite, Flags, flag
from metrics.names import detectors
from skip.finetune.settings import DTYPES
from skip.flags import DeviceFlags
from skip.names import WEIGHTINGS
from training.names import networks

# fmt: off


@dataclass(frozen=True, kw_only=True)
class SubjectFlags(Flags, heading="What to train"):
    """The network, and what it is trained on."""

    network: str   = flag("Name (python -m training.checkpoint list), path or URL", default="demo", metavar="NAME|PATH|URL", shell_complete=names(networks))
    data: str      = flag("Data set made by dataset_tool.py", default="assets/demo/images.zip")
    detector: str  = flag("Feature network: a name in configs/detectors.toml, a path or a URL", default="demo", metavar="NAME|PATH|URL", shell_complete=names(detectors))
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
