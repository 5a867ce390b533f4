"""Items as Markdown: a section each, with what was measured beside what the paper states."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from dnnlib.seeds import format_seeds
from skip.evidence.claims import written
from skip.evidence.estimate import Estimate, as_text, difference, ratio, rounded
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome, kind_in_words
from skip.tables.show.choices import made_of
from skip.tables.show.sweeps import Sweep, sweeps
from skip.tables.show.verdicts import Judged
from skip.tables.show.words import caption, label, resolve, shown
from skip.tables.spec import Cell, Item

WIDE = 8  # a table of more values than this has them as rows


class Column(NamedTuple):
    """Of a table: what stands at the top, what below it, and on which side of the column."""

    head: str
    texts: list[str]
    side: Literal["left", "right"] = "right"


def overview(items: Sequence[MeasuredItem], judged: Sequence[Sequence[Judged]]) -> str:
    """What is measured, how to read it, and every claim in one table.

    Args:
        items: in order.
        judged: the verdicts on the claims of each.
    """
    names: list[str] = []
    directions: list[str] = []
    here: list[str] = []
    for measured, found in zip(items, judged, strict=True):
        name = heading(measured.item).partition(":")[0]
        if measured.item.requires:
            names.append(name)
            directions.append("")
            here.append(f"not run: it needs {measured.item.requires}")
            continue
        for one in found:
            names.append(name)
            directions.append(one.says)
            here.append(one.seen or "not yet measured")

    columns = [
        Column("", names, "left"),
        Column("the paper's direction", directions, "left"),
        Column("here", here, "left"),
    ]
    return (
        f"# Results, profile {items[0].item.profile}\n\n"
        "± and error bars are one standard error over the images of a cell. Cells share their seeds, so differences "
        "are paired, and far more certain than two values side by side. A direction that the paper reports is *seen* "
        "if it exceeds what chance allows at 5%, after picking the best of several.\n\n" + table(columns)
    )


def section(measured: MeasuredItem, judged: Sequence[Judged], pictures: Sequence[Path] = ()) -> str:
    """What and how, the table, the best rho of each sweep, and whether the paper's claims are seen.

    Args:
        measured: the item.
        judged: the verdicts on its claims.
        pictures: of it; the first is linked, relative to docs/ if it lies below.
    """
    item = measured.item
    title = f"## {heading(item)}"
    if item.requires:
        return f"{title}\n\nNot run: it needs {item.requires}."

    parts = [title, f"In the paper: {item.source}.", f"```bash\n{command(item)}\n```", made_of(item)]
    if notes := [*item.notes, *_computed_elsewhere(measured)]:
        parts.append(_bullets(notes))

    wide = len(measured.scalars) > WIDE
    parts.append(table(_a_column_a_cell(measured) if wide else _a_row_a_cell(measured)))
    if measured.indexed:
        parts.append(table(_by_index(measured)))
    if pictures:
        parts.append(f"![{heading(item)}]({_link(pictures[0])})")

    if best := sweeps(measured):
        parts.append("Best rho, between the points of the grid:\n\n" + _bullets(map(_best, best)))
    if judged:
        sentences = (_plus_minus(one.sentence) for one in judged)
        parts.append("What the paper says of it:\n\n" + _bullets(sentences))
    return "\n\n".join(parts)


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
    name = item.name if found is None else f"{found[1].capitalize()} {found[2]}"
    return f"{name}: {item.title}"


def table(columns: Sequence[Column]) -> str:
    """A Markdown table."""
    rule = ["---" if column.side == "left" else "---:" for column in columns]
    rows = zip(*(column.texts for column in columns), strict=True)
    lines = [[column.head for column in columns], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _computed_elsewhere(measured: MeasuredItem) -> list[str]:
    """What values were computed in that this machine would compute otherwise: a sentence for each kind."""
    cells: dict[str, list[int]] = {}
    for number, outcome in enumerate(measured.outcomes):
        if outcome.elsewhere and outcome.computed_in is not None:
            cells.setdefault(kind_in_words(outcome.computed_in), []).append(number)

    sentences = []
    for words, numbers in cells.items():
        which = f"cells {format_seeds(numbers)} of `tables.py list`."
        if len(numbers) == len(measured.outcomes):
            which = "all cells."
        sentences.append(f"Computed in {words}, not as this machine would: {which}")
    return sentences


def _a_row_a_cell(measured: MeasuredItem) -> list[Column]:
    """The settings that vary, the evaluations, the values and, in the paper's profile, what it states."""
    cells = measured.item.cells
    columns = []
    for name in cells[0].varies:
        columns.append(Column(written(name), [shown(cell.varies[name]) for cell in cells], "left"))
    evaluations = [cell.by_name["nfe"] for cell in cells]
    if any(evaluations):
        columns.append(Column("NFE", [str(number) for number in evaluations]))

    columns += _value_columns(measured)

    # Of sheets of images the paper states nothing as a rule.
    stated = not _is_of_sheets(measured) or any(cell.published for cell in cells)
    if measured.item.profile == "paper" and stated:
        columns += _paper_columns(measured)
    return columns


