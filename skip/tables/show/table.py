"""The table of an item: its cells as rows or as columns, with differences from rho 1 and what the paper states."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dnnlib.words import written
from skip.evidence.estimate import Estimate, as_text, difference, ratio, rounded
from skip.tables.cells.registry import OF_SHEETS
from skip.tables.item import Cell
from skip.tables.measured import MeasuredItem
from skip.tables.results import Outcome
from skip.tables.show.labels import in_words, label, resolve, shown


class Column(NamedTuple):
    """Of a table: what stands at the top, what below it, and on which side of the column."""

    head: str
    texts: list[str]
    side: Literal["left", "right"] = "right"


def table(columns: Sequence[Column]) -> str:
    """A Markdown table; a bar in a text, as of ||d||, is not one between columns."""
    rule = ["---" if column.side == "left" else "---:" for column in columns]
    texts = [[column.head, *column.texts] for column in columns]
    head, *rows = zip(*([text.replace("|", r"\|") for text in one] for one in texts), strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


def folded(what: str, columns: Sequence[Column]) -> str:
    """A table that is opened by a click."""
    return f"<details><summary>{what}</summary>\n\n{table(columns)}\n\n</details>"


def a_row_a_cell(measured: MeasuredItem) -> list[Column]:
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
    stated = not _is_of_sheets(measured) or any(cell.published or cell.quoted for cell in cells)
    if measured.item.profile == "paper" and stated:
        columns += _paper_columns(measured)
    return columns


def _value_columns(measured: MeasuredItem) -> list[Column]:
    """A value a column; its difference from rho 1 in a column of its own if it is the only one, else beside it."""
    names = measured.scalars
    if not names:
        return [
            Column(
                "measured", ["" if outcome.done else outcome.state for outcome in measured.outcomes]
            )
        ]

    if len(names) == 1:
        (name,) = names
        gaps = [_gap(measured, outcome, name) for outcome in measured.outcomes]
        columns = [
            Column(label(name), [_value_with_least(outcome, name) for outcome in measured.outcomes])
        ]
        if any(gaps):
            columns.append(Column(_difference(measured), gaps))
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
        columns = [
            column._replace(head=f"{column.head} ({_difference(measured)})") for column in columns
        ]
    return columns


def _difference(measured: MeasuredItem) -> str:
    """From what differences are: what else acts on the skips is compared with a plain network."""
    others = any(cell.by_name.get("skip_method") for cell in measured.item.cells)
    return "difference from plain" if others else "difference from rho 1"


def _value_with_least(outcome: Outcome, name: str, gap: str = "") -> str:
    """A value, its difference from rho 1, and EDM's protocol where all three seed ranges are measured."""
    if not outcome.done:
        return outcome.state
    text = value_text(outcome.values.get(name))
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
        said = (one.where for one in (*cell.published, *cell.quoted))
        where.append("; ".join(dict.fromkeys(said)))
    return [Column("paper", stated), Column("where", where, "left")]


def _stated(cell: Cell, first: Sequence[str]) -> str:
    """What the paper states, named unless it is of the first value column, or of the only one; and what others do."""
    one_metric = len({published.metric for published in cell.published}) == 1
    texts = []
    for published in cell.published:
        unnamed = resolve(published.metric, first) is not None if first else one_metric
        number = f"{published.value:g}"
        texts.append(number if unnamed else f"{label(published.metric)} {number}")
    text = ", ".join(texts) or "not stated"
    others = [f"{one.by} has {label(one.metric)} {one.value:g}" for one in cell.quoted]
    return "; ".join([text, *others])


def a_column_a_cell(measured: MeasuredItem) -> list[Column]:
    """A value a row; what the paper states stands in brackets."""
    names = measured.scalars
    columns = [Column("", [label(name) for name in names], "left")]
    for outcome, head in zip(measured.outcomes, _captions(measured), strict=True):
        columns.append(Column(head, [_value_with_ratio(measured, outcome, name) for name in names]))
    return columns


def _value_with_ratio(measured: MeasuredItem, outcome: Outcome, name: str) -> str:
    """A value, as a multiple of that at rho 1 too, and what the paper states of it."""
    text = value_text(outcome.values.get(name)) if outcome.done else outcome.state
    text += _multiple(measured, outcome, name)

    stated = []
    for published in outcome.cell.published:
        if resolve(published.metric, measured.scalars) == name:
            stated.append(f"{published.value:g}, {published.where}")
    return f"{text} (paper: {'; '.join(stated)})" if stated else text


def by_index(measured: MeasuredItem) -> list[Column]:
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
            columns.append(Column(label(base), list(map(value_text, first))))
            continue
        for number, curve in curves.items():
            columns.append(
                Column(f"{label(base)}, {captions[number]}", list(map(value_text, curve)))
            )
    return columns


def _captions(measured: MeasuredItem) -> list[str]:
    return [in_words(cell.varies) or "measured" for cell in measured.item.cells]


def _gap(measured: MeasuredItem, outcome: Outcome, name: str) -> str:
    """The difference of a value from the same cell at rho = 1."""
    pair = _with_baseline(measured, outcome, name)
    return "" if pair is None else plus_minus(as_text(difference(*pair), "+"))


def _multiple(measured: MeasuredItem, outcome: Outcome, name: str) -> str:
    """A value as a multiple of that of the same cell at rho = 1; an unbiased estimate near 0 has none."""
    pair = _with_baseline(measured, outcome, name)
    if pair is None or pair[1].value <= 2 * (pair[1].error or 0):
        return ""
    return f" ({plus_minus(as_text(ratio(*pair)))} of rho 1)"


def _with_baseline(
    measured: MeasuredItem, outcome: Outcome, name: str
) -> tuple[Estimate, Estimate] | None:
    """A value and the one at rho = 1; None where there are not both."""
    if outcome.cell.study in OF_SHEETS:  # the number of its images is no metric
        return None
    baseline = measured.baseline(outcome)
    if baseline is None or name not in outcome.values or name not in baseline.values:
        return None
    return outcome.values[name], baseline.values[name]


def _is_of_sheets(measured: MeasuredItem) -> bool:
    return measured.item.cells[0].study in OF_SHEETS


def value_text(estimate: Estimate | None) -> str:
    return "" if estimate is None else plus_minus(as_text(estimate))


def plus_minus(text: str) -> str:
    return text.replace("+-", "±")
