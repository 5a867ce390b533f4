"""An item with what was measured of it: read once, then shown, planned and judged."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

from skip.tables.cells.words import SCALE_WORDS, values_of
from skip.tables.item import Cell, Item
from skip.tables.results import Outcome, Results

SKIP_SETTINGS = {*SCALE_WORDS, "target"}  # without effect at rho = 1


@dataclass(frozen=True)
class MeasuredItem:
    """A table or figure, and what a folder of results says of each of its cells.

    Attributes:
        item: as its TOML describes it.
        outcomes: of its cells, in their order.
    """

    item: Item
    outcomes: tuple[Outcome, ...]

    @classmethod
    def read(cls, item: Item, results: Results, seed_ranges: bool = False) -> "MeasuredItem":
        """Look each cell up.

        Args:
            item: as its TOML describes it.
            results: where to look.
            seed_ranges: also for the least FID of three ranges of seeds, which tables show.
        Raises:
            ValueError: if the file of a result is damaged.
        """
        return cls(item, tuple(results.read(cell, seed_ranges) for cell in item.cells))

    @cached_property
    def distinct(self) -> list[Outcome]:
        """Each cell once, in order: a table may show one twice."""
        return list({outcome.path: outcome for outcome in self.outcomes}.values())

    @cached_property
    def done(self) -> list[Outcome]:
        """Those of `distinct` that are measured."""
        return [outcome for outcome in self.distinct if outcome.done]

    @cached_property
    def names(self) -> list[str]:
        """Of all values, in the order in which the cells have them."""
        return list(dict.fromkeys(name for outcome in self.outcomes for name in outcome.values))

    @property
    def scalars(self) -> list[str]:
        """Those of the names that stand alone."""
        return [name for name in self.names if "[" not in name]

    @property
    def indexed(self) -> list[str]:
        """Those that come as name[0], name[1], ..."""
        return [name for name in self.names if "[" in name]

    def baseline(self, outcome: Outcome) -> Outcome | None:
        """The first of the outcomes at rho = 1 whose cell is otherwise the same; None of one at rho = 1 itself."""
        if outcome.cell.by_name.get("rho") in (1.0, None):
            return None
        return self._baselines.get(settings_without(outcome.cell, SKIP_SETTINGS))

    @cached_property
    def _baselines(self) -> dict[Hashable, Outcome]:
        found: dict[Hashable, Outcome] = {}
        for outcome in self.outcomes:
            if outcome.cell.by_name.get("rho") == 1:
                found.setdefault(settings_without(outcome.cell, SKIP_SETTINGS), outcome)
        return found


def settings_without(cell: Cell, names: set[str]) -> Hashable:
    """What the cells have in common that differ in these settings alone."""
    values = values_of(cell.settings)
    return tuple((name, value) for name, value in values.items() if name not in names)
