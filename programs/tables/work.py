"""What tables.py does."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dnnlib.files import atomic_write, check_writable
from dnnlib.places import INSTALLED, ROOT
from dnnlib.seeds import parse_seeds
from dnnlib.sinks.mirror import Mirror
from dnnlib.sinks.sink import Subject
from metrics.measure import metric_of
from metrics.names import NEED_REAL_IMAGES
from metrics.references import detector_of
from programs.tables.flags import CellFlags, DryRunFlags, SearchFlags, SearchMetricFlags, ShowFlags
from skip.flags import ComputeFlags, SamplingFlags
from skip.methods.table import parse_ranges, written
from skip.options import check_reference, image_source, warn_beyond
from skip.search.plot import draw
from skip.search.report import told
from skip.search.run import Search, SearchSettings, baseline_cell
from skip.tables import plan
from skip.tables.cells.generated import load_statistics
from skip.tables.entries import UNIT, entries
from skip.tables.item import Item
from skip.tables.measured import MeasuredItem
from skip.tables.results import Results
from skip.tables.runner import check
from skip.tables.runner import run as run_cells
from skip.tables.show import render
from skip.tables.show.names import FILES
from skip.tables.spec import item_names, load_item
from torch_utils import distributed
from torch_utils.precision import Kind, computed_in, every_kind

# What is run by its name only: calibrations, and what the paper did not try.
BY_NAME = ("calibrate", "edm2", "guidance", "rivals")


def list_items(asked: CellFlags, names: tuple[str, ...]) -> None:
    """What `tables.py list` does."""
    results = _results(asked.results, every_kind())
    for item in _items(names or item_names(), asked):
        measured = MeasuredItem.read(item, results)
        click.echo(plan.summary(measured))
        if names:
            for line in plan.lines(measured):
                click.echo(line)


def run(
    asked: CellFlags, trial: DryRunFlags, compute: ComputeFlags, names: tuple[str, ...]
) -> None:
    """What `tables.py run` does."""
    named = paper_items() if names == ("all",) else names
    items = _items(named, asked)
    sinks = trial.sinks.targets()
    cells = [cell for item in items for cell in item.cells]
    device = compute.place.device.init()
    results = _results(asked.results, [computed_in(device)], new=True)
    if not results.folder.is_dir():
        check_writable(results.folder, "--results", folder=True)
    measured = [MeasuredItem.read(item, results) for item in items]
    if plan.to_measure(measured):
        check_writable(results.folder, "--results", folder=True)

    if trial.dry_run:
        for line in plan.dry_run(measured):
            click.echo(line)
        check(cells, results)
        plan.refuse_missing(measured)
        return

    if distributed.rank() == 0:
        for line in plan.nothing_to_do(measured, results.folder):
            click.echo(line, err=True)
    check(cells, results)
    told = {"profile": asked.profile, "items": " ".join(names)}
    subject = Subject(results.folder, UNIT, told, ordered=False)
    wanted = sinks if distributed.rank() == 0 else []
    whole = _items(named, replace(asked, cells=None)) if wanted else []  # cells keep their numbers
    with Mirror(wanted, subject, lambda: entries(whole, results)) as mirror:
        mirror.update()
        made = run_cells(
            cells,
            results,
            device,
            compute.batch,
            compile=compute.place.compile,
            on_result=mirror.update,
        )
    if distributed.rank() == 0:
        click.echo(f'{{"measured": {made}, "results": "{results.folder}"}}')
    distributed.shutdown()


def show(asked: CellFlags, output: ShowFlags, names: tuple[str, ...]) -> None:
    """What `tables.py show` does."""
    if bool(names) == output.all:
        raise ValueError("name the items to show, or give --all")
    items = _items(names or shown_items(asked.profile), asked)
    pictures = Path(output.pictures) if output.pictures else None
    if output.zoom is not None and pictures is None and output.format != "html":
        raise ValueError(
            f"--zoom={output.zoom} enlarges pictures, and none are drawn; add --pictures"
        )
    if pictures is not None:
        check_writable(pictures, "--pictures", folder=True)
    if output.outdir is not None:
        check_writable(Path(output.outdir), "--outdir", folder=True)

    results = _results(asked.results, every_kind())
    measured = [MeasuredItem.read(item, results, seed_ranges=True) for item in items]
    text = render.FORMATS[output.format](measured, pictures, output.zoom)
    if output.outdir is None:
        click.echo(text, nl=False)
        return

    path = Path(output.outdir) / FILES[output.format]
    with atomic_write(path) as file:
        file.write(text.encode())
    click.echo(json.dumps({"report": str(path)}))


def tune(
    wanted: SearchFlags, metric: SearchMetricFlags, sampling: SamplingFlags, compute: ComputeFlags
) -> None:
    """What `tables.py tune` does."""
    asked = _search_settings(wanted)
    warn_beyond([*(asked.bottom or ()), *(asked.top or ())])
    check_reference(metric.ref)
    source = image_source(sampling)
    if metric.ref_images is None and metric_of(wanted.metric).name in NEED_REAL_IMAGES:
        raise ValueError(
            f"{wanted.metric} compares images with images: give the real ones as --ref-images"
        )
    detector = metric.detector or detector_of(load_statistics(metric.ref), None)
    baseline = baseline_cell(source, wanted.metric, detector, metric.ref, metric.ref_images)

    device, folder = compute.place.device.init(), Path(wanted.outdir)
    kept = folder / "results" if metric.results is None else Path(metric.results)
    results = Results(kept, [computed_in(device)])
    check_writable(folder, "--outdir", folder=True)
    check_writable(results.folder, "--results", folder=True)

    search = Search(
        baseline, wanted.metric, folder, results, device, compute.batch, compute.place.compile
    )
    summary = search.run(asked)
    if distributed.rank() == 0:
        _tell(search, summary)
    distributed.shutdown()


def _search_settings(flags: SearchFlags) -> SearchSettings:
    """What the flags of `tune` ask for."""
    start, ranges = parse_ranges(flags.method or "")
    bottom = flags.bottom or (None if ranges else "0.6,1")
    return SearchSettings(
        bottom=_range("--bottom", bottom) if bottom else None,
        top=_range("--top", flags.top) if flags.top else None,
        methods=ranges,
        skip_method=written(start) or None,
        time=flags.time,
        points=flags.points,
        images=flags.num,
        budget=flags.budget,
        precision=flags.precision,
    )


def _tell(search: Search, summary: dict[str, Any]) -> None:
    """Draw the curve, if pictures can be drawn here, and say what was found."""
    try:
        draw(search, search.folder / "curve.png")
    except RuntimeError as error:
        click.echo(f"no curve.png: {error}", err=True)
    for line in told(summary):
        click.echo(line, err=True)
    click.echo(json.dumps(summary, indent=2))


def _results(named: str | None, kinds: Sequence[Kind], new: bool = False) -> Results:
    """Those in the folder that was named or, from wherever this is run, in the one beside this file.

    What an installed package brings is there to be shown; its own results go into the current folder.
    """
    here = Path("results")
    if named is not None:
        return Results(Path(named), kinds)
    if INSTALLED and (new or here.is_dir()):
        return Results(here, kinds)
    return Results(here if Path.cwd() == ROOT else ROOT / "results", kinds)


def _range(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name}={text} is not LOW,HIGH, such as 0.6,1") from None
    return low, high


def paper_items() -> list[str]:
    """The paper's items, and controls of them; the others are run by name."""
    return [name for name in item_names() if not name.startswith(BY_NAME)]


def shown_items(profile: str) -> list[str]:
    """All items, those that are run by name last, and of these none that a profile cannot have."""
    paper = paper_items()
    others = [name for name in item_names() if name not in paper]
    return [*paper, *(name for name in others if load_item(name, profile).requires is None)]


def _items(names: Sequence[str], asked: CellFlags) -> list[Item]:
    if asked.num is not None and asked.seeds is not None:
        raise ValueError("--num and --seeds both choose the seeds; give one of them")
    seeds = asked.seeds if asked.num is None else f"0-{asked.num - 1}"
    if seeds is not None:
        parse_seeds(seeds)  # a bad list is the flag's fault, not the item's

    told = {"--num": asked.num, "--seeds": asked.seeds, "--cells": asked.cells}
    shown = "".join(f" {flag} {value}" for flag, value in told.items() if value is not None)
    items = [plan.select(load_item(name, asked.profile, seeds), asked.cells) for name in names]
    return [replace(item, flags=shown) for item in items]
