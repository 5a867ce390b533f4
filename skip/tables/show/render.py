"""Measured items as Markdown, a page, CSV and JSON, and drawn."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dnnlib.keywords import resolved
from skip.evidence.estimate import Estimate
from skip.tables.cells.words import record_of
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome
from skip.tables.show import names, plots
from skip.tables.show.labels import resolve, shown
from skip.tables.show.markdown import command, overview, section
from skip.tables.show.sweeps import Sweep, sweeps
from skip.tables.show.verdicts import Judged, verdicts

COLUMNS = [
    "item", "profile", "study", "settings", "name", "value", "error", "published", "where",
    "command",
]  # fmt: skip

Render = Callable[[Sequence[MeasuredItem], Path | None, int | None], str]


def markdown(
    items: Sequence[MeasuredItem], pictures: Path | None = None, zoom: int | None = None
) -> str:
    """A section an item: what and how, the table, the best rho of each sweep, and whether the paper's claims are seen.

    Several items have an overview before them.

    Args:
        items: in order.
        pictures: folder to draw them into; links are relative to docs/ if it lies below.
        zoom: of their sheets of images, as that of `sheets.sheets`.
    Raises:
        ValueError, FileNotFoundError, RuntimeError: if a claim, a plot or a picture cannot be made.
    """
    judged = [verdicts(measured) for measured in items]
    parts = [overview(items, judged)] if len(items) > 1 else []
    for measured, found in zip(items, judged, strict=True):
        parts.append(section(measured, found, _draw(measured, pictures, zoom)))
    return "\n\n".join(parts) + "\n"


def as_csv(
    items: Sequence[MeasuredItem], pictures: Path | None = None, zoom: int | None = None
) -> str:
    """A row for each value of each cell, and for what the paper states and is not measured; arguments as `markdown`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for measured in items:
        _draw(measured, pictures, zoom)
        for outcome in measured.outcomes:
            writer.writerows(_rows(measured, outcome))
    return file.getvalue()


def _rows(measured: MeasuredItem, outcome: Outcome) -> list[list[Any]]:
    """Of one cell, as COLUMNS say."""
    item, cell = measured.item, outcome.cell
    settings = " ".join(f"{name}={shown(value)}" for name, value in cell.varies.items())
    start = [item.name, item.profile, cell.study, settings]
    stated = {resolve(one.metric, outcome.values) or one.metric: one for one in cell.published}

    rows = []
    for name in dict.fromkeys([*outcome.values, *stated]):
        own, said = outcome.values.get(name), stated.get(name)
        measured_here = [own.value, own.error] if own else [None, None]
        quoted = [said.value, said.where] if said else [None, None]
        rows.append([*start, name, *measured_here, *quoted, command(item)])
    return rows


def as_json(
    items: Sequence[MeasuredItem], pictures: Path | None = None, zoom: int | None = None
) -> str:
    """A list of items with everything that `markdown` shows, all settings, and whole numbers; arguments as there."""
    found = []
    for measured in items:
        _draw(measured, pictures, zoom)
        item = measured.item
        record = {
            name: getattr(item, name)
            for name in ("name", "title", "source", "profile", "notes", "requires")
        }
        record["command"] = command(item)
        record["cells"] = [_cell_record(outcome) for outcome in measured.outcomes]
        record["best"] = [_best_record(sweep) for sweep in sweeps(measured)]
        record["verdicts"] = [_verdict_record(judged) for judged in verdicts(measured)]
        found.append(record)
    return json.dumps(found, indent=2) + "\n"


FORMATS: dict[str, Render] = resolved(__package__, names.FORMATS)


def _draw(measured: MeasuredItem, pictures: Path | None, zoom: int | None) -> list[Path]:
    """The pictures of an item, drawn into a folder, if there is one to draw into."""
    if pictures is None or measured.item.requires:
        return []
    return plots.save(measured, pictures, zoom)


def _cell_record(outcome: Outcome) -> dict[str, Any]:
    cell = outcome.cell
    return {
        "study": cell.study,
        "settings": record_of(cell.settings),
        "varies": cell.varies,
        "nfe": cell.by_name["nfe"],
        "state": outcome.state,
        "computed_in": outcome.computed_in,
        "values": {name: _value_record(estimate) for name, estimate in outcome.values.items()},
        "least_of_three": {
            name: estimate.value for name, estimate in outcome.least_of_three.items()
        },
        "published": [asdict(published) for published in cell.published],
        "quoted": [asdict(quoted) for quoted in cell.quoted],
    }


def _verdict_record(judged: Judged) -> dict[str, Any]:
    return judged._asdict() | {"rows": [row._asdict() for row in judged.rows]}


def _value_record(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "error": estimate.error}


def _best_record(sweep: Sweep) -> dict[str, Any]:
    record: dict[str, Any] = {"settings": sweep.settings, "name": sweep.name}
    best = sweep.best
    if best is None:
        return record | {"rho": None}

    record |= {name: getattr(best, name) for name in ("rho", "error", "low", "high", "at_edge")}
    record["value"] = _value_record(best.value)
    record["gain"] = None if best.gain is None else _value_record(best.gain)
    return record
