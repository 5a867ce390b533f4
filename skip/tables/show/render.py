"""Items as Markdown, CSV and JSON: what was measured, beside what the paper states."""

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnnlib.seeds import format_seeds
from skip.evidence.estimate import Estimate, as_text, difference, ratio, rounded
from skip.tables.cells.settings import plain
from skip.tables.results import Results, kind_in_words
from skip.tables.show import plots
from skip.tables.show.choices import made_of
from skip.tables.show.points import (
    Sweep,
    caption,
    label,
    least_of_three,
    plain_cell,
    resolve,
    shown,
    sweeps,
    verdicts,
    written,
)
from skip.tables.spec import Cell, Item, nfe

WIDE = 8  # a table of more values than this has them as rows
COLUMNS = ["item", "profile", "study", "settings", "name", "value", "error", "published", "where", "command"]

Render = Callable[[list[Item], Results, Path | None], str]


def markdown(items: list[Item], results: Results, pictures: Path | None = None) -> str:
    """A section an item: what and how, the table, the best rho of each sweep, and whether the paper's claims are seen.

    Several items have an overview before them.

    Args:
        items: in order.
        results: of their cells.
        pictures: folder to draw them into; links are relative to docs/ if it lies below.
    Raises:
        ValueError, FileNotFoundError, RuntimeError: if a claim, a plot or a picture cannot be made.
    """
    overview = [_overview(items, results)] if len(items) > 1 else []
    return "\n\n".join([*overview, *(_section(item, results, pictures) for item in items)]) + "\n"


