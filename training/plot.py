"""The curves of a training run as a picture: loss, and FID where it was measured; needs matplotlib (extra `plot`)."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dnnlib import plot_style
from dnnlib.cli import Command
from dnnlib.files import atomic_write, check_writable
from dnnlib.flags import Flags, add_flags, flag
from dnnlib.json_files import read_json_lines
from dnnlib.text import printable
from dnnlib.words import on_axis, written

FORMATS = (".png", ".pdf", ".svg")
Lines = list[dict[str, float]]


def curves(stats: Lines, metrics: Lines | None = None, of: str = "") -> Any:
    """Loss over images seen and, below it, FID with its standard errors.

    Args:
        stats: lines of stats.jsonl.
        metrics: lines of metrics.jsonl.
        of: the network or run, for the title.
    Returns:
        A matplotlib Figure.
    Raises:
        ValueError: if there are no lines, or one lacks what is drawn.
        RuntimeError: if matplotlib is not installed.
    """
    if not stats:
        raise ValueError("the run has no statistics yet; wait for its first tick")

    rows = 2 if metrics else 1
    note = plot_style.ERROR_BARS if metrics else ""
    figure = plot_style.new_figure(f"Training of {of}" if of else "Training", rows, note=note)
    loss = plot_style.add_panel(figure, (rows, 1, 1), on_axis("images_seen"), on_axis("loss"))
    seen = _column(stats, "images", 1000)
    plot_style.draw_curve(loss, seen, _column(stats, "loss"), None, plot_style.look(0))
    plot_style.log_scale(loss, "y")

    if metrics:
        names = [key for key in metrics[0] if key.startswith("fid") and "standard_error" not in key]
        name = names[0] if names else "fid"
        below = plot_style.add_panel(figure, (rows, 1, 2), on_axis("images_seen"), _in_words(name))
        errors = [line.get(name.replace("fid", "fid_standard_error", 1), 0.0) for line in metrics]
        measured, values = _column(metrics, "images", 1000), _column(metrics, name)
        plot_style.draw_curve(below, measured, values, errors, plot_style.look(0))
        plot_style.log_scale(below, "y")
        below.sharex(loss)
    plot_style.add_legend(figure, note)
    return figure


def _in_words(name: str) -> str:
    """A metric as metrics.jsonl has it: "fid-demo" -> "FID (detector demo)"."""
    metric, _, detector = name.partition("-")
    return f"{written(metric)} (detector {detector})" if detector else written(metric)


def _column(lines: Lines, name: str, unit: int = 1) -> list[float]:
    for number, line in enumerate(lines, 1):
        if name not in line:
            raise ValueError(
                f"line {number} has no {name!r}; these are no statistics of a training"
            )
    return [line[name] / unit for line in lines]


def _lines(stats: Path) -> Lines:
    """What a run's stats.jsonl says."""
    way_out = "name the stats.jsonl of a training run"
    if stats.is_dir():
        raise ValueError(f"{stats} is a folder; name the stats.jsonl in it")
    if not stats.exists():
        raise FileNotFoundError(f"there is no {stats}; {way_out}")
    return read_json_lines(stats, way_out)


@dataclass(frozen=True, kw_only=True)
class TitleFlags(Flags):
    """What the picture says of the run."""

    network: str | None = flag(
        "What was trained, for the title  [default: the run's folder]", name="--of", metavar="TEXT"
    )


@click.command(cls=Command)
@click.argument("stats", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
@add_flags(TitleFlags)
def main(title: TitleFlags, stats: Path, picture: Path) -> None:
    """Draw a run's curves into PICTURE, a png, pdf or svg as its suffix says.

    STATS is the run's stats.jsonl; a metrics.jsonl beside it is drawn too.

    \b
    Example:
      python -m training.plot runs/demo/stats.jsonl docs/images/demo-loss.png --of "network demo"
    """
    check_writable(picture, "PICTURE", *FORMATS)
    metrics = stats.with_name("metrics.jsonl")
    figure = curves(
        _lines(stats),
        read_json_lines(metrics) if metrics.exists() else None,
        printable(stats.absolute().parent.name if title.network is None else title.network),
    )
    with atomic_write(picture) as file:
        plot_style.write(figure, file, picture.suffix[1:].lower())
    click.echo(str(picture))


if __name__ == "__main__":
    main()
