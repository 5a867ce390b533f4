"""The flags that fid.py alone has."""

from dataclasses import dataclass

import click

from dnnlib.completion import names
from dnnlib.flags import COUNT, SEED, Flags, flag
from metrics.names import DEFAULT, DETECTOR_DTYPES, METRICS, NEED_REAL_IMAGES, detectors
from skip.flags import COMPILE, DeviceFlags

DETECTOR = "Feature network: a name that `fid.py detectors` lists, path or URL"

# fmt: off


@dataclass(frozen=True, kw_only=True)
class ReferenceFlags(Flags, heading="Images"):
    """The real images of `ref`, and where their statistics go."""

    data: str       = flag("Real images", required=True, metavar="DIR|ZIP|NPZ|NPY")
    dest: str       = flag("Where the statistics go", required=True, metavar="NPZ")
    spatial: bool   = flag("With mu_s and sigma_s, which sfid needs", default=False)
    overwrite: bool = flag("Replace the file that is there", default=False)


@dataclass(frozen=True, kw_only=True)
class StoredFlags(Flags, heading="Images"):
    """The images of `calc`."""

    images: str = flag("Generated images", required=True, metavar="DIR|ZIP|NPZ|NPY")
    num: int    = flag("Use this many, a random subset if there are more", type=click.IntRange(min=2), default=50000, metavar="INT")
    seed: int   = flag("Of that subset", type=SEED, default=0, metavar="INT")


@dataclass(frozen=True, kw_only=True)
class SeedFlags(Flags, heading="Images"):
    """The images of `gen`."""

    seeds: tuple[str, ...] = flag("Random seeds; given several times, the spread is reported too", default=("0-49999",), metavar="LIST")


@dataclass(frozen=True, kw_only=True)
class MetricFlags(Flags, heading="Metrics"):
    """What to measure, and against what."""

    metrics: str           = flag(f"Any of {', '.join(METRICS)}: all from one pass over the features", default="fid", metavar="LIST", shell_complete=names(METRICS.keys, listed=True))
    ref: str | None        = flag("Statistics of the real images, made by fid.py ref or by EDM, EDM2, ADM, pytorch-fid, clean-fid or torch-fidelity", metavar="NPZ|PKL|PT|URL")
    ref_images: str | None = flag(f"The real images themselves, which {', '.join(sorted(NEED_REAL_IMAGES))} need, or their features as clean-fid and torch-fidelity keep them; FID too, without --ref", metavar="DIR|ZIP|NPZ|NPY|PT")


@dataclass(frozen=True, kw_only=True)
class NewDetectorFlags(Flags, heading="Computation"):
    """The detector of `ref`."""

    detector: str = flag(DETECTOR, default=DEFAULT, metavar="NAME|PATH|URL", shell_complete=names(detectors))


@dataclass(frozen=True, kw_only=True)
class DetectorFlags(Flags, heading="Computation"):
    """The detector of `calc`."""

    detector: str | None = flag(f"{DETECTOR}  [default: the one that --ref was made with, else {DEFAULT}]", metavar="NAME|PATH|URL", shell_complete=names(detectors))


@dataclass(frozen=True, kw_only=True)
class NetworksFlags(DetectorFlags):
    """The detector of `gen`, and its other network."""

    compile: bool = flag(COMPILE, default=False)


@dataclass(frozen=True, kw_only=True)
class EvaluationFlags(Flags, heading="Computation"):
    """How features are computed."""

    detector_dtype: str  = flag("What it computes in; published numbers have float32", type=click.Choice(DETECTOR_DTYPES), default="float32")
    batch: int           = flag("Images at a time on each rank", type=COUNT, default=64, metavar="INT")
    device: DeviceFlags
    features: str | None = flag("Keep the features here, and use those that are here  [default: a temporary folder in the cache]", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class ListFlags(Flags):
    """How `detectors` answers."""

    json: bool = flag("All that is known of each, as JSON", default=False)
