"""Tables and figures as pictures: curves with error bars, which need matplotlib, or sheets of images."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dnnlib import pictures, plot_style
from dnnlib.files import atomic_write
from dnnlib.pictures import save_png
from dnnlib.words import on_axis
from skip.evidence.estimate import Estimate, ratio
from skip.tables.item import Cell, Plot
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome
from skip.tables.show.labels import in_words, label, resolve, shown, title
from skip.tables.show.sheets import sheets


class CurvePoint(NamedTuple):
    """Of a curve: where, what was measured there, what the paper states, and of how many images it is."""

    x: Any
    y: Estimate
    stated: float | None = None
    images: int | None = None


Curves = dict[str, list[CurvePoint]]  # by what the legend calls them


class Panel(NamedTuple):
    """Curves over one pair of axes."""

    title: str
    ylabel: str
    curves: Curves
    relative: bool = False  # to rho 1


def plot(measured: MeasuredItem) -> Any:
    """Curves of what is measured, as the item's `plot` says.

    Args:
        measured: the item; cells that are not done are left out.
    Returns:
        A matplotlib Figure, or None where there is nothing to draw.
    Raises:
        RuntimeError: if matplotlib is not installed.
        ValueError: if a curve has two cells at one x.
    """
    how = measured.item.plot
    found = [] if how is None else panels(how, measured)
    if how is None or not found:
        return None

    columns = len(found) if how.split is None else min(len(found), 2)
    rows = math.ceil(len(found) / columns)
    order = list(dict.fromkeys(name for panel in found for name in panel.curves))
    note = _about_errors(found)
    figure = plot_style.new_figure(title(measured.item), rows, columns, _legend(found), note)
    for number, panel in enumerate(found, 1):
        axes = plot_style.add_panel(
            figure, (rows, columns, number), xlabel(how), panel.ylabel, panel.title
        )
        draw_curves(axes, panel.curves, order)
        if how.logx:
            plot_style.log_scale(axes, "x")
        if how.logy and not panel.relative:  # multiples of one value are near 1
            plot_style.log_scale(axes, "y")
        if how.x == "index":
            plot_style.whole_numbers(axes)
        if how.x == "rho":
            axes.axvline(1.0, color=plot_style.RULE, linewidth=0.8, linestyle=":", zorder=0)

    plot_style.add_legend(figure, note)
    return figure


def xlabel(how: Plot) -> str:
    """What stands along x."""
    return how.xlabel or on_axis(how.x)


def panels(how: Plot, measured: MeasuredItem) -> list[Panel]:
    """What is drawn beside each other; nothing where there is nothing to draw."""
    done = [outcome for outcome in measured.done if _is_drawn(how, outcome)]
    multiples: list[Outcome] = []
    if how.x in ("rho", "window_top"):
        multiples = [one for one in _relative_to_baseline(measured) if _is_drawn(how, one)]
    relative = _split(how, multiples)

    found = []
    for heading, outcomes in _split(how, done).items():
        for y in (",".join(how.y), *how.beside):
            names = tuple(name.strip() for name in y.split(","))
            own = how
            if names != how.y:
                own = replace(how, y=names, ylabel=", ".join(map(label, names)))
            curves = _by_index(own, outcomes) if how.x == "index" else _by_setting(own, outcomes)
            if curves:
                found.append(Panel(heading, _ylabel(own, outcomes), curves))

        if found and relative.get(heading):
            ylabel = f"{_ylabel(how, outcomes)}, relative to rho 1"
            found.append(Panel(heading, ylabel, _by_setting(how, relative[heading]), True))
    return found


def _is_drawn(how: Plot, outcome: Outcome) -> bool:
    settings = outcome.cell.by_name
    return all(settings.get(name) == value for name, value in (how.match or {}).items())


def _split(how: Plot, outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The cells of each panel, by its title."""
    if how.split is None:
        return {"": list(outcomes)}
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        heading = in_words({how.split: outcome.cell.by_name.get(how.split)})
        found.setdefault(heading, []).append(outcome)
    return found


def _ylabel(how: Plot, outcomes: Sequence[Outcome]) -> str:
    """The first of the values as it was measured: FID of another feature network is called so."""
    for y in how.y:
        for outcome in outcomes:
            name = resolve(y, outcome.values)
            if name is not None:
                return label(name, how.ylabel)
    return label(how.y[0], how.ylabel)


def _legend(found: Sequence[Panel]) -> list[str]:
    """What the legend will name, each once."""
    names: dict[str, None] = {}
    for panel in found:
        for name, curve in panel.curves.items():
            if name:
                names[name] = None
            if any(point.stated is not None for point in curve):
                names[_of_the_paper(name)] = None
    return list(names)


def _of_the_paper(name: str) -> str:
    return f"{name}, paper" if name else "paper"


def _about_errors(found: Sequence[Panel]) -> str:
    """What the error bars are, where there are any."""
    if not any(
        point.y.error for panel in found for curve in panel.curves.values() for point in curve
    ):
        return ""
    paired = "; of multiples, of the same seeds" if any(panel.relative for panel in found) else ""
    return plot_style.ERROR_BARS + paired