def as_csv(items: list[Item], results: Results, pictures: Path | None = None) -> str:
    """A row for each value of each cell, and for what the paper states and is not measured; arguments as `markdown`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        _draw(item, results, pictures)
        for cell in item.cells:
            values = results.load(cell) or {}
            settings = " ".join(f"{name}={shown(value)}" for name, value in cell.varies.items())
            start = [item.name, item.profile, cell.study, settings]
            stated = {resolve(p.metric, values) or p.metric: p for p in cell.published}
            for name in dict.fromkeys([*values, *stated]):
                own, said = values.get(name), stated.get(name)
                measured = [own.value, own.error] if own else [None, None]
                quoted = [said.value, said.where] if said else [None, None]
                writer.writerow([*start, name, *measured, *quoted, command(item)])
    return file.getvalue()


def as_json(items: list[Item], results: Results, pictures: Path | None = None) -> str:
    """A list of items with everything that `markdown` shows, all settings, and whole numbers; arguments as there."""
    found = []
    for item in items:
        _draw(item, results, pictures)
        about = {name: getattr(item, name) for name in ("name", "title", "source", "profile", "notes", "requires")}
        found.append(
            about
            | {
                "command": command(item),
                "cells": [_cell_record(cell, results) for cell in item.cells],
                "best": [_best_record(sweep) for sweep in sweeps(item, results)],
                "verdicts": [judged._asdict() for judged in verdicts(item, results)],
            }
        )
    return json.dumps(found, indent=2) + "\n"


FORMATS: dict[str, Render] = {"markdown": markdown, "csv": as_csv, "json": as_json}


def command(item: Item) -> str:
    """What measures the item."""
    if item.profile == "demo":
        return f"python tables.py run {item.name}{item.flags}"
    return (
        f"torchrun --standalone --nproc_per_node=gpu -- tables.py run {item.name} --profile {item.profile}{item.flags}"
    )


def heading(item: Item) -> str:
    """ "Table 2: Few steps", the name as the paper writes it."""
    found = re.fullmatch(r"(table|figure)(\d+)", item.name)
    return f"{f'{found[1].capitalize()} {found[2]}' if found else item.name}: {item.title}"


def _overview(items: list[Item], results: Results) -> str:
    """What is measured, how to read it, and every claim in one table."""
    rows = []
    for item in items:
        name = heading(item).partition(":")[0]
        if item.requires:
            rows.append([name, "", f"not run: it needs {item.requires}"])
            continue
        for judged in verdicts(item, results):
            rows.append([name, judged.says, judged.seen or "not yet measured"])
    return (
        f"# Results, profile {items[0].profile}\n\n"
        "± and error bars are one standard error over the images of a cell. Cells share their seeds, so differences "
        "are paired, and far more certain than two values side by side. A direction that the paper reports is *seen* "
        "if it exceeds what chance allows at 5%, after picking the best of several.\n\n"
        + _grid(["", "the paper's direction", "here"], rows, "lll")
    )


def _section(item: Item, results: Results, pictures: Path | None) -> str:
    parts = [f"## {heading(item)}"]
    if item.requires:
        return f"{parts[0]}\n\nNot run: it needs {item.requires}."
    parts += [f"In the paper: {item.source}.", f"```bash\n{command(item)}\n```", made_of(item)]
    notes = [*item.notes, *_elsewhere(item, results)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    measured = [results.load(cell) for cell in item.cells]
    names = list(dict.fromkeys(name for values in measured for name in values or ()))
    plain_names = [name for name in names if "[" not in name]
    table = _transposed if len(plain_names) > WIDE else _table
    parts.append(table(item, results, measured, plain_names))
    if len(names) > len(plain_names):
        parts.append(_by_index(item, measured, [name for name in names if "[" in name]))
    for path in _draw(item, results, pictures)[:1]:
        below_docs = path.parts[0] == "docs"
        link = Path(os.path.relpath(path, "docs") if below_docs else path).as_posix()
        parts.append(f"![{heading(item)}]({link})")
    if best := sweeps(item, results):
        parts.append("Best rho, between the points of the grid:\n\n" + "\n".join(map(_best, best)))
    if judged := verdicts(item, results):
        parts.append("What the paper says of it:\n\n" + "\n".join(f"- {_pm(one.sentence)}" for one in judged))
    return "\n\n".join(parts)


def _elsewhere(item: Item, results: Results) -> list[str]:
    """What values were computed in that this machine would compute otherwise: a sentence for each kind."""
    cells: dict[str, list[int]] = {}
    for number, cell in enumerate(item.cells):
        kind = results.computed_in(cell) if results.elsewhere(cell) else None
        if kind is not None:
            cells.setdefault(kind_in_words(kind), []).append(number)
    return [
        f"Computed in {words}, not as this machine would: "
        + ("all cells." if len(numbers) == len(item.cells) else f"cells {format_seeds(numbers)} of `tables.py list`.")
        for words, numbers in cells.items()
    ]


def _table(item: Item, results: Results, measured: list[dict[str, Estimate] | None], names: list[str]) -> str:
    """A row a cell."""
    keys = list(item.cells[0].varies)
    evaluations = [nfe(cell) for cell in item.cells]
    compared = [_compared(item, cell, results, names[0]) if len(names) == 1 else "" for cell in item.cells]
    sheet = item.cells[0].study == "sheet"
    paper = item.profile == "paper" and (not sheet or any(cell.published for cell in item.cells))
    head = [written(key) for key in keys] + ["NFE"] * any(evaluations)
    gaps = (
        " (difference from rho 1)" if any(_compared(item, c, results, n) for c in item.cells for n in names[1:]) else ""
    )
    head += [label(name) + gaps for name in names] or ["measured"]
    head += ["difference from rho 1"] if any(compared) else []
    head += ["paper", "where"] * paper
    rows = []
    for cell, values, calls, gap in zip(item.cells, measured, evaluations, compared, strict=True):
        row = [shown(cell.varies[key]) for key in keys] + [str(calls)] * any(evaluations)
        if values is None:
            row += [results.state(cell)] + [""] * (len(names) - 1)
        else:
            own = [_compared(item, cell, results, name) if len(names) > 1 else "" for name in names]
            least = [_least(cell, results, name) for name in names]
            row += [
                _value(values.get(n)) + f" ({o})" * bool(o) + lowest
                for n, o, lowest in zip(names, own, least, strict=True)
            ] or [""]
        row += [gap] * any(compared)
        if paper:
            row += [
                _stated(cell, ["images"] if sheet else names[:1]),
                "; ".join(dict.fromkeys(p.where for p in cell.published)),
            ]
        rows.append(row)
    return _grid(head, rows, "l" * len(keys) + "r" * (len(head) - len(keys) - paper) + "l" * paper)


def _transposed(item: Item, results: Results, measured: list[dict[str, Estimate] | None], names: list[str]) -> str:
    """A row a value; what the paper states stands in brackets."""
    rows = []
    for name in names:
        row = [label(name)]
        for cell, values in zip(item.cells, measured, strict=True):
            text = results.state(cell) if values is None else _value(values.get(name))
            text += _relative(item, cell, results, name)
            stated = [f"{p.value:g}, {p.where}" for p in cell.published if resolve(p.metric, names) == name]
            row.append(f"{text} (paper: {'; '.join(stated)})" if stated else text)
        rows.append(row)
    return _grid(["", *_captions(item)], rows, "l" + "r" * len(item.cells))


def _by_index(item: Item, measured: list[dict[str, Estimate] | None], names: list[str]) -> str:
    """A row an index: values that are called name[0], name[1], ..."""
    bases = list(dict.fromkeys(name.partition("[")[0] for name in names))
    indices = list(dict.fromkeys(name.partition("[")[2].rstrip("]") for name in names))
    captions = _captions(item)
    columns: list[tuple[str, int]] = []
    head = ["index"]
    for base in bases:
        having = [at for at, values in enumerate(measured) if values and f"{base}[0]" in values]
        curves = [[(measured[at] or {}).get(f"{base}[{i}]") for i in indices] for at in having]
        same = all(curve == curves[0] for curve in curves)  # such as weights, which no setting changes
        for at in having[:1] if same else having:
            columns.append((base, at))
            head.append(label(base) if same else f"{label(base)}, {captions[at]}")
    rows = [[i, *(_value((measured[at] or {}).get(f"{base}[{i}]")) for base, at in columns)] for i in indices]
    return _grid(head, rows, "r" * len(head))


def _captions(item: Item) -> list[str]:
    return [caption(cell.varies) or "measured" for cell in item.cells]


def _grid(head: list[str], rows: list[list[str]], sides: str) -> str:
    """A Markdown table; `sides` says "l" or "r" for each column."""
    rule = ["---" if side == "l" else "---:" for side in sides]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def _compared(item: Item, cell: Cell, results: Results, name: str) -> str:
    """The difference of a value from the same cell at rho = 1."""
    pair = _with_plain(item, cell, results, name)
    return _pm(as_text(difference(*pair), "+")) if pair else ""


def _relative(item: Item, cell: Cell, results: Results, name: str) -> str:
    """A value as a multiple of that of the same cell at rho = 1; an unbiased estimate near 0 has none."""
    pair = _with_plain(item, cell, results, name)
    if pair is None or pair[1].value <= 2 * (pair[1].error or 0):
        return ""
    return f" ({_pm(as_text(ratio(*pair)))} of rho 1)"


def _least(cell: Cell, results: Results, name: str) -> str:
    """EDM's protocol, where all three seed ranges are measured."""
    least = least_of_three(cell, results, name)
    return "" if least is None else f", least of three seed ranges {rounded(least.value, least.error)}"


