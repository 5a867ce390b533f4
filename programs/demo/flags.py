"""The flags that demo.py alone has."""

from dataclasses import dataclass

import click

from dnnlib.flags import Finite, Flags, flag
from dnnlib.names import MOST_ZOOM

PAIRS = 5

# fmt: off


@dataclass(frozen=True, kw_only=True)
class DemoFlags(Flags):
    """What can be chosen."""

    # fmt: off
    dest: str         = flag("Picture to write", old=["--out"], default="out/demo.png", metavar="PNG")
    steps: int        = flag("Steps of UniPC, one evaluation of the network each", type=click.IntRange(min=3), default=9)
    rho_bottom: float = flag("Skip coefficient of the deepest layer; 1 at the top", type=Finite(), default=0.7)
    num: int          = flag(f"Seeds from 0 on, of which the {PAIRS} that change most are shown", type=click.IntRange(PAIRS, 10_000), default=200, metavar="INT")
    zoom: int         = flag("Enlarge the images by this whole factor", type=click.IntRange(1, MOST_ZOOM), default=4, metavar="INT")
    rho: str | None   = flag("", hidden=True)
