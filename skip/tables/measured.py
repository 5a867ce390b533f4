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
        """The first of the outcomes with a plain network whose cell is otherwise the same; None of a plain one itself.

        Where other methods act on the skips in all cells, it is the one at rho = 1 with the same method.
        """
        rho, method = (outcome.cell.by_name.get(name) for name in ("rho", "skip_method"))
        if rho is None or (rho == 1 and method is None):
            return None
        same = _without_skips(outcome.cell)
        return self._baselines.get((same, None)) or (
            None if rho == 1 else self._baselines.get((same, method))
        )

    @cached_property
    def _baselines(self) -> dict[tuple[Hashable, str | None], Outcome]:
        """The first at rho = 1, by all that is not of the skips and by the other methods on these."""
        found: dict[tuple[Hashable, str | None], Outcome] = {}
        for outcome in self.outcomes:
            values = outcome.cell.by_name
            if values.get("rho") == 1:
                found.setdefault((_without_skips(outcome.cell), values.get("skip_method")), outcome)
        return found


def _without_skips(cell: Cell) -> Hashable:
    return settings_without(cell, SKIP_SETTINGS | {"skip_method"})


def settings_without(cell: Cell, names: set[str]) -> Hashable:
    """What the cells have in common that differ in these settings alone."""
    values = values_of(cell.settings)
    return tuple((name, value) for name, value in values.items() if name not in names)
