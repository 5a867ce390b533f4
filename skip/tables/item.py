"""A table or figure of the paper: its cells, how it is drawn, and what the paper states of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from skip.evidence.claim import Claim
from skip.methods.table import parse_methods
from skip.tables.cells.generated import Generated
from skip.tables.cells.settings import NetworkSettings, Study
from skip.tables.cells.words import record_of, values_of

# What follows from the settings of a cell, and can be named like one.
DERIVED = ("nfe", "window_top", "method")


@dataclass(frozen=True)
class Published:
    """A value that the paper states.

    Attributes:
        metric, value, where: what, and where in the paper it stands.
    """

    metric: str
    value: float
    where: str


@dataclass(frozen=True)
class Quoted(Published):
    """A value that others measured, to look at beside ours.

    Attributes:
        by: whose it is.
    """

    by: str


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        study: a name in STUDIES.
        settings: everything that determines its result.
        varies: those settings that tell it from the item's other cells.
        published: what the paper states of it.
        quoted: what others state of it.
    """

    study: str
    settings: Study
    varies: dict[str, Any]
    published: tuple[Published, ...] = ()
    quoted: tuple[Quoted, ...] = ()

    @cached_property
    def determined_by(self) -> tuple[str, dict[str, Any]]:
        """What its result depends on, as JSON."""
        return self.study, record_of(self.settings, defaults=False)

    @cached_property
    def by_name(self) -> dict[str, Any]:
        """Every setting, and what follows from them, or None.

        "nfe"; "window_top", the upper end of the window; "method", what acts on the skips: "Skip-Tuning + FreeU".
        """
        found = values_of(self.settings)
        window = found.get("window")
        return found | {
            "nfe": nfe(self),
            "window_top": None if window is None else window[1],
            "method": method(self),
        }


@dataclass(frozen=True)
class Plot:
    """A curve for each value of `series`: `y` over `x`.

    Attributes:
        x: a setting, "nfe", "window_top", or "index" for values that come as name[0], name[1], ...
        y: names of values.
        series: settings.
        xlabel, ylabel: with units; the names without.
        logx, logy: logarithmic axes.
        match: settings of the cells that are drawn; None draws all.
        split: a setting, each of whose values has a panel of its own.
        beside: values, or several separated by commas, each of which has a further panel; along "index".
    """

    x: str
    y: tuple[str, ...]
    series: tuple[str, ...] = ()
    xlabel: str | None = None
    ylabel: str | None = None
    logx: bool = False
    logy: bool = False
    match: Mapping[str, Any] | None = None
    split: str | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """A table or figure in one profile.

    Attributes:
        name: "table2".
        title: what it shows.
        source: where it stands in the paper.
        profile: "demo" or "paper".
        cells: in the order in which they are shown; none where `requires` says what is missing.
        notes: choices that the paper leaves open, and how they were made.
        requires: what must exist before it can run, or None.
        claims: directions that the paper reports.
        plot: how it is drawn, or None.
        flags: of the command line, that chose other seeds or some of the cells.
    """

    name: str
    title: str
    source: str
    profile: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    requires: str | None = None
    claims: tuple[Claim, ...] = ()
    plot: Plot | None = None
    flags: str = ""

    @property
    def is_of_the_paper(self) -> bool:
        """Whether its directions are the paper's; those of others are questions of our own."""
        return not self.source.startswith("nowhere")


def nfe(cell: Cell) -> int | None:
    """Network evaluations per image, of cells that generate images."""
    study = cell.settings
    return study.evaluations_per_image() if isinstance(study, Generated) else None


def method(cell: Cell) -> str | None:
    """What acts on the long skips, in the words of tables; None without a network."""
    study = cell.settings
    if not isinstance(study, NetworkSettings):
        return None
    titles = [] if study.scale.is_identity else ["Skip-Tuning"]
    titles += [one.title for one in parse_methods(study.skip_method) if not one.is_identity]
    return " + ".join(titles) or "plain"


def setting(cell: Cell, name: str) -> Any:
    """A setting of a cell, or what follows from its settings, as nfe does; None where it has none."""
    return cell.by_name.get(name)
