"""What an item's cells share, and the choices that the paper leaves open, as its table names them."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from skip.tables.cells.generated import Generated
from skip.tables.cells.measured import Inversion
from skip.tables.cells.settings import AnyRange, sampler_of
from skip.tables.show.points import caption
from skip.tables.spec import Item, setting

SAID_ELSEWHERE = {"network", "detector", "reference", "data", "seeds", "metrics", "features"}
# The paper is silent about these, so that even a default is named. The second need a rho other than 1, the third are
# a solver's: those it has, with its own defaults filled in.
OPEN = {"sampler", "labels", "input", "weighting"}
OPEN_WHEN_TUNED = {"across", "spacing"}
OPEN_OF_SOLVER = ("order", "variant", "thresholding", "sigmas", "ending")


def made_of(item: Item) -> str:
    """Files and images, the settings that all cells share, and the open choices, default or not.

    Args:
        item: with cells.
    Returns:
        One line: "Network demo; 2000 images a cell (seeds 0-1999). In every cell: sampler heun, labels random, ..."
    """
    first = item.cells[0]
    varies = set(first.varies)
    sources = ", ".join(f"{role} {name}" for role, name in first.settings.sources().items() if role not in varies)
    parts = [sources] if sources else []
    if "seeds" not in varies:
        parts.append(f"{first.settings.count} images a cell (seeds {first.settings.seeds})")
    text = "; ".join(parts)
    common = _common(item, SAID_ELSEWHERE | varies)
    solvers = list(_solvers(item, varies, common))
    return " ".join(
        [
            text[:1].upper() + text[1:] + ".",
            *([f"In every cell: {caption(common)}."] if common else []),
            *([f"Solvers: {'; '.join(solvers)}."] if solvers else []),
        ]
    )


def _common(item: Item, said: set[str]) -> dict[str, Any]:
    """Settings that no cell varies: those that are not the default, and the open ones."""
    first = item.cells[0].settings
    tuned = any(setting(cell, "rho") not in (1, None) for cell in item.cells)
    always = OPEN | (OPEN_WHEN_TUNED if tuned else set())
    found = {}
    for field in fields(first):  # type: ignore[arg-type]
        value = getattr(first, field.name)
        usual = field.default is not MISSING and value == field.default and field.name not in always
        if field.name not in said and value is not None and not usual:
            found[field.name] = value
    return found


def _solvers(item: Item, varies: set[str], common: dict[str, Any]) -> Iterator[str]:
    """The open choices of each solver: "unipc: order 3, variant bh1, sigmas logsnr"."""
    seen = set()
    for cell in item.cells:
        if not isinstance(cell.settings, Generated | Inversion):
            continue
        solver = sampler_of(cell.settings)
        if solver.sampler in seen:
            continue
        seen.add(solver.sampler)
        options = solver.resolved(AnyRange()) | {"sigmas": solver.grid}
        if isinstance(cell.settings, Inversion):
            del options["ending"]  # it climbs from the lowest level, below which nothing follows
        said = set(common) | {name for name in varies if setting(cell, name) is not None}
        told = {name: options[name] for name in OPEN_OF_SOLVER if name in options and name not in said}
        if told:
            yield f"{solver.sampler}: {caption(told)}"
