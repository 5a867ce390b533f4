"""The curves of a training run as a picture: loss, and FID where it was measured; needs matplotlib (extra `plot`)."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import Command, one_line_errors
from dnnlib.files import atomic_write, read_json_lines
from dnnlib.pictures import matplotlib_module

Lines = list[dict[str, float]]


def curves(stats: Lines, metrics: Lines | None = None) -> Any:
    """Loss over images seen and, below it, FID with its standard errors.

    Args:
        stats: lines of stats.jsonl.
        metrics: lines of metrics.jsonl.
    Returns:
        A matplotlib Figure.
    Raises:
        ValueError: if there are no lines.
        RuntimeError: if matplotlib is not installed.
    """
    if not stats:
        raise ValueError("the run has no statistics yet; wait for its first tick")
    figure = matplotlib_module("matplotlib.figure").Figure(figsize=(7, 7 if metrics else 4), layout="constrained")
    panels = figure.subplots(2 if metrics else 1, sharex=True, squeeze=False)[:, 0]
    panels[0].plot([x["images"] / 1000 for x in stats], [x["loss"] for x in stats], linewidth=1)
    panels[0].set_ylabel("loss")
    if metrics:
        name = next(key for key in metrics[0] if key.startswith("fid") and "standard_error" not in key)
        error = name.replace("fid", "fid_standard_error", 1)
        at, bars = [x["images"] / 1000 for x in metrics], [x.get(error, 0.0) for x in metrics]
        panels[1].errorbar(at, [x[name] for x in metrics], bars, marker="o", markersize=3, linewidth=1)
        panels[1].set_ylabel(f"{name}, +- standard error")
    panels[-1].set_xlabel("images seen (thousand)")
    for axes in panels:
        axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
    return figure


@click.command(cls=Command)
@click.argument("stats", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def main(stats: Path, picture: Path) -> None:
    """Draw a run's curves into PICTURE (png): STATS is its stats.jsonl; a metrics.jsonl beside it is drawn too.

    \b
    Example:
      python -m training.plot runs/demo/stats.jsonl docs/images/demo-loss.png
    """
    with one_line_errors():
        metrics = stats.with_name("metrics.jsonl")
        figure = curves(read_json_lines(stats), read_json_lines(metrics) if metrics.exists() else None)
        with atomic_write(picture) as file:
            figure.savefig(file, format="png", dpi=120)
        click.echo(str(picture))


if __name__ == "__main__":
    main()