def _with_plain(item: Item, cell: Cell, results: Results, name: str) -> tuple[Estimate, Estimate] | None:
    if cell.study == "sheet":  # the number of its images is no metric
        return None
    other = plain_cell(item, cell)
    ours, theirs = results.load(cell) or {}, (results.load(other) or {}) if other else {}
    return (ours[name], theirs[name]) if name in ours and name in theirs else None


def _stated(cell: Cell, first: list[str]) -> str:
    """What the paper states; named unless it is of the first value column, or of the only one."""
    texts = []
    for p in cell.published:
        bare = resolve(p.metric, first) is not None if first else len({q.metric for q in cell.published}) == 1
        texts.append(f"{p.value:g}" if bare else f"{label(p.metric)} {p.value:g}")
    return ", ".join(texts) or "not stated"


def _best(sweep: Sweep) -> str:
    where = caption(sweep.settings) or "all cells"
    best = sweep.best
    if best is None or sweep.name is None:
        return f"- {where}: not yet measured"
    error = f" ± {rounded(best.error, best.error)}" if best.error else ""
    edge = ", an end of the grid: the best may lie beyond" if best.at_edge else ""
    text = f"- {where}: {rounded(best.rho, best.error)}{error}{edge} ({label(sweep.name)} {_value(best.value)}"
    return text + (f", {_pm(as_text(best.gain, '+'))} from rho 1)" if best.gain and best.rho != 1 else ")")


def _value(estimate: Estimate | None) -> str:
    return "" if estimate is None else _pm(as_text(estimate))


def _pm(text: str) -> str:
    return text.replace("+-", "±")


def _draw(item: Item, results: Results, pictures: Path | None) -> list[Path]:
    return [] if pictures is None or item.requires else plots.save(item, results, pictures)


def _cell_record(cell: Cell, results: Results) -> dict[str, Any]:
    values = results.load(cell) or {}
    least = {name: least_of_three(cell, results, name) for name in values}
    return {
        "study": cell.study,
        "settings": plain(cell.settings),
        "varies": cell.varies,
        "nfe": nfe(cell),
        "state": results.state(cell),
        "computed_in": results.computed_in(cell),
        "values": {name: {"value": e.value, "error": e.error} for name, e in values.items()},
        "least_of_three": {name: one.value for name, one in least.items() if one is not None},
        "published": [{"metric": p.metric, "value": p.value, "where": p.where} for p in cell.published],
    }


def _best_record(sweep: Sweep) -> dict[str, Any]:
    record: dict[str, Any] = {"settings": sweep.settings, "name": sweep.name}
    if (best := sweep.best) is None:
        return record | {"rho": None}
    record |= {name: getattr(best, name) for name in ("rho", "error", "low", "high", "at_edge")}
    for name, estimate in (("value", best.value), ("gain", best.gain)):
        record[name] = None if estimate is None else {"value": estimate.value, "error": estimate.error}
    return record
