"""Skip-Tuning by sliders: images of a network, plain and tuned, in the browser."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import click

from dnnlib.cli import Command
from dnnlib.files import check_writable
from dnnlib.flags import Flags, add_flags, flag
from sampling.names import Labels
from skip.explore.compare import Comparer
from skip.explore.live import STYLE, build, gradio_module
from skip.explore.sheets import GRIDS, Grid, write_page
from skip.explore.state import State
from skip.flags import DeviceFlags
from torch_utils import distributed

# fmt: off


@dataclass(frozen=True, kw_only=True)
class ExploreFlags(Flags, heading="Page"):
    """What is explored, and where the page is."""

    network: str | None = flag("Name (python -m training.checkpoint list), path or URL  [default: demo; of --page, demo and demo-color]", metavar="NAME|PATH|URL")
    host: str           = flag("Address to serve at; 0.0.0.0 lets others in", default="127.0.0.1", metavar="ADDRESS")
    port: int           = flag("Port to serve at; 0 takes a free one", type=click.IntRange(0, 65535), default=7860, metavar="INT")
    page: str | None    = flag("Serve nothing: write a page of images made before, to open as a file", metavar="HTML")


@dataclass(frozen=True, kw_only=True)
class ComputationFlags(Flags, heading="Computation"):
    """Where the images are made."""

    device: DeviceFlags


# fmt: on


@click.command(cls=Command)
@add_flags(ExploreFlags, ComputationFlags)
def main(asked: ExploreFlags, compute: ComputationFlags) -> None:
    """Sliders for rho, steps, sampler, class and guidance: the same seeds, plain beside tuned, as you move them.

    The page shows the state as a command, as Python and as a link. It is served on this machine alone, and needs the
    package gradio, the extra `explore`.

    \b
    python explore.py
    python explore.py --network demo-color --port 0
    python explore.py --page out/explore.html
    """
    device = compute.device.init()
    comparer = Comparer(device)
    if asked.page is not None:
        check_writable(asked.page, "--page")
        size = write_page(asked.page, comparer, _grids(asked.network, comparer))
        click.echo(json.dumps({"page": asked.page, "bytes": size}))
        distributed.shutdown()
        return

    gradio = gradio_module()
    network = asked.network or "demo"
    classes = comparer.classes(network)
    first = State(network=network, labels=_labels(classes))
    check_free(asked.host, asked.port)
    page = build(comparer, first, classes)
    local = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    theme = gradio.themes.Default(font=local[0], font_mono=local[1])  # fonts from this machine
    page.queue(default_concurrency_limit=1).launch(
        server_name=asked.host,
        server_port=asked.port or None,
        theme=theme,
        css=STYLE,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    click.echo(f"Skip-Tuning of {network} on {device}: {page.local_url} (Ctrl-C ends it)")
    page.block_thread()


def _grids(network: str | None, comparer: Comparer) -> Sequence[Grid]:
    """What a page of images shows: of one network, or of the bundled ones."""
    if network is None:
        return GRIDS
    return [Grid(network, network, labels=_labels(comparer.classes(network)))]


def _labels(classes: int) -> Labels:
    """How a network of so many classes is asked for them."""
    return "balanced" if classes else "random"


def check_free(host: str, port: int) -> None:
    """Refuse an address that cannot be served at, before gradio says so in many lines.

    Raises:
        ValueError: names it.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ValueError(
            f"cannot serve at --host={host} --port={port}: {error.strerror or error}; --port=0 takes a free one"
        ) from error


if __name__ == "__main__":
    main()
