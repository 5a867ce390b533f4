"""The flags that tables.py alone has."""

from dataclasses import dataclass

import click

from dnnlib.completion import names
from dnnlib.flags import COUNT, POSITIVE, Flags, flag
from dnnlib.names import MOST_ZOOM
from metrics.names import DEFAULT, QUANTITIES, detectors
from skip.flags import SinkFlags
from skip.methods.names import METHODS
from skip.tables.names import profiles
from skip.tables.show.names import FORMATS

# fmt: off


@dataclass(frozen=True, kw_only=True)
class CellFlags(Flags, heading="Cells"):
    """Which cells, with which network, and where their results are."""

    profile: str        = flag("A name in configs/profiles.toml: demo, or the paper's networks and 50,000 images", default="demo", metavar="NAME", shell_complete=names(profiles))
    cells: str | None   = flag("Only these: numbers from list, as 0,3-5, or settings, as nfe=9,rho=0.8", metavar="LIST")
    seeds: str | None   = flag("Of every cell, instead of its own", metavar="LIST")
    num: int | None     = flag("Of every cell: the seeds 0 to NUM - 1", type=click.IntRange(min=2), metavar="INT")
    results: str | None = flag("Folder of results  [default: results, beside tables.py]", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class DryRunFlags(Flags, heading="Computation"):
    """Whether `run` runs at all."""

    dry_run: bool = flag("Only say what would run, its evaluations and downloads", default=False)
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class ShowFlags(Flags, heading="Output"):
    """What `show` shows, and how."""

    all: bool            = flag("Every item", default=False)
    format: str          = flag("Of the tables", type=click.Choice(list(FORMATS)), default="markdown")
    outdir: str | None   = flag("Write it here instead of to stdout, as index.html, results.md, results.csv or results.json", old=["--out"], metavar="DIR")
    pictures: str | None = flag("Also draw here: plots as PNG and SVG, sheets of images as PNG; needs the extra `tables`", metavar="DIR")
    zoom: int | None     = flag("Enlarge sheets of images by this whole factor  [default: small ones until a row fills the page]", type=click.IntRange(1, MOST_ZOOM), metavar="INT")


@dataclass(frozen=True, kw_only=True)
class SearchFlags(Flags, heading="Search"):
    """The search of `tune`."""

    outdir: str             = flag("Folder for scale.json, tune.json, curve.png and what was measured", old=["--out"], required=True, metavar="DIR")
    metric: str             = flag("What is to be best", type=click.Choice([name for name, one in QUANTITIES.items() if one.judges]), default="fid")
    bottom: str | None      = flag("Range of rho of the deepest decoder layer  [default: 0.6,1; with --skip-method it stays 1]", metavar="LOW,HIGH")
    top: str | None         = flag("Then also search what rho approaches towards the last layer, in this range  [default: it stays 1]", metavar="LOW,HIGH")
    method: str | None      = flag("Then also search these parameters of other methods, one after the other, as freeu2:b1=1..1.3,s1=0.7..1", name="--skip-method", metavar="TEXT", shell_complete=names(METHODS.keys))
    time: bool              = flag("Then also compare rho constant, increasing and decreasing with the noise level", default=False)
    points: int             = flag("Of the range", type=click.IntRange(min=3), default=7, metavar="INT")
    num: int                = flag("Images of each point in the first round; several times the features of the detector", type=click.IntRange(min=20), default=500, metavar="INT")
    budget: int             = flag("Images in all, of each of the ranges and --time", type=COUNT, default=6000, metavar="INT")
    precision: float | None = flag("Stop when rho is known this well", type=POSITIVE, metavar="FLOAT")


@dataclass(frozen=True, kw_only=True)
class SearchMetricFlags(Flags, heading="Metric"):
    """What `tune` measures with, and where its results are."""

    detector: str | None   = flag(f"Feature network: a name in configs/detectors.toml, path or URL  [default: the one that --ref was made with, else {DEFAULT}]", metavar="NAME|PATH|URL", shell_complete=names(detectors))
    ref: str               = flag("Statistics of the real images, made by fid.py ref or published with EDM or EDM2", old=["--reference"], required=True, metavar="NPZ|PKL|URL")
    ref_images: str | None = flag("The real images themselves, for metrics that compare with them", old=["--data"], metavar="DIR|ZIP|NPZ")
    results: str | None    = flag("Folder of results  [default: in --outdir]", metavar="DIR")
