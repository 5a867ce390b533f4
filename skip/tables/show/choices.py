"""What an item's cells share, and the choices that the paper leaves open, as its table names them."""

from typing import Any

from skip.tables.cells.generated import Generated
from skip.tables.cells.network import Inversion
from skip.tables.cells.settings import AnyRange
from skip.tables.cells.words import values_of, words_of
from skip.tables.item import Cell, Item, setting
from skip.tables.show.labels import caption

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
    common = _common(item, SAID_ELSEWHERE | varies)
    solvers = _solvers(item, varies, common)

    sentences = [_files_and_images(first, varies)]
    if common:
        sentences.append(f"In every cell: {caption(common)}.")
    if solvers:
        sentences.append(f"Solvers: {'; '.join(solvers)}.")
    return " ".join(sentences)


def _files_and_images(first: Cell, varies: set[str]) -> str:
    """The files that all cells share, and how many images of which seeds they have."""
    parts = []
    sources = [
        f"{role} {name}" for role, name in first.settings.sources().items() if role not in varies
    ]
    if sources:
        parts.append(", ".join(sources))
    if "seeds" not in varies and first.settings.count:
        parts.append(f"{first.settings.count} images a cell (seeds {first.settings.seeds})")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _common(item: Item, said: set[str]) -> dict[str, Any]:
    """Settings that no cell varies: those that are not the default, and the open ones."""
    tuned = any(setting(cell, "rho") not in (1, None) for cell in item.cells)
    named = OPEN | OPEN_WHEN_TUNED if tuned else OPEN

    first = item.cells[0].settings
    words = words_of(type(first))
    found = {}
    for name, value in values_of(first).items():
        if name in said or value is None:
            continue
        if name in named or value != words[name].default:
            found[name] = value
    return found


def _solvers(item: Item, varies: set[str], common: dict[str, Any]) -> list[str]:
    """The open choices of each solver: "unipc: order 3, variant bh1, sigmas logsnr"."""
    seen = set()
    found = []
    for cell in item.cells:
        study = cell.settings
        if not isinstance(study, Generated | Inversion):
            continue
        solver = study.sampler
        if solver.sampler in seen:
            continue
        seen.add(solver.sampler)

        options = solver.resolved(AnyRange()) | {"sigmas": solver.grid}
        if isinstance(study, Inversion):
            del options["ending"]  # it climbs from the lowest level, below which nothing follows
        said = set(common) | {name for name in varies if setting(cell, name) is not None}
        told = {
            name: options[name] for name in OPEN_OF_SOLVER if name in options and name not in said
        }
        if told:
            found.append(f"{solver.sampler}: {caption(told)}")
    return found
