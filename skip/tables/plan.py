"""What would run: which cells, in which state, at what cost, with which downloads."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnnlib.seeds import parse_seeds
from skip.tables.results import Results, kind_in_words, local_path, location, unique
from skip.tables.spec import DERIVED, Cell, Item, setting


def select(item: Item, which: str | None) -> Item:
    """The item with some of its cells.

    Args:
        item: all of it.
        which: numbers as "0,3-5", or settings, also nfe, as "nfe=9,rho=0.8"; None keeps all.
    Raises:
        ValueError: if there is no such cell.
    """
    if which is None or not item.cells:
        return item
    if "=" in which:
        wanted = dict(_pair(part) for part in which.split(","))
        for name in wanted:
            if name not in DERIVED and not any(hasattr(cell.settings, name) for cell in item.cells):
                raise ValueError(f"--cells={which}: no cell of {item.name} has a setting {name!r}")
        cells = [cell for cell in item.cells if all(_is(setting(cell, k), v) for k, v in wanted.items())]
    else:
        try:
            numbers = parse_seeds(which)
        except ValueError:
            raise ValueError(f"--cells={which} is neither numbers, as 0,3-5, nor settings, as nfe=9,rho=0.8") from None
        if len(numbers) > len(item.cells) or max(numbers) >= len(item.cells):
            raise ValueError(f"--cells={which}: {item.name} has the cells 0 to {len(item.cells) - 1}")
        cells = [item.cells[number] for number in numbers]
    if not cells:
        raise ValueError(f"--cells={which}: {item.name} has no such cell; python tables.py list {item.name} shows them")
    return replace(item, cells=tuple(cells))


def summary(item: Item, results: Results) -> str:
    """One line: name, cells done, evaluations to go, title."""
    if item.requires:
        return f"{item.name:12s} needs {item.requires}"
    cells = unique(item.cells)
    states = [results.state(cell) for cell in cells]
    left = [cell for cell, state in zip(cells, states, strict=True) if state != "done"]
    todo = sum(cell.settings.evaluations() for cell in left)
    done = f"{len(cells) - len(left):3d}/{len(cells):<3d} done"
    stale = f", {states.count('stale')} stale: made with other files" if "stale" in states else ""
    there = sum(results.elsewhere(cell) for cell in cells)
    if there:
        stale += f", {there} on another kind of device"
    return f"{item.name:12s} {done}{stale}  {count(todo):>7s} evaluations to go  {item.title}"


def lines(item: Item, results: Results) -> Iterator[str]:
    """One line a cell: number, state, evaluations, settings."""
    for number, cell in enumerate(item.cells):
        cost = count(cell.settings.evaluations())
        yield f"  {number:3d}  {results.state(cell):6s} {cost:>7s}  {settings(cell)}{_elsewhere(cell, results)}"


def _elsewhere(cell: Cell, results: Results) -> str:
    kind = results.computed_in(cell) if results.elsewhere(cell) else None
    return f"  (in {kind_in_words(kind)})" if kind else ""


def dry_run(items: list[Item], results: Results) -> Iterator[str]:
    """Every cell that would run, the sum, and the files that it needs and are not here."""
    cells: list[Cell] = []
    for item in items:
        yield summary(item, results)
        yield from lines(item, results)
        cells += item.cells
    todo = [cell for cell in unique(cells) if results.state(cell) != "done"]
    yield f"{len(todo)} cells to measure, {count(sum(cell.settings.evaluations() for cell in todo))} evaluations"
    for role, name, where in _missing(todo):
        place = f" ({where})" if str(where) != name else ""
        yield f"{'to prepare' if _by_hand(role, where) else 'to download'}: {role} {name}{place}"


def refuse_missing(cells: list[Cell], results: Results) -> None:
    """Refuse what a run would stop at.

    Raises:
        ValueError: if a file is not here and nothing fetches it.
    """
    todo = [cell for cell in unique(cells) if results.state(cell) != "done"]
    for role, name, where in _missing(todo):
        if _by_hand(role, where):
            raise ValueError(
                f"the run would stop at the {role} {name}: nothing fetches it, put it there first ({where})"
            )


def nothing_to_do(items: list[Item], results: Results) -> Iterator[str]:
    """What to say before a run of the items that it passes over: they lack something, or are done."""
    done = []
    for item in items:
        if item.requires:
            yield f"{item.name} is left out: it needs {item.requires}"
        elif all(results.state(cell) == "done" for cell in item.cells):
            done.append(item.name)
    if done:
        yield (
            f"nothing to do for {', '.join(done)}: all cells are in {results.folder} already, and tables.py show "
            "lays them out; to measure them anew, name another folder, such as --results out/mine"
        )


def _missing(cells: list[Cell]) -> list[tuple[str, str, str | Path]]:
    """Role, name and place of each file that the cells need and that is not here."""
    found: dict[tuple[str, str], str | Path] = {}
    for cell in cells:
        for role, name in cell.settings.sources().items():
            path = local_path(role, name)
            if path is None or not path.exists():
                hub = "the Hugging Face hub, unless it is cached"
                found[role.partition(" ")[0], name] = location(role, name) or hub
    return [(role, name, where) for (role, name), where in found.items()]


def _by_hand(role: str, where: str | Path) -> bool:
    """Whether nothing fetches a file that is missing."""
    return role == "data" or isinstance(where, Path)


def settings(cell: Cell) -> str:
    """What tells a cell from its item's others."""
    return " ".join(f"{name}={value}" for name, value in cell.varies.items()) or "(one cell)"


def count(number: int) -> str:
    """A large number for people: 950, 1.2 k, 3.4 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)


def _is(value: Any, text: str) -> bool:
    """Whether the text says the value: numbers by their size, so that rho=1 is 1.0."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == text


def _pair(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise ValueError(f"--cells: {text!r} is not SETTING=VALUE, such as rho=0.8")
    return name.strip(), value.strip()