def draw_curves(axes: Any, curves: Curves, order: Sequence[str] | None = None) -> None:
    """Curves with error bars, and crosses where the paper states a value.

    Args:
        axes: of matplotlib.
        curves: by name.
        order: names whose places say what a curve looks like, for several panels; None takes those of the curves.
    """
    places = {name: number for number, name in enumerate(order or curves)}
    for name, curve in curves.items():
        drawn = plot_style.look(places[name])
        plot_style.draw_curve(
            axes,
            [point.x for point in curve],
            [point.y.value for point in curve],
            [point.y.error or 0.0 for point in curve],
            drawn,
            name,
        )

        stated = [point for point in curve if point.stated is not None]
        if stated:
            x, y = [point.x for point in stated], [point.stated for point in stated]
            said = _of_the_paper(name)
            axes.plot(x, y, "x", color=drawn.colour, markersize=9, markeredgewidth=2, label=said)


def save(measured: MeasuredItem, folder: Path, zoom: int | None = None) -> list[Path]:
    """Draw an item: <item>.png and, of curves, <item>.svg; equal results make equal files.

    Args:
        measured: the item.
        folder: where to.
        zoom: of sheets, as that of `sheets`.
    Returns:
        The files written; none where there is nothing to draw.
    """
    name = measured.item.name
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    page = sheets(measured, zoom)
    if page is not None:
        save_png(page, png)
        return [png]

    figure = plot(measured)
    if figure is None:
        return []
    for path, kind in ((png, "png"), (svg, "svg")):
        with atomic_write(path) as file:
            plot_style.write(figure, file, kind, name)
    return [png, svg]


def encoded(measured: MeasuredItem, zoom: int | None = None) -> tuple[str, bytes] | None:
    """An item's picture as a page embeds it: "png" of sheets or "svg+xml" of curves, and its bytes; None of nothing."""
    page = sheets(measured, zoom)
    if page is not None:
        return "png", pictures.encoded(page)

    figure = plot(measured)
    if figure is None:
        return None
    file = io.BytesIO()
    plot_style.write(figure, file, "svg", measured.item.name)
    return "svg+xml", file.getvalue()


def _relative_to_baseline(measured: MeasuredItem) -> list[Outcome]:
    """Every value as a multiple of that of a plain network's cell, its error paired: without what seeds share.

    Nothing where no other rho is measured beside 1.
    """
    found = []
    compared = False
    for outcome in measured.done:
        at_one = outcome.cell.by_name.get("rho") == 1
        baseline = measured.baseline(outcome) or (outcome if at_one else None)
        if baseline is None:
            continue

        multiples = _multiples(outcome.values, baseline.values)
        if multiples:
            # What the paper states is no multiple.
            found.append(
                replace(outcome, cell=replace(outcome.cell, published=()), values=multiples)
            )
            compared = compared or not at_one
    return found if compared else []


def _multiples(values: Mapping[str, Estimate], of: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {
        name: ratio(value, of[name])
        for name, value in values.items()
        if name in of and of[name].value > 0
    }


def _by_setting(how: Plot, outcomes: Sequence[Outcome]) -> Curves:
    """One curve for each metric and each value of the series, along a setting."""
    curves: Curves = {}
    for y in how.y:
        for outcome in outcomes:
            name, x = resolve(y, outcome.values), outcome.cell.by_name.get(how.x)
            if name is None or x is None:
                continue
            stated = next((one.value for one in outcome.cell.published if one.metric == y), None)
            place = x if isinstance(x, float | int) else shown(x)
            point = CurvePoint(place, outcome.values[name], stated, outcome.cell.settings.count)
            curves.setdefault(_name(how, outcome.cell, name), []).append(point)

    for name, curve in curves.items():
        if len({point.x for point in curve}) < len(curve):
            raise ValueError(
                f"the curve {name!r} has two cells at one {how.x}: what tells them apart must be in series"
            )
        if all(isinstance(point.x, float | int) for point in curve):
            curve.sort(key=lambda point: point.x)
    return curves


def _by_index(how: Plot, outcomes: Sequence[Outcome]) -> Curves:
    """One curve for each name and cell: name[0], name[1], ..."""
    curves: Curves = {}
    for y in how.y:
        own: Curves = {}
        for outcome in outcomes:
            curve: list[CurvePoint] = []
            while (estimate := outcome.values.get(f"{y}[{len(curve)}]")) is not None:
                curve.append(CurvePoint(len(curve), estimate))
            if curve:
                own[_name(how, outcome.cell, y)] = curve

        first, *others = own.values() or [[]]
        if others and all(curve == first for curve in others):
            # Such as weights, which no setting changes.
            own = {label(y) if len(how.y) > 1 else "": first}
        curves |= own
    return curves


def _name(how: Plot, cell: Cell, value: str) -> str:
    """What the legend calls a curve; empty if there is only one."""
    series = how.series or (cell.varies if how.x == "index" else ())
    settings = in_words({name: cell.by_name.get(name) for name in series})
    metric = label(value) if len(how.y) > 1 else ""
    return ", ".join(part for part in (metric, settings) if part)
