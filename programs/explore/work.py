"""What explore.py does."""

import json
import socket
from collections.abc import Sequence

import click

from dnnlib.files import check_writable
from programs.explore.flags import HOST, PORT, ComputationFlags, ExploreFlags
from sampling.names import Labels
from skip.explore.compare import Comparer
from skip.explore.live import STYLE, build, gradio_module
from skip.explore.sheets import GRIDS, Grid, write_page
from skip.explore.state import State
from torch_utils import distributed


def main(asked: ExploreFlags, compute: ComputationFlags) -> None:
    """What `explore.py` does."""
    if asked.page is not None:
        _check_page(asked)
    device = compute.device.init()
    comparer = Comparer(device)
    if asked.page is not None:
        size = write_page(asked.page, comparer, _grids(asked.network, comparer))
        click.echo(json.dumps({"page": asked.page, "bytes": size}))
        distributed.shutdown()
        return

    gradio = gradio_module()
    network = asked.network or "demo"
    classes = comparer.classes(network)
    first = State(network=network, labels=_labels(classes))
    host, port = asked.host or HOST, PORT if asked.port is None else asked.port
    check_free(host, port)
    page = build(comparer, first, classes)
    local = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    theme = gradio.themes.Default(font=local[0], font_mono=local[1])  # fonts from this machine
    page.queue(default_concurrency_limit=1).launch(
        server_name=host,
        server_port=port or None,
        theme=theme,
        css=STYLE,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    click.echo(f"Skip-Tuning of {network} on {device}: {page.local_url} (Ctrl-C ends it)")
    page.block_thread()


def _check_page(asked: ExploreFlags) -> None:
    """Refuse a page that cannot be written, and what only a server needs."""
    assert asked.page is not None
    for name, value in (("--host", asked.host), ("--port", asked.port)):
        if value is not None:
            raise ValueError(f"{name}={value} does nothing with --page, which serves nothing")
    check_writable(asked.page, "--page", ".html", ".htm")


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
