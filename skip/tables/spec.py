"""configs/<item>.toml: which cells a table or figure of the paper has, and what the paper states of them."""

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from dnnlib.keywords import check_keywords, read_toml, shown
from dnnlib.places import CONFIGS
from skip.evidence.claim import Claim
from skip.tables.cells.registry import STUDIES
from skip.tables.cells.settings import Study
from skip.tables.cells.words import Word, build, record_of, words_of
from skip.tables.item import DERIVED, Cell, Item, Plot, Published, Quoted
from skip.tables.names import PROFILES_TOML, item_names

MOST_CELLS = 10_000

# The keys of an item's TOML, and of its table of one profile; WORDS are taken as they are.
KEYS = {
    "title", "source", "study", "notes", "requires", "settings", "cells", "published", "quoted",
    "plot", "claims",
}  # fmt: skip
KEYS_OF_A_PROFILE = {"requires", "settings", "cells", "notes", "claims", "plot"}
WORDS = {"title", "source", "notes", "requires"}

Made = TypeVar("Made")
Value = TypeVar("Value", bound=Published)


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
    profiles = _profiles(folder / PROFILES_TOML)
    if profile not in profiles:
        raise ValueError(f"unknown profile {profile!r}; choose from {', '.join(profiles)}")

    path = folder / f"{name}.toml"
    if not path.exists():
        raise ValueError(f"there is no item {name!r}; choose from {', '.join(item_names(folder))}")

    try:
        table = read_toml(path)
        _refuse_unknown(table, KEYS | set(profiles))
        own = table.get(profile, {})
        _refuse_unknown(own, KEYS_OF_A_PROFILE)
        return _item(name, profile, table, own, profiles[profile], seeds)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: {reason}") from error


def _profiles(path: Path) -> dict[str, Any]:
    """The settings of each profile, all of which some study must know."""
    profiles = read_toml(path)
    known = {name for study in STUDIES.values() for name in words_of(study)}
    for profile, table in profiles.items():
        for key in table:
            if key not in known:
                raise ValueError(f"{path}, [{profile}]: no study has a setting {key!r}")
    return profiles


def _item(
    name: str,
    profile: str,
    table: dict[str, Any],
    own: dict[str, Any],
    base: dict[str, Any],
    seeds: str | None,
) -> Item:
    """An item from its TOML.

    Args:
        name: of the TOML.
        profile: "demo" or "paper".
        seeds: of every cell, instead of what the item says.
        table: all of the TOML.
        own: its table [profile], which replaces what stands outside it, and adds to settings and notes.
        base: the profile's settings.
    """
    for part in (table, own):
        check_keywords({key: part[key] for key in WORDS & part.keys()}, [Item])
    requires = own.get("requires", table.get("requires"))

    study = STUDIES.get(table["study"])
    if study is None:
        raise ValueError(f"unknown study {table['study']!r}; choose from {', '.join(STUDIES)}")
    shared = {key: value for key, value in base.items() if key in words_of(study)}
    shared |= table.get("settings", {}) | own.get("settings", {})

    # What lacks a network, say, has no cells: its settings may not even be known.
    groups = [] if requires else own.get("cells", table.get("cells", [{}]))
    if not requires and not groups:
        raise ValueError(
            f"it has no cells in the profile {profile}: let requires say what is missing"
        )
    settings = _settings(study, groups, shared, {"seeds": seeds} if seeds else {})

    drawn = own.get("plot", table.get("plot"))
    plot = None if drawn is None else _plot(drawn, set(words_of(study)))
    # The paper's numbers are of its own networks, and so are others'.
    published = quoted = []
    if profile == "paper":
        published, quoted = table.get("published", []), table.get("quoted", [])
    claims = own.get("claims", table.get("claims", ()))
    return Item(
        name,
        table["title"],
        table["source"],
        profile,
        _cells(table["study"], settings, published, quoted),
        (*table.get("notes", ()), *own.get("notes", ())),
        requires,
        tuple(_built(Claim, claim) for claim in claims),
        plot,
    )


def _settings(
    study: type[Study],
    groups: Iterable[dict[str, Any]],
    shared: dict[str, Any],
    last: dict[str, Any],
) -> list[Study]:
    """Those of each cell: what all share, what tells it from others, and at last what the command line says."""
    found: list[Study] = []
    for group in groups:
        for row in _combinations(group, words_of(study)):
            one = build(study, shared | row | last)
            if last.keys() & row.keys() and one in found:
                continue  # it was told from another by what the command line now says of both
            found.append(one)
    return found


