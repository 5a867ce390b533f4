"""The curves of a training run as a picture: loss, and FID where it was measured; needs matplotlib (extra `plot`)."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import Command
from dnnlib.files import atomic_write, check_writable
from dnnlib.json_files import read_json_lines
from dnnlib.pictures import matplotlib_module

FORMATS = ("png", "pdf", "svg")
Lines = list[dict[str, float]]


def curves(stats: Lines, metrics: Lines | None = None) -> Any:
    """Loss over images seen and, below it, FID with its standard errors.

    Args:
        stats: lines of stats.jsonl.
        metrics: lines of metrics.jsonl.
    Returns:
        A matplotlib Figure.
    Raises:
        ValueError: if there are no lines, or one lacks what is drawn.
        RuntimeError: if matplotlib is not installed.
    """
    if not stats:
        raise ValueError("the run has no statistics yet; wait for its first tick")

    figure = matplotlib_module("matplotlib.figure").Figure(
        figsize=(7, 7 if metrics else 4), layout="constrained"
    )
    panels = figure.subplots(2 if metrics else 1, sharex=True, squeeze=False)[:, 0]
    panels[0].plot(_column(stats, "images", 1000), _column(stats, "loss"), linewidth=1)
    panels[0].set_ylabel("loss")

    if metrics:
        names = [key for key in metrics[0] if key.startswith("fid") and "standard_error" not in key]
        name = names[0] if names else "fid"
        error = name.replace("fid", "fid_standard_error", 1)
        bars = [x.get(error, 0.0) for x in metrics]
        at = _column(metrics, "images", 1000)
        panels[1].errorbar(at, _column(metrics, name), bars, marker="o", markersize=3, linewidth=1)
        panels[1].set_ylabel(f"{name}, +- standard error")
    panels[-1].set_xlabel("images seen (thousand)")
    for axes in panels:
        axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
    return figure


def _column(lines: Lines, name: str, unit: int = 1) -> list[float]:
    for number, line in enumerate(lines, 1):
        if name not in line:
            raise ValueError(
                f"line {number} has no {name!r}; these are no statistics of a training"
            )
    return [line[name] / unit for line in lines]


@click.command(cls=Command)
@click.argument("stats", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def main(stats: Path, picture: Path) -> None:
    """Draw a run's curves into PICTURE, a png, pdf or svg as its suffix says.

    STATS is the run's stats.jsonl; a metrics.jsonl beside it is drawn too.

    \b
    Example:
      python -m training.plot runs/demo/stats.jsonl docs/images/demo-loss.png
    """
    kind = picture.suffix[1:].lower()
    if kind not in FORMATS:
        raise ValueError(
            f"{picture} has no suffix of a picture that can be drawn; choose {', '.join(FORMATS)}"
        )
    check_writable(picture, "PICTURE")
    metrics = stats.with_name("metrics.jsonl")
    figure = curves(read_json_lines(stats), read_json_lines(metrics) if metrics.exists() else None)
    with atomic_write(picture) as file:
        figure.savefig(file, format=kind, dpi=120)
    click.echo(str(picture))


if __name__ == "__main__":
    main()
