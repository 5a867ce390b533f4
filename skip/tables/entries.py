"""What was measured of tables and figures, for sinks: a cell is a step of its item."""

from collections.abc import Iterable, Iterator

from dnnlib.sinks.sink import Entry
from skip.tables.item import Cell, Item
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome, Results

UNIT = "cell"


def entries(items: Iterable[Item], results: Results) -> Iterator[Entry]:
    """The cells that are done, each by its number in its item, which tables.py list shows.

    Args:
        items: tables and figures.
        results: where they are measured.
    """
    for item in items:
        outcomes = MeasuredItem.read(item, results).outcomes
        for number, (cell, outcome) in enumerate(zip(item.cells, outcomes, strict=True)):
            if outcome.done:
                yield Entry(item.name, number, _settings(cell) | _values(outcome))


def _settings(cell: Cell) -> dict[str, float]:
    """Those that tell it from the item's other cells, and are numbers."""
    return {
        name: value
        for name, value in cell.varies.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _values(outcome: Outcome) -> dict[str, float]:
    """Those that stand alone."""
    return {name: estimate.value for name, estimate in outcome.values.items() if "[" not in name}
