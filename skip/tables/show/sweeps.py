"""The best rho of each sweep of an item."""

from collections.abc import Hashable
from typing import Any, NamedTuple

from skip.evidence.best import Best, best_rho
from skip.evidence.estimate import Estimate
from skip.tables.measured import MeasuredItem, settings_without
from skip.tables.results import Outcome
from skip.tables.show.labels import resolve


class Sweep(NamedTuple):
    """Cells that differ in rho alone: the other settings that vary, the value's name, its best (None if cells lack)."""

    settings: dict[str, Any]
    name: str
    best: Best | None


def sweeps(measured: MeasuredItem, metric: str = "fid", least: int = 3) -> list[Sweep]:
    """The best rho of every group of at least `least` cells that differ in rho alone, where the metric is measured."""
    groups: dict[Hashable, list[Outcome]] = {}
    for outcome in measured.distinct:
        groups.setdefault(settings_without(outcome.cell, {"rho"}), []).append(outcome)

    found = []
    for outcomes in groups.values():
        if len(outcomes) < least:
            continue
        rhos: list[float] = []
        estimates: list[Estimate] = []
        name = None
        for outcome in outcomes:
            own = resolve(metric, outcome.values)
            if own is not None:
                name = own
                rhos.append(outcome.cell.by_name["rho"])
                estimates.append(outcome.values[own])

        if name is not None:
            others = {key: value for key, value in outcomes[0].cell.varies.items() if key != "rho"}
            best = best_rho(rhos, estimates) if len(estimates) == len(outcomes) else None
            found.append(Sweep(others, name, best))
    return found
