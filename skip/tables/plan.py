"""What would run: which cells, in which state, at what cost, with which downloads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnnlib.seeds import parse_seeds
from skip.tables.item import Cell, Item
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome, kind_in_words
from skip.tables.sources import local_path, location


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
    cells = _by_settings(item, which) if "=" in which else _by_number(item, which)
    if not cells:
        raise ValueError(
            f"--cells={which}: {item.name} has no such cell; python tables.py list {item.name} shows them"
        )
    return replace(item, cells=tuple(cells))


def _by_settings(item: Item, which: str) -> list[Cell]:
    wanted = dict(_pair(part) for part in which.split(","))
    for name in wanted:
        if not any(name in cell.by_name for cell in item.cells):
            raise ValueError(f"--cells={which}: no cell of {item.name} has a setting {name!r}")

    def fits(cell: Cell) -> bool:
        return all(_is(cell.by_name.get(name), text) for name, text in wanted.items())

    return [cell for cell in item.cells if fits(cell)]


def _by_number(item: Item, which: str) -> list[Cell]:
    try:
        numbers = parse_seeds(which)
    except ValueError:
        raise ValueError(
            f"--cells={which} is neither numbers, as 0,3-5, nor settings, as nfe=9,rho=0.8"
        ) from None
    if len(numbers) > len(item.cells) or max(numbers) >= len(item.cells):
        raise ValueError(f"--cells={which}: {item.name} has the cells 0 to {len(item.cells) - 1}")
    return [item.cells[number] for number in numbers]


def summary(measured: MeasuredItem) -> str:
    """One line: name, cells done, evaluations to go, title."""
    item = measured.item
    if item.requires:
        return f"{item.name:12s} needs {item.requires}"

    left = [outcome for outcome in measured.distinct if not outcome.done]
    of = len(measured.distinct)
    text = f"{of - len(left):3d}/{of:<3d} done"

    stale = sum(outcome.state == "stale" for outcome in left)
    if stale:
        text += f", {stale} stale: made with other files"
    elsewhere = sum(outcome.elsewhere for outcome in measured.distinct)
    if elsewhere:
        text += f", {elsewhere} on another kind of device"

    return (
        f"{item.name:12s} {text}  {count(_evaluations(left)):>7s} evaluations to go  {item.title}"
    )


def lines(measured: MeasuredItem) -> Iterator[str]:
    """One line a cell: number, state, evaluations, settings."""
    for number, outcome in enumerate(measured.outcomes):
        cost = count(outcome.cell.settings.evaluations())
        line = f"  {number:3d}  {outcome.state:6s} {cost:>7s}  {settings(outcome.cell)}"
        if outcome.elsewhere and outcome.computed_in is not None:
            line += f"  (in {kind_in_words(outcome.computed_in)})"
        yield line


def dry_run(items: Sequence[MeasuredItem]) -> Iterator[str]:
    """Every cell that would run, the sum, and the files that it needs and are not here."""
    for measured in items:
        yield summary(measured)
        yield from lines(measured)

    left = to_measure(items)
    yield f"{len(left)} cells to measure, {count(_evaluations(left))} evaluations"
    for role, name, where in _missing(left):
        what = "to prepare" if _by_hand(role, where) else "to download"
        place = "" if str(where) == name else f" ({where})"
        yield f"{what}: {role} {name}{place}"


def refuse_missing(items: Sequence[MeasuredItem]) -> None:
    """Refuse what a run would stop at.

    Raises:
        ValueError: if a file is not here and nothing fetches it.
    """
    for role, name, where in _missing(to_measure(items)):
        if _by_hand(role, where):
            raise ValueError(
                f"the run would stop at the {role} {name}: nothing fetches it, put it there first ({where})"
            )


def nothing_to_do(items: Sequence[MeasuredItem], folder: Path) -> Iterator[str]:
    """What to say before a run of the items that it passes over: they lack something, or are done.

    Args:
        items: of the run.
        folder: of the results.
    """
    done = []
    for measured in items:
        item = measured.item
        if item.requires:
            yield f"{item.name} is left out: it needs {item.requires}"
        elif all(outcome.done for outcome in measured.outcomes):
            done.append(item.name)
    if done:
        yield (
            f"nothing to do for {', '.join(done)}: all cells are in {folder} already, and tables.py show "
            "lays them out; to measure them anew, name another folder, such as --results out/mine"
        )


def to_measure(items: Sequence[MeasuredItem]) -> list[Outcome]:
    """The cells that are not done, each once, whatever items share it."""
    found: dict[Path, Outcome] = {}
    for measured in items:
        found |= {outcome.path: outcome for outcome in measured.distinct if not outcome.done}
    return list(found.values())


def _evaluations(outcomes: Iterable[Outcome]) -> int:
    return sum(outcome.cell.settings.evaluations() for outcome in outcomes)


def _missing(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str | Path]]:
    """Role, name and place of each file that the cells need and that is not here."""
    found: dict[tuple[str, str], str | Path] = {}
    for outcome in outcomes:
        for role, name in outcome.cell.settings.sources().items():
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
