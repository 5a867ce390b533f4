"""The curve that a search saw, drawn; needs matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.files import atomic_write
from dnnlib.pictures import matplotlib_module
from skip.evidence.estimate import Estimate, as_text, difference
from skip.search.report import called
from skip.search.search import Round
from skip.tables.show.plots import CurvePoint, Curves, draw_curves


def plot_search(stages: dict[str, list[Round]], metric: str, path: Path) -> None:
    """Draw the metric over rho as PNG: one panel for each coefficient that was searched, one curve for each round.

    Curves are differences from the point nearest to the result, with paired error bars; the line is the parabola
    through the last round, the grey band the middle 68% of its vertex.

    Args:
        stages: what was searched -> its rounds.
        metric: its name.
        path: of the PNG; equal rounds make equal files.
    Raises:
        RuntimeError: if matplotlib is not installed.
    """
    figure = matplotlib_module("matplotlib.figure").Figure(
        figsize=(1 + 6 * len(stages), 4.2), layout="constrained"
    )
    for number, (name, rounds) in enumerate(stages.items()):
        _draw_stage(figure.add_subplot(1, len(stages), number + 1), called(name), rounds, metric)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _draw_stage(axes: Any, rho: str, rounds: list[Round], metric: str) -> None:
    """One panel: the rounds over one coefficient, called `rho`."""
    last = rounds[-1]
    at = min(last.rhos, key=lambda value: abs(value - last.best.rho))
    found = as_text(Estimate.plain(last.best.rho, last.best.error)).replace("+-", "±")
    axes.set(
        xlabel=rho, ylabel=f"{metric}, difference from {rho} {at:g}", title=f"best {rho}: {found}"
    )

    axes.axvspan(last.best.low, last.best.high, color="0.85", zorder=0)
    axes.axvline(last.best.rho, color="0.5", linewidth=0.8, zorder=0)
    draw_curves(axes, _curves(rounds, at))

    middle = last.estimates[last.rhos.index(at)].value
    parabola = np.polyfit(last.rhos, [estimate.value - middle for estimate in last.estimates], 2)
    x = np.linspace(last.rhos[0], last.rhos[-1], 100)
    axes.plot(x, np.polyval(parabola, x), color="black", linewidth=1.0, label="parabola")
    axes.legend(frameon=False, fontsize="small")


def _curves(rounds: list[Round], at: float) -> Curves:
    """Differences from the point at, of each round that measured it."""
    curves: Curves = {}
    for one in rounds:
        if at in one.rhos:
            middle = one.estimates[one.rhos.index(at)]
            pairs = zip(one.rhos, one.estimates, strict=True)
            curves[f"{one.images} images"] = [
                CurvePoint(rho, difference(estimate, middle)) for rho, estimate in pairs
            ]
    return curves
