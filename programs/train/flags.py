"""The flags that train.py alone has."""

from dataclasses import dataclass
from typing import Any, Literal

import click

from dnnlib.completion import names
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
    NumberList,
    flag,
)
from dnnlib.names import MOST_ZOOM, ROW
from metrics.names import detectors
from skip.flags import DeviceFlags, SinkFlags
from training.names import networks

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
PRECONDITIONINGS = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond"}
DROPOUT = 0.13
REFERENCE = "assets/demo/reference.npz"
_FRACTION = Finite(0, 1)

# fmt: off


@dataclass(frozen=True, kw_only=True)
class RunFlags(Flags, heading="Run"):
    """The run."""

    outdir: str          = flag("Where the results go", required=True, metavar="DIR")
    data: str            = flag("Data set made by dataset_tool.py", required=True, metavar="ZIP|DIR")
    cond: bool           = flag("Train class-conditionally: the data set has labels", type=bool, default=False)
    duration: float      = flag("Length in million images", type=MIMG, default=200, metavar="MIMG")
    seed: int            = flag("Of weights, order, noise and dropout", type=SEED, default=0)
    transfer: str | None = flag("Begin with the weights of this network", metavar="NAME|PATH|URL", shell_complete=names(networks))
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
    dropout: float | None  = flag(f"Dropout probability, of EDM's networks; ldm and uvit have none  [default: {DROPOUT}]", type=_FRACTION, metavar="FLOAT")


@dataclass(frozen=True, kw_only=True)
class OptimisationFlags(Flags, heading="Optimisation"):
    """The steps."""

    batch: int            = flag("Images a step, over all ranks", type=COUNT, default=512, metavar="INT")
    batch_gpu: int | None = flag("Most images a rank holds at once; the rest accumulates", type=COUNT, metavar="INT")
    lr: float             = flag("Learning rate", type=POSITIVE, default=1e-3, metavar="FLOAT")
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
    ls: float                             = flag("Loss scaling, for --fp16", type=POSITIVE, default=1, metavar="FLOAT")
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
    ref: str | None      = flag(f"FID's reference statistics, for --fid-num  [default: {REFERENCE}]", old=["--fid-ref"], metavar="NPZ|PKL|URL")
    autoencoder: str | None = flag("What decodes latents for pictures and FID  [default: the one that --data names]", metavar="PATH|URL")
    detector: str | None = flag("FID's detector, for --fid-num  [default: the one that --ref was made with]", old=["--fid-detector"], metavar="NAME|PATH|URL", shell_complete=names(detectors))
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(Flags):
    """All flags of train.py."""

    run: RunFlags
    network: NetworkFlags
    optimisation: OptimisationFlags
    compute: ComputeFlags
    reports: ReportFlags
