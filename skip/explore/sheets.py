"""A page of images made before, over rho and evaluations: one file, which opens without a server."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dnnlib import colours
from dnnlib.files import atomic_write
from dnnlib.pictures import contact_sheet, data_url, encoded
from sampling.names import Labels
from skip.explore.compare import Comparer
from skip.explore.state import State

ASSETS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Grid:
    """What the page shows of a network.

    Attributes:
        network, title: its name, and what people call it.
        evaluations: of UniPC, each a choice.
        rhos: of the deepest layer, along the slider.
        seeds: of the images.
        labels: "balanced" (seed modulo classes) or, of a network without classes, "random".
    """

    network: str
    title: str
    evaluations: tuple[int, ...] = (5, 9, 19)
    rhos: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
    seeds: str = "0-15"
    labels: Labels = "balanced"


GRIDS = (
    Grid("demo", "clothes (Fashion-MNIST)"),
    Grid("demo-color", "emoji (in colour)", labels="random"),
)


def write_page(path: str, comparer: Comparer, grids: Sequence[Grid] = GRIDS) -> int:
    """Make the images and write the page.

    Args:
        path: of the file.
        comparer: makes the images.
        grids: what is shown.
    Returns:
        Bytes written.
    Raises:
        FileNotFoundError, ValueError, RuntimeError: as `ImageSource.load`.
        OSError: if the file cannot be written.
    """
    number = sum(len(grid.evaluations) * len(grid.rhos) for grid in grids)
    with tqdm(total=number, unit="sheet") as bar:
        data = [_sheets(grid, comparer, bar) for grid in grids]

    text = _page(data, f"python explore.py --page {Path(path).name}")
    with atomic_write(path) as file:
        file.write(text.encode())
    return os.path.getsize(path)


def _sheets(grid: Grid, comparer: Comparer, bar: Any) -> dict[str, Any]:
    """A grid as JSON: a picture for each number of evaluations and each rho."""
    pictures: dict[str, dict[str, str]] = {}
    for steps in grid.evaluations:
        pictures[str(steps)] = {}
        for rho in grid.rhos:
            state = State(
                grid.network,
                rho,
                sampler="unipc",
                steps=steps,
                seeds=grid.seeds,
                labels=grid.labels,
            )
            images, _ = comparer.tuned(state)
            # As small as they are: the browser enlarges them.
            sheet = contact_sheet(list(images), state.columns, zoom=1, gap=1)
            pictures[str(steps)][f"{rho:g}"] = data_url(encoded(sheet))
            bar.update()
    return {
        "network": grid.network,
        "title": grid.title,
        "evaluations": list(grid.evaluations),
        "rhos": [f"{rho:g}" for rho in sorted(grid.rhos)],
        "images": len(State(seeds=grid.seeds).parsed_seeds),
        "pictures": pictures,
    }


def _page(data: Sequence[dict[str, Any]], command: str) -> str:
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    text = (ASSETS / "sheets.html").read_text(encoding="utf-8")
    text = text.replace("COLOURS", colours.style_sheet())
    return text.replace("COMMAND", escape(command)).replace("DATA", embedded)
