"""The flags that autoencoder.py alone has."""

from dataclasses import dataclass

from dnnlib.flags import (
    COUNT,
    MIMG,
    MIMG_OR_0,
    POSITIVE,
    SEED,
    WORKERS,
    Finite,
    Flags,
    IntList,
    flag,
)
from skip.flags import DeviceFlags, SinkFlags

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
