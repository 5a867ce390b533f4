"""The flags that generate.py alone has."""

from dataclasses import dataclass

import click

from dnnlib.flags import COUNT, Flags, flag
from dnnlib.names import FORMATS, MOST_ZOOM, ROW, SHEET
from skip.flags import PlaceFlags
from skip.names import BATCH, LEAST_BATCH, MOST_BATCH

# fmt: off


@dataclass(frozen=True, kw_only=True)
class ImageFlags(Flags, heading="Images"):
    """Which images, and where they go."""

    outdir: str      = flag("Where to save them", required=True, metavar="DIR")
    seeds: str       = flag("Random seeds, as 1,2,5-10", default="0-63", metavar="LIST")
    subdirs: bool    = flag("A folder for each 1000 seeds", default=False)
    format: str      = flag("PNG files, a data set images.zip, or images.npz", type=click.Choice(FORMATS), default="png")
    grid: str | None = flag(f"Also save a contact sheet of the first images, {SHEET}", metavar="COLSxROWS")
    zoom: int | None = flag(f"Enlarge the images of --grid by this whole factor  [default: small ones until a row has about {ROW} pixels]", type=click.IntRange(1, MOST_ZOOM), metavar="INT")
    overwrite: bool  = flag("Delete the images in --outdir if they were made with other settings", default=False)


@dataclass(frozen=True, kw_only=True)
class ComputeFlags(Flags, heading="Computation"):
    """How they are computed; none of it changes them but in their last digit."""

    batch: int | None = flag(f"Images at a time on each rank  [default: {BATCH}; on a GPU {LEAST_BATCH} to {MOST_BATCH}, by the network's resolution]", type=COUNT, metavar="INT")
    place: PlaceFlags
