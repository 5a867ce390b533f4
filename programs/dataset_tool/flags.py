"""The flags that dataset_tool.py alone has."""

import re
from dataclasses import dataclass
from typing import Literal

import click

from dnnlib.flags import COUNT, Flags, flag
from training.data.names import LABEL_SOURCES, SPLITS, TRANSFORMS

# fmt: off


class Size(click.ParamType):
    """WxH, W,H or one number for both, in pixels; gives (width, height)."""

    name = "WxH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse `value`; a usage error if it is no size."""
        match = re.fullmatch(r"(\d{1,5})(?:[x,](\d{1,5}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is no size; write it as 64x64", param, ctx)
        return int(match[1]), int(match[2] or match[1])


@dataclass(frozen=True, kw_only=True)
class ImportFlags(Flags):
    """What to read, what to do to it, and where it goes."""

    source: str                        = flag("What to read", required=True, metavar="PATH")
    dest: str                          = flag("*.zip or a folder to make", required=True, metavar="PATH")
    max_images: int | None             = flag("Only the first INT images", type=COUNT, metavar="INT")
    transform: str | None              = flag("Crop before resizing", type=click.Choice(list(TRANSFORMS)))
    resolution: tuple[int, int] | None = flag("Resize to this, e.g. 64x64", type=Size())
    pad: tuple[int, int] | None        = flag("Centre in a black frame, e.g. 32x32", type=Size())
    channels: Literal["1", "3"] | None = flag("Gray or RGB  [default: as first image]")
    labels: str                        = flag("Where from", type=click.Choice(LABEL_SOURCES), default="auto")
    split: str | None                  = flag("Of idx folders and CIFAR  [default: train]", type=click.Choice(SPLITS))
    characters: str | None             = flag("Of a font: what to draw, a list as Unicode's emoji-test.txt; its groups are the classes", metavar="PATH")
    overwrite: bool                    = flag("Replace an existing --dest", default=False)
