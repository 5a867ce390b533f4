"""Tables and figures as pictures: curves with error bars, which need matplotlib, or sheets of images."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import IO, Any, NamedTuple

from dnnlib import pictures
from dnnlib.files import atomic_write
from dnnlib.pictures import matplotlib_module, save_png
from skip.evidence.estimate import Estimate, ratio
from skip.evidence.words import written
from skip.tables.item import Cell, Plot
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome
from skip.tables.show.labels import in_words, label, resolve, shown
from skip.tables.show.sheets import sheets

# Okabe and Ito, 2008: seven colours that the colour-blind can tell apart; yellow is left out, too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
STYLES = ("-", "--", ":")  # of the first seven curves, the next seven, ...


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
    figure = matplotlib_module("matplotlib.figure").Figure(
        figsize=(1 + 6 * columns, 4.2 * rows), layout="constrained"
    )
    order = list(dict.fromkeys(name for panel in found for name in panel.curves))
    for number, (title, ylabel, drawn) in enumerate(found):
        axes = figure.add_subplot(
            rows,
            columns,
            number + 1,
            title=title,
            xlabel=how.xlabel or written(how.x),
            ylabel=ylabel,
        )
        if how.logx:
            axes.set_xscale("log")
        if how.logy and number == 0:  # multiples of one value are near 1
            axes.set_yscale("log")
        draw_curves(axes, drawn, order if how.split else None)
        if how.x == "rho":
            axes.axvline(1.0, color="0.5", linewidth=0.8, linestyle=":", zorder=0)

    if how.split:
        _add_legend_below(figure)
        return figure
    named: list[str] = []
    for axes, panel in zip(figure.axes, found, strict=True):
        if list(panel.curves) != named:
            _add_legend(axes)
        named = list(panel.curves)
    return figure


def panels(how: Plot, measured: MeasuredItem) -> list[Panel]:
    """What is drawn beside each other; nothing where there is nothing to draw."""
    done = [outcome for outcome in measured.done if _is_drawn(how, outcome)]
    multiples: list[Outcome] = []
    if how.x in ("rho", "window_top"):
        multiples = [one for one in _relative_to_baseline(measured) if _is_drawn(how, one)]
    relative = _split(how, multiples)

    found = []
    for title, outcomes in _split(how, done).items():
        for y in (",".join(how.y), *how.beside):
            names = tuple(name.strip() for name in y.split(","))
            own = how
            if names != how.y:
                own = replace(how, y=names, ylabel=", ".join(map(label, names)))
            curves = _by_index(own, outcomes) if how.x == "index" else _by_setting(own, outcomes)
            if curves:
                found.append(Panel(title, _ylabel(own, outcomes), curves))

        if found and relative.get(title):
            ylabel = f"{_ylabel(how, outcomes)}, relative to rho 1"
            found.append(Panel(title, ylabel, _by_setting(how, relative[title])))
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
        title = in_words({how.split: outcome.cell.by_name.get(how.split)})
        found.setdefault(title, []).append(outcome)
    return found


def _ylabel(how: Plot, outcomes: Sequence[Outcome]) -> str:
    """The first of the values as it was measured: FID of another feature network is called so."""
    for y in how.y:
        for outcome in outcomes:
            name = resolve(y, outcome.values)
            if name is not None:
                return label(name, how.ylabel)
    return label(how.y[0], how.ylabel)


def _add_legend(axes: Any) -> None:
    """Name the curves, unless there is one without a name."""
    _, names = axes.get_legend_handles_labels()
    if names:
        axes.legend(frameon=False, fontsize="small", ncols=1 if len(names) < 8 else 2)


def _add_legend_below(figure: Any) -> None:
    """Name the curves of all panels together, each once."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    if named:
        figure.legend(
            list(named.values()),
            list(named),
            loc="outside lower center",
            frameon=False,
            fontsize="small",
            ncols=2,
        )


def draw_curves(axes: Any, curves: Curves, order: Sequence[str] | None = None) -> None:
    """Curves with error bars, and crosses where the paper states a value.

    Args:
        axes: of matplotlib.
        curves: by name.
        order: names whose places say what a curve looks like, for several panels; None takes those of the curves.
    """
    looks = [
        (colour, marker, style)
        for style in STYLES
        for colour, marker in zip(COLOURS, MARKERS, strict=True)
    ]
    look_of = dict(zip(order or curves, cycle(looks), strict=False))
    for name, curve in curves.items():
        colour, marker, style = look_of[name]
        axes.errorbar(
            [point.x for point in curve],
            [point.y.value for point in curve],
            [point.y.error or 0.0 for point in curve],
            color=colour,
            marker=marker,
            linestyle=style,
            label=name,
            linewidth=1.4,
            markersize=5,
            capsize=2.5,
            elinewidth=1,
        )

        stated = [point for point in curve if point.stated is not None]
        if stated:
            x, y = [point.x for point in stated], [point.stated for point in stated]
            said = f"{name}, paper" if name else "paper"
            axes.plot(x, y, "x", color=colour, markersize=9, markeredgewidth=2, label=said)

    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(measured: MeasuredItem, folder: Path) -> list[Path]:
    """Draw an item: <item>.png and, of curves, <item>.svg; equal results make equal files.

    Returns:
        The files written; none where there is nothing to draw.
    """
    name = measured.item.name
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    page = sheets(measured)
    if page is not None:
        save_png(page, png)
        return [png]

    figure = plot(measured)
    if figure is None:
        return []
    with atomic_write(png) as file:
        figure.savefig(file, format="png", dpi=120)
    with atomic_write(svg) as file:
        _write_svg(figure, name, file)
    return [png, svg]


def encoded(measured: MeasuredItem) -> tuple[str, bytes] | None:
    """An item's picture as a page embeds it: "png" of sheets or "svg+xml" of curves, and its bytes; None of nothing."""
    page = sheets(measured)
    if page is not None:
        return "png", pictures.encoded(page)

    figure = plot(measured)
    if figure is None:
        return None
    file = io.BytesIO()
    _write_svg(figure, measured.item.name, file)
    return "svg+xml", file.getvalue()


def _write_svg(figure: Any, name: str, file: IO[bytes]) -> None:
    """Equal figures of one name make equal files."""
    with matplotlib_module("matplotlib").rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})


def _relative_to_baseline(measured: MeasuredItem) -> list[Outcome]:
    """Every value as a multiple of that of the same cell at rho = 1, its error paired: without what seeds share.

    Nothing where no other rho is measured beside 1.
    """
    found = []
    compared = False
    for outcome in measured.done:
        at_one = outcome.cell.by_name.get("rho") == 1
        baseline = outcome if at_one else measured.baseline(outcome)
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
