"""The flags that explore.py alone has."""

from dataclasses import dataclass

import click

from dnnlib.completion import names
from dnnlib.flags import Flags, flag
from skip.flags import DeviceFlags
from training.names import networks

HOST, PORT = "127.0.0.1", 7860

# fmt: off


@dataclass(frozen=True, kw_only=True)
class ExploreFlags(Flags, heading="Page"):
    """What is explored, and where the page is."""

    network: str | None = flag("Name (python -m training.checkpoint list), path or URL  [default: demo; of --page, demo and demo-color]", metavar="NAME|PATH|URL", shell_complete=names(networks))
    host: str | None    = flag(f"Address to serve at; 0.0.0.0 lets others in  [default: {HOST}]", metavar="ADDRESS")
    port: int | None    = flag(f"Port to serve at; 0 takes a free one  [default: {PORT}]", type=click.IntRange(0, 65535), metavar="INT")
    page: str | None    = flag("Serve nothing: write a page of images made before, to open as a file", metavar="HTML")


@dataclass(frozen=True, kw_only=True)
class ComputationFlags(Flags, heading="Computation"):
    """Where the images are made."""

    device: DeviceFlags