def _plot(table: Any, known: set[str]) -> Plot:
    """How the item is drawn, over settings that its study has."""
    plot = _built(Plot, table)
    for axis in (plot.x, *plot.series):
        if axis not in {*known, *DERIVED, "index"}:
            raise ValueError(
                f"[plot] names {axis!r}, which is no setting; there are {', '.join(sorted(known))}"
            )
    return plot


def _built(kind: type[Made], table: Any) -> Made:
    """A dataclass from a table of a TOML file, where tuples are lists."""
    if not isinstance(table, dict):
        raise ValueError(f"[{kind.__name__.lower()}] is {shown(table)}, no table")
    check_keywords(table, [kind])
    return kind(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    )


def _combinations(group: dict[str, Any], known: Mapping[str, Word]) -> Iterable[dict[str, Any]]:
    """Every combination of the listed values; a tuple-valued setting is listed as a list of lists."""
    axes = []
    for key, value in group.items():
        listed = isinstance(value, list)
        if listed and key in known and known[key].is_list:
            listed = bool(value) and isinstance(value[0], list)
        choices = value if listed else [value]
        axes.append([(key, one) for one in choices])

    if (count := math.prod(map(len, axes))) > MOST_CELLS:
        raise ValueError(f"[[cells]] makes {count:,} combinations; an item may have {MOST_CELLS:,}")
    return (dict(chosen) for chosen in itertools.product(*axes))


def _cells(
    study: str,
    settings: list[Study],
    published: list[dict[str, Any]],
    quoted: list[dict[str, Any]],
) -> tuple[Cell, ...]:
    """A cell for each of the settings, with what tells it from the others and what is stated of it."""
    every = [record_of(one) for one in settings]
    _refuse_doubles(settings, every)
    differing = _differing(every)
    by_paper = _stated(Published, published, every)
    by_others = _stated(Quoted, quoted, every)
    return tuple(
        Cell(study, one, {key: values.get(key) for key in differing}, said, also)
        for one, values, said, also in zip(settings, every, by_paper, by_others, strict=True)
    )


def _refuse_doubles(settings: list[Study], every: list[dict[str, Any]]) -> None:
    """Refuse cells that would measure the same under two names, such as churn beyond EDM's cap.

    Cells at rho = 1 that differ in other settings of rho are let pass: each begins a curve of its own.
    """
    seen: dict[str, int] = {}
    for number, one in enumerate(settings):
        effect = json.dumps(one.effect(), sort_keys=True)
        first = seen.setdefault(effect, number)
        if first != number:
            names = _differing([every[first], every[number]])
            pair = (
                ", ".join(f"{name} = {every[which].get(name)}" for name in names)
                for which in (first, number)
            )
            raise ValueError(
                f"cells {first} and {number} measure the same: {' and '.join(pair)}; leave one out"
                if names
                else f"cells {first} and {number} are the same; leave one out"
            )


def _differing(every: list[dict[str, Any]]) -> list[str]:
    """The settings that are not the same everywhere."""
    seen: dict[str, set[str]] = {}
    for values in every:
        seen |= {name: set() for name in values if name not in seen}
    for values in every:
        for name, texts in seen.items():
            texts.add(repr(values.get(name)))
    return [name for name, texts in seen.items() if len(texts) > 1]


def _stated(
    kind: type[Value], entries: list[Any], cells: list[dict[str, Any]]
) -> list[tuple[Value, ...]]:
    """What is stated of each cell, whose settings are given.

    Raises:
        ValueError: if an entry is of none of the cells.
    """
    found: list[list[Value]] = [[] for _ in cells]
    for entry in entries:
        match, value = _entry(kind, entry)
        here = [
            own
            for own, values in zip(found, cells, strict=True)
            if all(values.get(key) == wanted for key, wanted in match.items())
        ]
        if cells and not here:
            raise ValueError(f"no cell matches the published value {value.value} ({match})")
        for own in here:
            own.append(value)
    return [tuple(own) for own in found]


def _entry(kind: type[Value], entry: Any) -> tuple[dict[str, Any], Value]:
    """Of which cells something is stated, and what."""
    if not isinstance(entry, dict):
        raise ValueError(f"[[{kind.__name__.lower()}]] is {shown(entry)}, no table")
    _refuse_unknown(entry, {"match", *(one.name for one in fields(kind))})
    match = entry["match"]
    if not isinstance(match, dict):
        raise ValueError(f"match is {shown(match)}; it must be a table of settings")
    return match, _built(kind, {key: value for key, value in entry.items() if key != "match"})


def _refuse_unknown(table: dict[str, Any], known: set[str]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; there are {', '.join(sorted(known))}")
