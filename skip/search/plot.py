"""The curve that a search saw, drawn; needs matplotlib."""

from pathlib import Path

import numpy as np

from dnnlib.files import atomic_write
from dnnlib.pictures import matplotlib_module
from skip.evidence.estimate import Estimate, as_text, difference
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
    figure = matplotlib_module("matplotlib.figure").Figure(figsize=(1 + 6 * len(stages), 4.2), layout="constrained")
    for number, (name, rounds) in enumerate(stages.items()):
        last = rounds[-1]
        at = min(last.rhos, key=lambda rho: abs(rho - last.best.rho))
        found = as_text(Estimate.plain(last.best.rho, last.best.error)).replace("+-", "±")
        axes = figure.add_subplot(
            1, len(stages), number + 1, xlabel=f"rho_{name}", ylabel=f"{metric}, difference from rho_{name} {at:g}",
            title=f"best rho_{name}: {found}",
        )  # fmt: skip
        axes.axvspan(last.best.low, last.best.high, color="0.85", zorder=0)
        axes.axvline(last.best.rho, color="0.5", linewidth=0.8, zorder=0)
        draw_curves(axes, _curves(rounds, at))
        x = np.linspace(last.rhos[0], last.rhos[-1], 100)
        gaps = [estimate.value - last.estimates[last.rhos.index(at)].value for estimate in last.estimates]
        axes.plot(x, np.polyval(np.polyfit(last.rhos, gaps, 2), x), color="black", linewidth=1.0, label="parabola")
        axes.legend(frameon=False, fontsize="small")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _curves(rounds: list[Round], at: float) -> Curves:
    """Differences from the point at, of each round that measured it."""
    curves: Curves = {}
    for one in rounds:
        if at in one.rhos:
            middle = one.estimates[one.rhos.index(at)]
            pairs = zip(one.rhos, one.estimates, strict=True)
            curves[f"{one.images} images"] = [CurvePoint(rho, difference(estimate, middle)) for rho, estimate in pairs]
    return curves
