"""The flags that explore.py alone has."""

from dataclasses import dataclass

import click

from dnnlib.completion import names
from dnnlib.flags import Flags, flag
from skip.flags import DeviceFlags
from training.names import networks

# fmt: off


@dataclass(frozen=True, kw_only=True)
class ExploreFlags(Flags, heading="Page"):
    """What is explored, and where the page is."""

    network: str | None = flag("Name (python -m training.checkpoint list), path or URL  [default: demo; of --page, demo and demo-color]", metavar="NAME|PATH|URL", shell_complete=names(networks))
    host: str           = flag("Address to serve at; 0.0.0.0 lets others in", default="127.0.0.1", metavar="ADDRESS")
    port: int           = flag("Port to serve at; 0 takes a free one", type=click.IntRange(0, 65535), default=7860, metavar="INT")
    page: str | None    = flag("Serve nothing: write a page of images made before, to open as a file", metavar="HTML")


@dataclass(frozen=True, kw_only=True)
class ComputationFlags(Flags, heading="Computation"):
    """Where the images are made."""

    device: DeviceFlags
