"""configs/<item>.toml: which cells a table or figure of the paper has, and what the paper states of them."""

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from dnnlib.keywords import check_keywords, read_toml, shown
from dnnlib.places import ROOT
from skip.evidence.claims import Claim
from skip.tables.cells.generated import Generated
from skip.tables.cells.kinds import KINDS, TUPLES
from skip.tables.cells.settings import Study, build, plain

CONFIGS = ROOT / "configs"
PROFILES_TOML = "profiles.toml"
DERIVED = ("nfe", "window_top")  # follow from the settings of a cell, and can be named like one
MOST_CELLS = 10_000
NOT_ITEMS = ("networks.toml", "detectors.toml", PROFILES_TOML)

Made = TypeVar("Made")


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
class Cell:
    """One measurement.

    Attributes:
        study: a name in KINDS.
        settings: everything that determines its result.
        varies: those settings that tell it from the item's other cells.
        published: what the paper states of it.
    """

    study: str
    settings: Study
    varies: dict[str, Any]
    published: tuple[Published, ...] = ()

    @cached_property
    def determined_by(self) -> tuple[str, dict[str, Any]]:
        """What its result depends on, as JSON; a table asks for it thousands of times."""
        return self.study, plain(self.settings, defaults=False)


@dataclass(frozen=True)
class Plot:
    """A curve for each value of `series`: `y` over `x`.

    Attributes:
        x: a setting, "nfe", "window_top", or "index" for values that come as name[0], name[1], ...
        y: names of values.
        series: settings.
        xlabel, ylabel: with units; the names without.
        logx, logy: logarithmic axes.
    """

    x: str
    y: tuple[str, ...]
    series: tuple[str, ...] = ()
    xlabel: str | None = None
    ylabel: str | None = None
    logx: bool = False
    logy: bool = False


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


def item_names(folder: Path = CONFIGS) -> list[str]:
    """The items that have a TOML, tables first, in the paper's order."""
    found = [path.stem for path in folder.glob("*.toml") if path.name not in NOT_ITEMS]

    def order(name: str) -> tuple[int, int, str]:
        word, number = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]  # matches all
        return ("table", "figure").index(word) if word in ("table", "figure") else 2, int(number or 0), name

    return sorted(found, key=order)


def load_item(name: str, profile: str, seeds: str | None = None, folder: Path = CONFIGS) -> Item:
    """Read one item.

    Args:
        name: of its TOML.
        profile: a name in configs/profiles.toml.
        seeds: of every cell, instead of what the item says.
        folder: of the TOML files.
    Raises:
        ValueError: naming the file and what is wrong in it.
    """
    profiles = read_toml(folder / PROFILES_TOML)
    if profile not in profiles:
        raise ValueError(f"unknown profile {profile!r}; choose from {', '.join(profiles)}")
    for one, table in profiles.items():
        for key in table:
            if not any(key in _settings_of(kind) for kind in KINDS.values()):
                raise ValueError(f"{folder / PROFILES_TOML}, [{one}]: no study has a setting {key!r}")
    path = folder / f"{name}.toml"
    if not path.exists():
        raise ValueError(f"there is no item {name!r}; choose from {', '.join(item_names(folder))}")
    try:
        return _item(name, profile, read_toml(path), profiles, seeds)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: {reason}") from error


