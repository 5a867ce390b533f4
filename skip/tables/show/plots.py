"""Tables and figures as pictures: curves with error bars, and sheets of images side by side; curves need matplotlib."""

from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image

from dnnlib.files import atomic_write
from dnnlib.pictures import matplotlib_module, open_picture, save_png, side_by_side
from skip.evidence.estimate import Estimate, ratio
from skip.tables.results import Results, unique
from skip.tables.show.points import caption, label, plain_cell, resolve, shown, written
from skip.tables.spec import Cell, Item, Plot, setting

# Okabe and Ito, 2008: seven colours that the colour-blind can tell apart; yellow is left out, too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
WIDTH = 1200  # of a row of sheets, in pixels
STYLES = ("-", "--", ":")  # of the first seven curves, the next seven, ...

Values = dict[str, Estimate]
Series = dict[str, list[tuple[Any, Estimate, float | None]]]  # curve -> x, y, and what the paper states


def plot(item: Item, results: Results) -> Any:
    """Curves of what is measured, as `item.plot` says.

    Args:
        item: with `plot`.
        results: of its cells; those that are not done are left out.
    Returns:
        A matplotlib Figure, or None where there is nothing to draw.
    Raises:
        RuntimeError: if matplotlib is not installed.
        ValueError: if a curve has two cells at one x.
    """
    measured = [(cell, values) for cell in unique(item.cells) if (values := results.load(cell)) is not None]
    if item.plot is None or not measured:
        return None
    curves = _by_index(item.plot, measured) if item.plot.x == "index" else _by_setting(item.plot, measured)
    if not curves:
        return None
    how = item.plot
    found = [name for y in how.y for _, values in measured if (name := resolve(y, values))]
    ylabel = label((found or how.y)[0], how.ylabel)
    panels = [(ylabel, curves)]
    if how.x in ("rho", "window_top") and (relative := _relative(item, measured)):
        panels.append((f"{ylabel}, relative to rho 1", _by_setting(how, relative)))
    figure = matplotlib_module("matplotlib.figure").Figure(figsize=(1 + 6 * len(panels), 4.2), layout="constrained")
    for number, (title, drawn) in enumerate(panels):
        axes = figure.add_subplot(
            1, len(panels), number + 1,
            xlabel=how.xlabel or written(how.x),
            ylabel=title,
            xscale="log" if how.logx else "linear",
            yscale="log" if how.logy and number == 0 else "linear",
        )  # fmt: skip
        draw_curves(axes, drawn)
        if how.x == "rho":
            axes.axvline(1.0, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
    names = figure.axes[0].get_legend_handles_labels()[1]
    if names:
        figure.axes[0].legend(frameon=False, fontsize="small", ncols=1 if len(names) < 8 else 2)
    return figure


def draw_curves(axes: Any, curves: Series) -> None:
    """Curves with error bars, and crosses where the paper states a value."""
    looks = [(colour, marker, style) for style in STYLES for colour, marker in zip(COLOURS, MARKERS, strict=True)]
    for (name, curve), (colour, marker, style) in zip(curves.items(), cycle(looks), strict=False):
        x, y = [at for at, _, _ in curve], [estimate.value for _, estimate, _ in curve]
        errors = [estimate.error or 0.0 for _, estimate, _ in curve]
        axes.errorbar(
            x, y, errors, color=colour, marker=marker, linestyle=style,
            label=name, linewidth=1.4, markersize=5, capsize=2.5, elinewidth=1,
        )  # fmt: skip
        stated = [(at, value) for at, _, value in curve if value is not None]
        if stated:
            said = f"{name}, paper" if name else "paper"
            axes.plot(*zip(*stated, strict=True), "x", color=colour, markersize=9, markeredgewidth=2, label=said)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _relative(item: Item, measured: list[tuple[Cell, Values]]) -> list[tuple[Cell, Values]]:
    """Every value as a multiple of that of the same cell at rho = 1, its error paired: without what seeds share."""
    values_of = {id(cell): values for cell, values in measured}
    found = []
    for cell, values in measured:
        plain = plain_cell(item, cell) or cell
        theirs = values_of.get(id(plain), {}) if plain is not cell or setting(cell, "rho") == 1 else {}
        names = [name for name in values if name in theirs and theirs[name].value > 0]
        found.append((replace(cell, published=()), {name: ratio(values[name], theirs[name]) for name in names}))
    some = any(setting(cell, "rho") != 1 and values for cell, values in found)
    return [pair for pair in found if pair[1]] if some else []


def sheets(item: Item, results: Results) -> Image.Image | None:
    """The sheets that the cells made, each under the settings that tell it from the others.

    They stand side by side; a new row begins where all settings but the last change, and where a row would be too wide.

    Raises:
        FileNotFoundError: if a cell is done and its sheet is gone.
    """
    done = [cell for cell in item.cells if cell.study == "sheet" and results.state(cell) == "done"]
    rows: list[list[Cell]] = []
    pages: dict[int, Image.Image] = {}
    for cell in done:
        path = results.path(cell).with_suffix(".png")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone; remove {results.path(cell).name} beside it and run it again")
        page = pages[id(cell)] = open_picture(path).convert("RGB")
        fits = max(1, WIDTH // page.width)
        if not rows or len(rows[-1]) == fits or _row(rows[-1][0]) != _row(cell):
            rows.append([])
        rows[-1].append(cell)
    lines = [side_by_side([pages[id(c)] for c in row], [caption(c.varies) for c in row]) for row in rows]
    if not lines:
        return None
    whole = Image.new("RGB", (max(line.width for line in lines), sum(line.height for line in lines)), "white")
    top = 0
    for line in lines:
        whole.paste(line, (0, top))
        top += line.height
    return whole


def save(item: Item, results: Results, folder: Path) -> list[Path]:
    """Draw an item: <item>.png and, of curves, <item>.svg; equal results make equal files.

    Returns:
        The files written; none where there is nothing to draw.
    """
    png, svg = folder / f"{item.name}.png", folder / f"{item.name}.svg"
    if (page := sheets(item, results)) is not None:
        save_png(page, png)
        return [png]
    figure = plot(item, results)
    if figure is None:
        return []
    with atomic_write(png) as file:
        figure.savefig(file, format="png", dpi=120)
    with matplotlib_module("matplotlib").rc_context({"svg.hashsalt": item.name}), atomic_write(svg) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
    return [png, svg]


def _row(cell: Cell) -> list[Any]:
    """What the sheets of a row have in common."""
    return list(cell.varies.values())[:-1]


def _by_setting(how: Plot, measured: list[tuple[Cell, Values]]) -> Series:
    """One curve for each metric and each value of the series, along a setting."""
    curves: Series = {}
    for y in how.y:
        for cell, values in measured:
            name, x = resolve(y, values), setting(cell, how.x)
            if name is None or x is None:
                continue
            stated = next((p.value for p in cell.published if p.metric == y), None)
            at = x if isinstance(x, float | int) else shown(x)
            curves.setdefault(_name(how, cell, name), []).append((at, values[name], stated))
    for name, curve in curves.items():
        if len({x for x, _, _ in curve}) < len(curve):
            raise ValueError(
                f"the curve {name!r} has two cells at one {how.x}: what tells them apart must be in series"
            )
        if all(isinstance(x, float | int) for x, _, _ in curve):
            curve.sort(key=lambda point: point[0])
    return curves


def _by_index(how: Plot, measured: list[tuple[Cell, Values]]) -> Series:
    """One curve for each name and cell: name[0], name[1], ..."""
    curves: Series = {}
    for y in how.y:
        for cell, values in measured:
            curve: list[tuple[Any, Estimate, float | None]] = []
            while (estimate := values.get(f"{y}[{len(curve)}]")) is not None:
                curve.append((len(curve), estimate, None))
            if curve:
                curves[_name(how, cell, y)] = curve
    return curves


def _name(how: Plot, cell: Cell, value: str) -> str:
    """What the legend calls a curve; empty if there is only one."""
    names = how.series or (cell.varies if how.x == "index" else ())
    settings = caption({name: setting(cell, name) for name in names})
    metric = label(value) if len(how.y) > 1 else ""
    return ", ".join(part for part in (metric, settings) if part)
