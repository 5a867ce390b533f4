"""The flags that distill.py alone has."""

from dataclasses import dataclass
from typing import Literal

import click

from dnnlib.completion import names
from dnnlib.flags import COUNT, MIMG, MIMG_OR_0, POSITIVE, SEED, WORKERS, Finite, Flags, flag
from sampling.names import MOST_STEPS
from skip.flags import DeviceFlags, SinkFlags
from training.names import DISTANCES, networks

# fmt: off


@dataclass(frozen=True, kw_only=True)
class RunFlags(Flags):
    """What both methods have."""

    outdir: str                           = flag("Where to save; a run found there goes on", required=True, metavar="DIR")
    teacher: str                          = flag("Network to distil", required=True, metavar="NAME|PATH|URL", shell_complete=names(networks))
    duration: float                       = flag("Length in million images", type=MIMG, default=10, metavar="MIMG")
    batch: int                            = flag("Images a step, over all ranks", type=COUNT, default=512)
    batch_gpu: int | None                 = flag("Most images a rank holds at once; the rest accumulates", type=COUNT)
    lr: float                             = flag("Learning rate of the student", type=POSITIVE, default=1e-4)
    lr_rampup: float                      = flag("Linear warm-up", type=MIMG_OR_0, default=0, metavar="MIMG")
    ema: float                            = flag("Half-life of the averaged weights, at most 5% of the images seen", type=MIMG_OR_0, default=0.5, metavar="MIMG")
    dtype: Literal["float32", "bfloat16"] = flag("Of the networks' computation; weights stay float32", default="float32")
    tick: int                             = flag("Thousand images between lines of stats.jsonl", type=COUNT, default=50, metavar="KIMG")
    snap: int                             = flag("Ticks between snapshots", type=COUNT, default=50, metavar="TICKS")
    seed: int                             = flag("Of order, classes and noise", type=SEED, default=0)
    device: DeviceFlags
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class ConsistencyFlags(Flags):
    """What consistency distillation has besides."""

    data: str           = flag("Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR")
    levels: int         = flag("Noise levels, EDM's grid from 80 to 0.002", type=click.IntRange(2, MOST_STEPS), default=18, metavar="INT")
    target_decay: float = flag("Of the average that the student is compared with; 0: with itself", type=Finite(0, 1, max_open=True), default=0.0, metavar="MU")
    distance: str       = flag("Of images: squared, pseudo-Huber, or by the demo detector's features (32x32, gray)", type=click.Choice([*DISTANCES, "perceptual"]), default="l2")
    workers: int        = flag("Processes that decode images of large data sets", type=WORKERS, default=1)


@dataclass(frozen=True, kw_only=True)
class DiffInstructFlags(Flags):
    """What Diff-Instruct has besides."""

    sigma_init: float = flag("Noise level of the generator's input", type=POSITIVE, default=1.0, metavar="SIGMA")
    aux_lr: float     = flag("Learning rate of the denoiser of generated images", type=POSITIVE, default=1e-4)
