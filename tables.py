"""Regenerate the paper's tables and figures: list, run, show."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import Group
from dnnlib.files import atomic_write, check_writable
from dnnlib.flags import COUNT, Finite, Flags, Program, add_flags, flag
from dnnlib.names import MOST_ZOOM
from dnnlib.places import INSTALLED, ROOT
from dnnlib.seeds import parse_seeds
from dnnlib.sinks.mirror import Mirror
from dnnlib.sinks.sink import Subject
from metrics.detector import DEFAULT
from metrics.measure import QUANTITIES
from metrics.references import detector_of
from skip.flags import ComputeFlags, SamplingFlags, SinkFlags
from skip.methods.table import parse_ranges, written
from skip.options import image_source, warn_beyond
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
from skip.tables.spec import item_names, load_item
from torch_utils import distributed
from torch_utils.precision import Kind, computed_in, every_kind

# fmt: off


# What is run by its name: calibrations, and what is not in the paper.
NOT_OF_THE_PAPER = ("calibrate", "edm2", "guidance", "rivals")


@dataclass(frozen=True, kw_only=True)
class CellFlags(Flags, heading="Cells"):
    """Which cells, with which network, and where their results are."""

    profile: str        = flag("A name in configs/profiles.toml: demo, or the paper's networks and 50,000 images", default="demo", metavar="NAME")
    cells: str | None   = flag("Only these: numbers from list, as 0,3-5, or settings, as nfe=9,rho=0.8", metavar="LIST")
    seeds: str | None   = flag("Of every cell, instead of its own", metavar="LIST")
    num: int | None     = flag("Of every cell: the seeds 0 to NUM - 1", type=click.IntRange(min=2), metavar="INT")
    results: str | None = flag("Folder of results  [default: results, beside tables.py]", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class DryRunFlags(Flags, heading="Computation"):
    """Whether `run` runs at all."""

    dry_run: bool = flag("Only say what would run, its evaluations and downloads", default=False)
    sinks: SinkFlags


@dataclass(frozen=True, kw_only=True)
class ShowFlags(Flags, heading="Output"):
    """What `show` shows, and how."""

    all: bool            = flag("Every item", default=False)
    format: str          = flag("Of the tables", type=click.Choice(list(render.FORMATS)), default="markdown")
    outdir: str | None   = flag("Write it here instead of to stdout, as index.html, results.md, results.csv or results.json", old=["--out"], metavar="DIR")
    pictures: str | None = flag("Also draw here: plots as PNG and SVG, sheets of images as PNG; needs the extra `tables`", metavar="DIR")
    zoom: int | None     = flag("Enlarge sheets of images by this whole factor  [default: small ones until a row fills the page]", type=click.IntRange(1, MOST_ZOOM), metavar="INT")


@dataclass(frozen=True, kw_only=True)
class SearchFlags(Flags, heading="Search"):
    """The search of `tune`."""

    outdir: str             = flag("Folder for scale.json, tune.json, curve.png and what was measured", old=["--out"], required=True, metavar="DIR")
    metric: str             = flag("What is to be best", type=click.Choice(list(QUANTITIES)), default="fid")
    bottom: str | None      = flag("Range of rho of the deepest decoder layer  [default: 0.6,1; with --skip-method it stays 1]", metavar="LOW,HIGH")
    top: str | None         = flag("Then also search what rho approaches towards the last layer, in this range  [default: it stays 1]", metavar="LOW,HIGH")
    method: str | None      = flag("Then also search these parameters of other methods, one after the other, as freeu2:b1=1..1.3,s1=0.7..1", name="--skip-method", metavar="TEXT")
    time: bool              = flag("Then also compare rho constant, increasing and decreasing with the noise level", default=False)
    points: int             = flag("Of the range", type=click.IntRange(min=3), default=7, metavar="INT")
    num: int                = flag("Images of each point in the first round; several times the features of the detector", type=click.IntRange(min=20), default=500, metavar="INT")
    budget: int             = flag("Images in all, of each of the ranges and --time", type=COUNT, default=6000, metavar="INT")
    precision: float | None = flag("Stop when rho is known this well", type=Finite(min=0, min_open=True), metavar="FLOAT")


@dataclass(frozen=True, kw_only=True)
class SearchMetricFlags(Flags, heading="Metric"):
    """What `tune` measures with, and where its results are."""

    detector: str | None   = flag(f"Feature network: a name in configs/detectors.toml, path or URL  [default: the one that --ref was made with, else {DEFAULT}]", metavar="NAME|PATH|URL")
    ref: str               = flag("Statistics of the real images, made by fid.py ref or published with EDM or EDM2", old=["--reference"], required=True, metavar="NPZ|PKL|URL")
    ref_images: str | None = flag("The real images themselves, for metrics that compare with them", old=["--data"], metavar="DIR|ZIP|NPZ")
    results: str | None    = flag("Folder of results  [default: in --outdir]", metavar="DIR")


# fmt: on


@click.group(cls=Group)
def main() -> None:
    """Regenerate the tables and figures of the Skip-Tuning paper.

    \b
    # What there is, what is done, and what it costs
    python tables.py list

    \b
    # A table of the bundled network, whose results are here, beside the paper's values; and measured anew
    python tables.py show table2
    python tables.py run table2 --results out/mine
    python tables.py show table2 --results out/mine

    \b
    # All of it as one page to open in a browser: out/report/index.html
    python tables.py show --all --format html --outdir out/report

    \b
    # With the published network and 50,000 images, on every GPU of this machine (the -- keeps torchrun from --num)
    torchrun --standalone --nproc_per_node=gpu -- tables.py run table2 --profile paper

    \b
    # The best rho of a network and a sampler; then images with it
    python tables.py tune --detector demo --ref assets/demo/reference.npz --sampler unipc --steps 9 --outdir out/tune
    python generate.py --sampler unipc --steps 9 --rho-layers out/tune/scale.json --outdir out/tuned
    """


@main.command("list", cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, metavar="[ITEM]...")
@add_flags(CellFlags)
def list_items(asked: CellFlags, names: tuple[str, ...]) -> None:
    """Items, how many cells are done, and what the rest costs; with ITEM names, each cell."""
    results = _results(asked.results, every_kind())
    for item in _items(names or item_names(), asked):
        measured = MeasuredItem.read(item, results)
        click.echo(plan.summary(measured))
        if names:
            for line in plan.lines(measured):
                click.echo(line)


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, required=True, metavar="ITEM...")
@add_flags(CellFlags, DryRunFlags, ComputeFlags)
def run(
    asked: CellFlags, trial: DryRunFlags, compute: ComputeFlags, names: tuple[str, ...]
) -> None:
    """Measure the cells of ITEM... that are not done; killed and started again, it goes on."""
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
    whole = _items(named, replace(asked, cells=None))  # cells keep their numbers
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


@main.command(cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, metavar="[ITEM]...")
@add_flags(CellFlags, ShowFlags)
def show(asked: CellFlags, output: ShowFlags, names: tuple[str, ...]) -> None:
    """Lay what was measured beside what the paper states."""
    if bool(names) == output.all:
        raise ValueError("name the items to show, or give --all")
    items = _items(names or paper_items(), asked)
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

    path = Path(output.outdir) / render.FILES[output.format]
    with atomic_write(path) as file:
        file.write(text.encode())
    click.echo(json.dumps({"report": str(path)}))


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(SearchFlags, SearchMetricFlags, SamplingFlags, ComputeFlags)
def tune(
    wanted: SearchFlags, metric: SearchMetricFlags, sampling: SamplingFlags, compute: ComputeFlags
) -> None:
    """Find the best rho with few images; killed and started again, it goes on.

    A grid of rho with few images of common seeds each, then twice the images for those that are not clearly worse, and
    so on; at last the vertex of a parabola, with its error. generate.py and fid.py take scale.json as --rho-layers.
    """
    asked = _search_settings(wanted)
    warn_beyond([*(asked.bottom or ()), *(asked.top or ())])
    source = image_source(sampling)
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
    """The paper's items; calibrations, and what is not in the paper, are run by name."""
    return [name for name in item_names() if not name.startswith(NOT_OF_THE_PAPER)]


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


if __name__ == "__main__":
    main()
