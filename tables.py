"""Regenerate the paper's tables and figures: list, run, show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import one_line_errors
from dnnlib.flags import FlagGroups, Program, add_flags, flag
from skip.tables import plan, render
from skip.tables.results import Results
from skip.tables.runner import run as run_cells
from skip.tables.spec import Item, item_names, load_item
from torch_utils import distributed

CELLS: FlagGroups = {
    "Cells": [
        flag("--profile", "A name in configs/profiles.toml: demo, or the paper's networks and 50,000 images", default="demo", show_default=True, metavar="NAME"),
        flag("--cells", "Only these: numbers from list, as 0,3-5, or settings, as nfe=9,rho=0.8", metavar="LIST"),
        flag("--seeds", "Of every cell, instead of its own", metavar="LIST"),
        flag("--num", "Of every cell: the seeds 0 to NUM - 1", type=click.IntRange(min=2), metavar="INT"),
        flag("--results", "Folder of results", default="results", show_default=True, metavar="DIR"),
    ],
}  # fmt: skip
RUNNING: FlagGroups = {
    "Computation": [
        flag("--dry-run", "Only say what would run, its evaluations and downloads", is_flag=True),
        flag("--batch", "Images at a time on each rank", type=click.IntRange(min=1), default=64, show_default=True, metavar="INT"),
        flag("--device", "cpu, cuda, cuda:1  [default: cuda where there is one]", metavar="DEVICE"),
    ],
}  # fmt: skip
SHOWING: FlagGroups = {
    "Output": [
        flag("--all", "Every item", is_flag=True),
        flag("--format", "Of the tables", type=click.Choice(list(render.FORMATS)), default="markdown", show_default=True),
        flag("--pictures", "Also draw plots and sheets here, as PNG and SVG; needs the extra `plot`", metavar="DIR"),
    ],
}  # fmt: skip


@click.group()
def main() -> None:
    """Regenerate the tables and figures of the Skip-Tuning paper.

    \b
    # What there is, what is done, and what it costs
    python tables.py list

    \b
    # A table on the bundled network, then beside the paper's values
    python tables.py run table2
    python tables.py show table2

    \b
    # With the published network and 50,000 images, on every GPU of this machine (the -- keeps torchrun from --num)
    torchrun --standalone --nproc_per_node=gpu -- tables.py run table2 --profile paper
    """


@main.command("list", cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, metavar="[ITEM]...")
@add_flags(CELLS)
def list_items(names: tuple[str, ...], **flags: Any) -> None:
    """Items, how many cells are done, and what the rest costs; with ITEM names, each cell."""
    with one_line_errors():
        results = Results(Path(flags["results"]))
        for item in _items(names or item_names(), flags):
            click.echo(plan.summary(item, results))
            if names:
                for line in plan.lines(item, results):
                    click.echo(line)


@main.command(cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, required=True, metavar="ITEM...")
@add_flags(CELLS, RUNNING)
def run(names: tuple[str, ...], **flags: Any) -> None:
    """Measure the cells of ITEM... that are not done; killed and started again, it goes on."""
    with one_line_errors():
        items = _items(paper_items() if names == ("all",) else names, flags)
        results = Results(Path(flags["results"]))
        if flags["dry_run"]:
            for line in plan.dry_run(items, results):
                click.echo(line)
            return
        device = distributed.init(flags["device"])
        if distributed.rank() == 0:
            for item in items:
                if item.requires:
                    click.echo(f"{item.name} is left out: it needs {item.requires}", err=True)
        made = run_cells([cell for item in items for cell in item.cells], results, device, flags["batch"])
        if distributed.rank() == 0:
            click.echo(f'{{"measured": {made}, "results": "{results.folder}"}}')
        distributed.shutdown()


@main.command(cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, metavar="[ITEM]...")
@add_flags(CELLS, SHOWING)
def show(names: tuple[str, ...], **flags: Any) -> None:
    """Lay what was measured beside what the paper states."""
    with one_line_errors():
        if bool(names) == flags["all"]:
            raise ValueError("name the items to show, or give --all")
        items = _items(names or paper_items(), flags)
        pictures = Path(flags["pictures"]) if flags["pictures"] else None
        click.echo(render.FORMATS[flags["format"]](items, Results(Path(flags["results"])), pictures), nl=False)


def paper_items() -> list[str]:
    """The paper's items; calibrations are run by name."""
    return [name for name in item_names() if not name.startswith("calibrate")]


def _items(names: Any, flags: dict[str, Any]) -> list[Item]:
    if flags["num"] is not None and flags["seeds"] is not None:
        raise ValueError("--num and --seeds both choose the seeds; give one of them")
    seeds = f"0-{flags['num'] - 1}" if flags["num"] is not None else flags["seeds"]
    given = "".join(f" --{name} {flags[name]}" for name in ("num", "seeds", "cells") if flags[name] is not None)
    items = [plan.select(load_item(name, flags["profile"], seeds), flags["cells"]) for name in names]
    return [replace(item, flags=given) for item in items]


if __name__ == "__main__":
    main()
