"""The curve that a search saw, drawn; needs matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np

from dnnlib import plot_style
from dnnlib.files import atomic_write
from dnnlib.words import written
from skip.evidence.estimate import Estimate, as_text, difference
from skip.search.report import called
from skip.search.run import Search
from skip.search.search import Round
from skip.tables.cells.words import values_of
from skip.tables.show.labels import in_words, label
from skip.tables.show.plots import CurvePoint, Curves, draw_curves

PARABOLA = "parabola through the last round"
NOTE = f"{plot_style.ERROR_BARS}, of differences of the same seeds. Gray: the middle 68% of the best value"


def draw(search: Search, path: Path) -> None:
    """Draw what a search saw; RuntimeError if matplotlib is not installed."""
    plain = search.baseline
    demo = plain.detector.startswith("demo")
    metric = label(f"{search.metric}-{plain.detector}" if demo else search.metric)
    settings = values_of(plain)
    of = {name: settings[name] for name in ("network", "sampler", "steps")}
    plot_search(search.stages, metric, path, in_words(of))


def plot_search(stages: dict[str, list[Round]], metric: str, path: Path, of: str = "") -> None:
    """Draw the metric over rho as PNG: one panel for each coefficient that was searched, one curve for each round.

    Curves are differences from the point nearest to the result, with paired error bars; the line is the parabola
    through the last round, the gray band the middle 68% of its vertex.

    Args:
        stages: what was searched -> its rounds.
        metric: its name in words.
        path: of the PNG; equal rounds make equal files.
        of: what was searched, such as "network demo, UniPC, 9 steps".
    Raises:
        RuntimeError: if matplotlib is not installed.
    """
    names = [name for rounds in stages.values() for name in _curves(rounds, _nearest(rounds))]
    title = f"Search for the best {metric}: {of}" if of else f"Search for the best {metric}"
    figure = plot_style.new_figure(title, 1, len(stages), [*dict.fromkeys(names), PARABOLA], NOTE)
    for number, (name, rounds) in enumerate(stages.items(), 1):
        _draw_stage(figure, (1, len(stages), number), _in_words(name), rounds, metric)
    plot_style.add_legend(figure, NOTE)
    with atomic_write(path) as file:
        plot_style.write(figure, file, "png")


def _in_words(stage: str) -> str:
    """A coefficient in words: "rho of the deepest layer", "b1 of freeu2"."""
    method, _, parameter = stage.rpartition(":")
    return f"{parameter} of {method}" if method else written(called(stage))


def _nearest(rounds: list[Round]) -> float:
    """The point of the last round that is nearest to the best."""
    last = rounds[-1]
    return min(last.rhos, key=lambda value: abs(value - last.best.rho))


def _draw_stage(
    figure: Any, place: tuple[int, int, int], rho: str, rounds: list[Round], metric: str
) -> None:
    """One panel: the rounds over one coefficient, called `rho`."""
    last, at = rounds[-1], _nearest(rounds)
    found = as_text(Estimate.plain(last.best.rho, last.best.error)).replace("+-", "±")
    axes = plot_style.add_panel(
        figure, place, rho, f"{metric}, difference from that at {at:g}", f"best: {found}"
    )

    axes.axvspan(last.best.low, last.best.high, color=plot_style.BAND, zorder=0)
    axes.axvline(last.best.rho, color=plot_style.RULE, linewidth=0.8, zorder=0)
    draw_curves(axes, _curves(rounds, at))

    middle = last.estimates[last.rhos.index(at)].value
    parabola = np.polyfit(last.rhos, [estimate.value - middle for estimate in last.estimates], 2)
    x = np.linspace(last.rhos[0], last.rhos[-1], 100)
    axes.plot(x, np.polyval(parabola, x), color=plot_style.INK, linewidth=1.0, label=PARABOLA)


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
