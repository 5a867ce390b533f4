"""The one style of plots, and the one way to matplotlib: curves that the colour-blind and gray print tell apart.

Titles name what is drawn, the legend stands below the axes and never over data, and error bars are named in words.
"""

import importlib
import math
import textwrap
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

from dnnlib.colours import CURVES, DASHES, MARKS

MARKERS = dict(zip(MARKS, "osD^vP*<", strict=True))  # as matplotlib calls them
WIDTH, HEIGHT = 6.0, 4.2  # of a panel, in inches
DPI = 120
GRAY = "0.45"  # of text that explains
RULE = "0.5"  # of lines that are no data
BAND = "0.85"
INK = "black"
ERROR_BARS = "Error bars: ± one standard error over the images"
MOST_MARKS = 30  # of a curve; more would hide it

# Letters that an inch holds of a font, narrow and wide ones together.
_LETTERS = {"title": 9.5, "small": 14.0, "note": 15.0}
_LINE = 0.2  # inches, of small text


class Look(NamedTuple):
    """How a curve is told from the others, each time in colour and in gray."""

    colour: str
    marker: str
    dashes: tuple[float, ...]


def look(number: int) -> Look:
    """Of the curve of that number in a plot, from 0."""
    return Look(
        CURVES[number % len(CURVES)],
        MARKERS[MARKS[number % len(MARKS)]],
        DASHES[number % len(DASHES)],
    )


def new_figure(
    title: str,
    rows: int = 1,
    columns: int = 1,
    names: Sequence[str] = (),
    note: str = "",
    panel: float = WIDTH,
) -> Any:
    """A figure without axes, under its title.

    Args:
        title: what is drawn, and of which network; long ones are broken.
        rows, columns: of panels.
        names: of all curves, for which room is left below.
        note: what `add_legend` will say above them.
        panel: width of one, in inches.
    Returns:
        A matplotlib Figure.
    Raises:
        RuntimeError: if matplotlib is not installed.
    """
    width = 1 + panel * columns
    lines = textwrap.wrap(title, int(width * _LETTERS["title"]))
    below = math.ceil(len(names) / _legend_columns(width, names)) + len(_broken(note, width))
    height = HEIGHT * rows + 0.25 * len(lines) + _LINE * below

    figure = _matplotlib("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    figure.suptitle("\n".join(lines), fontsize="large")
    return figure


def add_panel(
    figure: Any, place: tuple[int, int, int], xlabel: str, ylabel: str, title: str = ""
) -> Any:
    """A pair of axes at (rows, columns, number from 1), with words along both.

    Returns:
        matplotlib's Axes.
    """
    axes = figure.add_subplot(*place)
    axes.set_title(title, fontsize="medium")
    axes.set(xlabel=textwrap.fill(xlabel, 70), ylabel=textwrap.fill(ylabel, 45))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def draw_curve(
    axes: Any,
    x: Sequence[Any],
    y: Sequence[float],
    errors: Sequence[float] | None,
    drawn: Look,
    name: str = "",
) -> None:
    """One curve with marks and error bars; of more points than can be marked a plain line."""
    marked = len(x) <= MOST_MARKS
    axes.errorbar(
        x,
        y,
        errors,
        color=drawn.colour,
        marker=drawn.marker if marked else "",
        linestyle=(0, drawn.dashes) if drawn.dashes else "-",
        label=name,
        linewidth=1.4,
        markersize=5.5,
        capsize=2.5,
        elinewidth=1,
    )


def log_scale(axes: Any, which: str) -> None:
    """A logarithmic axis, "x" or "y", whose ticks are plain numbers: 0.2 and not 2 x 10^-1."""
    ticker = _matplotlib("matplotlib.ticker")
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = sorted(axis.get_data_interval())
    if high < 8 * low:  # too few powers of ten
        axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        between = (1, 2, 5) if high < 1000 * low else (1,)
        axis.set_major_locator(ticker.LogLocator(subs=between, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def whole_numbers(axes: Any) -> None:
    """Ticks along x that count."""
    axes.xaxis.set_major_locator(_matplotlib("matplotlib.ticker").MaxNLocator(integer=True))


def add_legend(figure: Any, note: str = "") -> None:
    """Name the curves of all panels, each once, below them, under a line such as what the error bars are."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)

    if named or note:
        legend = figure.legend(
            list(named.values()),
            list(named),
            loc="outside lower center",
            frameon=False,
            fontsize="small",
            title="\n".join(_broken(note, figure.get_figwidth())) or None,
            title_fontsize="small",
            handlelength=3.2,
            ncols=_legend_columns(figure.get_figwidth(), list(named)),
        )
        legend.get_title().set_color(GRAY)


def write(figure: Any, file: IO[bytes], kind: str, name: str = "plot") -> None:
    """Encode a figure as png, svg or pdf; equal figures of one name make equal files."""
    for text in figure.findobj(_matplotlib("matplotlib.text").Text):
        text.set_parse_math(False)  # a network's path may have a dollar in it
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with _matplotlib("matplotlib").rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)


def _broken(note: str, width: float) -> list[str]:
    """The lines of a note that is no wider than its figure."""
    return textwrap.wrap(note, int((width - 0.3) * _LETTERS["note"]))


def _legend_columns(width: float, names: Sequence[str]) -> int:
    """How many names of the longest one's width stand beside each other."""
    longest = max((len(name) for name in names), default=0) + 8  # the piece of its curve
    return max(1, min(len(names), 6, int(width * _LETTERS["small"]) // longest))


def _matplotlib(module: str) -> Any:
    """A module of matplotlib.

    Raises:
        RuntimeError: if it is not installed.
    """
    try:
        return importlib.import_module(module)  # not at the top: the package is optional
    except ImportError as error:
        raise RuntimeError("pictures need the package matplotlib: pip install '.[plot]'") from error