def _value_columns(measured: MeasuredItem) -> list[Column]:
    """A value a column; its difference from rho 1 in a column of its own if it is the only one, else beside it."""
    names = measured.scalars
    if not names:
        return [Column("measured", ["" if outcome.done else outcome.state for outcome in measured.outcomes])]

    if len(names) == 1:
        (name,) = names
        gaps = [_gap(measured, outcome, name) for outcome in measured.outcomes]
        columns = [Column(label(name), [_value_with_least(outcome, name) for outcome in measured.outcomes])]
        if any(gaps):
            columns.append(Column("difference from rho 1", gaps))
        return columns

    columns, compared = [], False
    for name in names:
        texts = []
        for outcome in measured.outcomes:
            gap = _gap(measured, outcome, name)
            compared = compared or gap != ""
            texts.append(_value_with_least(outcome, name, gap))
        columns.append(Column(label(name), texts))
    for column in columns[1:]:  # one word on what is not done is enough
        for number, outcome in enumerate(measured.outcomes):
            if not outcome.done:
                column.texts[number] = ""
    if compared:
        columns = [column._replace(head=f"{column.head} (difference from rho 1)") for column in columns]
    return columns


def _value_with_least(outcome: Outcome, name: str, gap: str = "") -> str:
    """A value, its difference from rho 1, and EDM's protocol where all three seed ranges are measured."""
    if not outcome.done:
        return outcome.state
    text = _value(outcome.values.get(name))
    if gap:
        text += f" ({gap})"
    least = outcome.least_of_three.get(name)
    if least is not None:
        text += f", least of three seed ranges {rounded(least.value, least.error)}"
    return text


def _paper_columns(measured: MeasuredItem) -> list[Column]:
    """What the paper states of each cell, and where."""
    first = ["images"] if _is_of_sheets(measured) else measured.scalars[:1]
    stated, where = [], []
    for cell in measured.item.cells:
        stated.append(_stated(cell, first))
        where.append("; ".join(dict.fromkeys(published.where for published in cell.published)))
    return [Column("paper", stated), Column("where", where, "left")]


def _stated(cell: Cell, first: Sequence[str]) -> str:
    """What the paper states; named unless it is of the first value column, or of the only one."""
    one_metric = len({published.metric for published in cell.published}) == 1
    texts = []
    for published in cell.published:
        unnamed = resolve(published.metric, first) is not None if first else one_metric
        number = f"{published.value:g}"
        texts.append(number if unnamed else f"{label(published.metric)} {number}")
    return ", ".join(texts) or "not stated"


def _a_column_a_cell(measured: MeasuredItem) -> list[Column]:
    """A value a row; what the paper states stands in brackets."""
    names = measured.scalars
    columns = [Column("", [label(name) for name in names], "left")]
    for outcome, head in zip(measured.outcomes, _captions(measured), strict=True):
        columns.append(Column(head, [_value_with_ratio(measured, outcome, name) for name in names]))
    return columns


