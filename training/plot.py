"""The loss curve of a training run as a picture; needs the extra `plot` (matplotlib)."""

import json
from pathlib import Path

import click
from matplotlib.figure import Figure

from dnnlib.cli import one_line_errors
from dnnlib.files import atomic_write


def loss_curve(lines: list[dict[str, float]]) -> Figure:
    """Loss over images seen, from the lines of stats.jsonl.

    Raises:
        ValueError: if there are none.
    """
    if not lines:
        raise ValueError("the run has no statistics yet; wait for its first tick")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="images seen (thousand)",
        ylabel="EDM loss, mean over pixels",
        yscale="log",
    )
    axes.plot([x["images"] / 1000 for x in lines], [x["loss"] for x in lines], linewidth=1)
    axes.grid(alpha=0.3, which="both")
    return figure


@click.command()
@click.argument("stats", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def main(stats: Path, picture: Path) -> None:
    """Draw the losses in STATS (a run's stats.jsonl) into PICTURE (png).

    \b
    Example:
      python -m training.plot runs/demo/stats.jsonl docs/images/demo-loss.png
    """
    with one_line_errors():
        figure = loss_curve([json.loads(line) for line in stats.read_text().splitlines()])
        with atomic_write(picture) as file:
            figure.savefig(file, format="png", dpi=120)
        click.echo(str(picture))


if __name__ == "__main__":
    main()