def _item(name: str, profile: str, table: dict[str, Any], profiles: dict[str, Any], seeds: str | None) -> Item:
    known = {"title", "source", "study", "notes", "requires", "settings", "cells", "published", "plot", "claims"}
    _refuse_unknown(table, known | set(profiles))
    own = table.get(profile, {})
    _refuse_unknown(own, {"requires", "settings", "cells", "notes", "claims"})
    words = {"title", "source", "notes", "requires"}
    for one in (table, own):
        check_keywords({key: one[key] for key in words & one.keys()}, [Item])
    requires = own.get("requires", table.get("requires"))
    kind = KINDS.get(table["study"])
    if kind is None:
        raise ValueError(f"unknown study {table['study']!r}; choose from {', '.join(KINDS)}")
    settings_of = _settings_of(kind)
    base = {key: value for key, value in profiles[profile].items() if key in settings_of}
    base |= table.get("settings", {}) | own.get("settings", {})
    rows = [] if requires else own.get("cells", table.get("cells", [{}]))
    studies = [
        build(kind, base | row | ({"seeds": seeds} if seeds else {})) for group in rows for row in _combinations(group)
    ]
    plot = _built(Plot, table["plot"]) if "plot" in table else None
    for axis in (plot.x, *plot.series) if plot else ():
        if axis not in {*settings_of, *DERIVED, "index"}:
            raise ValueError(f"[plot] names {axis!r}, which is no setting; there are {', '.join(sorted(settings_of))}")
    published = table.get("published", []) if profile == "paper" else []
    return Item(
        name,
        table["title"],
        table["source"],
        profile,
        _cells(table["study"], studies, published),
        (*table.get("notes", ()), *own.get("notes", ())),
        requires,
        tuple(_built(Claim, claim) for claim in own.get("claims", table.get("claims", ()))),
        plot,
    )


def _settings_of(kind: Any) -> set[str]:
    return {f.name for f in fields(kind)}


def _built(kind: type[Made], table: Any) -> Made:
    """A dataclass from a table of a TOML file, where tuples are lists."""
    if not isinstance(table, dict):
        raise ValueError(f"[{kind.__name__.lower()}] is {shown(table)}, no table")
    check_keywords(table, [kind])
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})


def _combinations(group: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Every combination of the listed values; a tuple-valued setting is listed as a list of lists."""
    axes = []
    for key, value in group.items():
        many = isinstance(value, list) and (key not in TUPLES or (value and isinstance(value[0], list)))
        axes.append([(key, one) for one in (value if many else [value])])
    if (count := math.prod(map(len, axes))) > MOST_CELLS:
        raise ValueError(f"[[cells]] makes {count:,} combinations; an item may have {MOST_CELLS:,}")
    return (dict(chosen) for chosen in itertools.product(*axes))


def _cells(study: str, studies: list[Study], published: list[dict[str, Any]]) -> tuple[Cell, ...]:
    every = [plain(one) for one in studies]
    names = dict.fromkeys(key for settings in every for key in settings)
    differing = [key for key in names if len({repr(settings.get(key)) for settings in every}) > 1]
    cells, used = [], set()
    stated = [_stated(entry) for entry in published]
    for one, settings in zip(studies, every, strict=True):
        here = []
        for number, (match, value) in enumerate(stated):
            if all(settings.get(key) == wanted for key, wanted in match.items()):
                here.append(value)
                used.add(number)
        cells.append(Cell(study, one, {key: settings.get(key) for key in differing}, tuple(here)))
    for number, (match, value) in enumerate(stated):
        if cells and number not in used:
            raise ValueError(f"no cell matches the published value {value.value} ({match})")
    return tuple(cells)


def _stated(entry: Any) -> tuple[dict[str, Any], Published]:
    """What the paper states: of which cells, and what."""
    if not isinstance(entry, dict):
        raise ValueError(f"[[published]] is {shown(entry)}, no table")
    _refuse_unknown(entry, {"match", "metric", "value", "where"})
    match = entry["match"]
    if not isinstance(match, dict):
        raise ValueError(f"match is {shown(match)}; it must be a table of settings")
    return match, _built(Published, {key: value for key, value in entry.items() if key != "match"})


def _refuse_unknown(table: dict[str, Any], known: set[str]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; there are {', '.join(sorted(known))}")


def nfe(cell: Cell) -> int | None:
    """Network evaluations per image, of cells that generate images."""
    study = cell.settings
    return study.evaluations_per_image() if isinstance(study, Generated) else None


def setting(cell: Cell, name: str) -> Any:
    """A setting of a cell, its "nfe", or its "window_top", the upper end of its window; None where it has none."""
    if name == "window_top":
        window = getattr(cell.settings, "window", None)
        return None if window is None else window[1]
    return nfe(cell) if name == "nfe" else getattr(cell.settings, name, None)