def _value_with_ratio(measured: MeasuredItem, outcome: Outcome, name: str) -> str:
    """A value, as a multiple of that at rho 1 too, and what the paper states of it."""
    text = _value(outcome.values.get(name)) if outcome.done else outcome.state
    text += _multiple(measured, outcome, name)

    stated = []
    for published in outcome.cell.published:
        if resolve(published.metric, measured.scalars) == name:
            stated.append(f"{published.value:g}, {published.where}")
    return f"{text} (paper: {'; '.join(stated)})" if stated else text


def _by_index(measured: MeasuredItem) -> list[Column]:
    """A row an index: values that are called name[0], name[1], ..."""
    bases = dict.fromkeys(name.partition("[")[0] for name in measured.indexed)
    indices = list(dict.fromkeys(name.partition("[")[2].rstrip("]") for name in measured.indexed))
    captions = _captions(measured)

    columns = [Column("index", indices)]
    for base in bases:
        curves: dict[int, list[Estimate | None]] = {}
        for number, outcome in enumerate(measured.outcomes):
            if f"{base}[0]" in outcome.values:
                curves[number] = [outcome.values.get(f"{base}[{index}]") for index in indices]

        if not curves:
            continue
        first, *others = curves.values()
        if all(curve == first for curve in others):  # such as weights, which no setting changes
            columns.append(Column(label(base), list(map(_value, first))))
            continue
        for number, curve in curves.items():
            columns.append(Column(f"{label(base)}, {captions[number]}", list(map(_value, curve))))
    return columns


def _captions(measured: MeasuredItem) -> list[str]:
    return [caption(cell.varies) or "measured" for cell in measured.item.cells]


def _gap(measured: MeasuredItem, outcome: Outcome, name: str) -> str:
    """The difference of a value from the same cell at rho = 1."""
    pair = _with_baseline(measured, outcome, name)
    return "" if pair is None else _plus_minus(as_text(difference(*pair), "+"))


def _multiple(measured: MeasuredItem, outcome: Outcome, name: str) -> str:
    """A value as a multiple of that of the same cell at rho = 1; an unbiased estimate near 0 has none."""
    pair = _with_baseline(measured, outcome, name)
    if pair is None or pair[1].value <= 2 * (pair[1].error or 0):
        return ""
    return f" ({_plus_minus(as_text(ratio(*pair)))} of rho 1)"


def _with_baseline(measured: MeasuredItem, outcome: Outcome, name: str) -> tuple[Estimate, Estimate] | None:
    """A value and the one at rho = 1; None where there are not both."""
    if outcome.cell.study == "sheet":  # the number of its images is no metric
        return None
    baseline = measured.baseline(outcome)
    if baseline is None or name not in outcome.values or name not in baseline.values:
        return None
    return outcome.values[name], baseline.values[name]


def _best(sweep: Sweep) -> str:
    """The best rho of a sweep, and the value there."""
    where = caption(sweep.settings) or "all cells"
    best = sweep.best
    if best is None:
        return f"{where}: not yet measured"

    text = f"{where}: {rounded(best.rho, best.error)}"
    if best.error:
        text += f" ± {rounded(best.error, best.error)}"
    if best.at_edge:
        text += ", an end of the grid: the best may lie beyond"

    value = f"{label(sweep.name)} {_value(best.value)}"
    if best.gain is not None and best.rho != 1:
        value += f", {_plus_minus(as_text(best.gain, '+'))} from rho 1"
    return f"{text} ({value})"


def _is_of_sheets(measured: MeasuredItem) -> bool:
    return measured.item.cells[0].study == "sheet"


def _value(estimate: Estimate | None) -> str:
    return "" if estimate is None else _plus_minus(as_text(estimate))


def _plus_minus(text: str) -> str:
    return text.replace("+-", "±")


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _link(picture: Path) -> str:
    below_docs = picture.parts[0] == "docs"
    return Path(os.path.relpath(picture, "docs") if below_docs else picture).as_posix()
