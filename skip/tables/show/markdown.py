"""Items as Markdown: a section each, with what was measured beside what the paper states."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dnnlib.seeds import format_seeds
from skip.evidence.estimate import as_text, rounded
from skip.tables.item import Item
from skip.tables.measured import MeasuredItem
from skip.tables.results import kind_in_words
from skip.tables.show.choices import made_of
from skip.tables.show.labels import heading, in_words, label
from skip.tables.show.sweeps import Sweep, sweeps
from skip.tables.show.table import (
    Column,
    a_column_a_cell,
    a_row_a_cell,
    by_index,
    folded,
    plus_minus,
    table,
    value_text,
)
from skip.tables.show.verdicts import Judged

# What the words of a verdict mean, and what they do not.
READING = (
    "*Seen*: the cells show the direction by more than chance allows at 5%. Where one of several cells is "
    "enough, the 5% is divided among them.",
    "*Not seen*: they show the opposite by more than chance allows. Where one of several groups is enough, the 5% is "
    "divided among them.",
    "*Undecided*: neither; more images may decide it.",
    "An FID is too high with few images, and no error bar says so: compare cells of one number of images. The item "
    "bias has FIDs without that.",
    "5% is of one claim: of forty directions without any effect about two would be seen or not seen by chance. An "
    "error bar knows of other images and other noise. It does not know of another network: each item rests on one, or "
    "on one of each kind, trained once.",
)
MANY = 8  # a table of more values than this has them as rows
WIDE, LONG = 8, 40  # a table of more columns or rows than this is folded
NOT_YET = "not yet measured"
SHORT = 4  # rows of comparisons that need no folding


def overview(items: Sequence[MeasuredItem], judged: Sequence[Sequence[Judged]]) -> str:
    """What is measured, how to read it, and every claim in one table.

    Args:
        items: in order.
        judged: the verdicts on the claims of each.
    """
    parts = [
        f"# Results, profile {items[0].item.profile}",
        "± and error bars are one standard error over the images of a cell. Cells share their seeds, so differences "
        "are paired, and far more certain than two values side by side.",
        _bullets(READING),
    ]

    both = list(zip(items, judged, strict=True))
    for head, of_the_paper in (("the paper's direction", True), ("asked beside the paper", False)):
        some = [one for one in both if one[0].item.is_of_the_paper == of_the_paper]
        if rows := claims(some):
            names, directions, here = (list(texts) for texts in zip(*rows, strict=True))
            columns = [
                Column("", names, "left"),
                Column(head, directions, "left"),
                Column("here", here, "left"),
            ]
            parts.append(table(columns))
    return "\n\n".join(parts)


def claims(
    judged: Iterable[tuple[MeasuredItem, Sequence[Judged]]],
) -> list[tuple[str, str, str]]:
    """Of each claim the item, the direction and what is seen of it."""
    rows = []
    for measured, found in judged:
        name = heading(measured.item).partition(":")[0]
        if measured.item.requires:
            rows.append((name, "", f"not run: it needs {measured.item.requires}"))
            continue
        rows += [(name, one.says, one.seen or NOT_YET) for one in found]
    return rows


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

    parts = [
        title,
        f"In the paper: {item.source}.",
        f"```bash\n{command(item)}\n```",
        made_of(item),
    ]
    if notes := [*item.notes, *computed_elsewhere(measured)]:
        parts.append(_bullets(notes))

    parts.append(_table("The table", main_table(measured)))
    if measured.indexed:
        along = "layer, deepest first"
        if item.plot is not None and item.plot.x == "index" and item.plot.xlabel:
            along = item.plot.xlabel
        parts.append(_table(f"By {along}", by_index(measured)))
    if pictures:
        parts.append(f"![{heading(item)}]({_link(pictures[0])})")

    if best := sweeps(measured):
        parts.append(
            "Best rho, between the points of the grid:\n\n" + _bullets(map(best_in_words, best))
        )
    if judged:
        sentences = [f"{number}. {one.sentence}" for number, one in enumerate(judged, 1)]
        parts.append(f"{heading_of_claims(item)}:\n\n" + "\n".join(sentences))
    if rows := comparisons(judged):
        parts.append(
            folded("What was compared", rows) if len(rows[0].texts) > SHORT else table(rows)
        )
    return "\n\n".join(parts)


def heading_of_claims(item: Item) -> str:
    """Whose directions the claims are."""
    return "What the paper says of it" if item.is_of_the_paper else "What is asked of it"


def main_table(measured: MeasuredItem) -> list[Column]:
    """A row a cell or, of many values, a row a value."""
    if len(measured.scalars) > MANY:
        return a_column_a_cell(measured)
    return a_row_a_cell(measured)


def _table(what: str, columns: list[Column]) -> str:
    """A table, folded if it would not fit on a page."""
    if len(columns) > WIDE or len(columns[0].texts) > LONG:
        return folded(what, columns)
    return table(columns)


def comparisons(judged: Sequence[Judged]) -> list[Column]:
    """The numbers behind the verdicts, a row each; of all claims in one table, by the numbers of their sentences."""
    rows = [(number, row) for number, one in enumerate(judged, 1) for row in one.rows]
    if not rows:
        return []
    columns = [Column("", [str(number) for number, _ in rows])]
    if any(row.group for _, row in rows):
        columns.append(Column("of", [row.group for _, row in rows], "left"))
        columns.append(Column("alone", [row.seen for _, row in rows], "left"))
    for head, name in (("measured", "measured"), ("against", "against"), ("difference", "gap")):
        columns.append(Column(head, [plus_minus(getattr(row, name)) for _, row in rows]))
    return columns


def command(item: Item) -> str:
    """What measures the item."""
    if item.profile == "demo":
        return f"python tables.py run {item.name}{item.flags}"
    run = f"tables.py run {item.name} --profile {item.profile}{item.flags}"
    return f"torchrun --standalone --nproc_per_node=gpu -- {run}"


def computed_elsewhere(measured: MeasuredItem) -> list[str]:
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


def best_in_words(sweep: Sweep) -> str:
    """The best rho of a sweep, and the value there."""
    where = in_words(sweep.settings) or "all cells"
    best = sweep.best
    if best is None:
        return f"{where}: not yet measured"

    text = f"{where}: {rounded(best.rho, best.error)}"
    if best.error:
        text += f" ± {rounded(best.error, best.error)}"
    if best.at_edge:
        text += ", an end of the grid: the best may lie beyond"

    value = f"{label(sweep.name)} {value_text(best.value)}"
    if best.gain is not None and best.rho != 1:
        value += f", {plus_minus(as_text(best.gain, '+'))} from rho 1"
    return f"{text} ({value})"


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _link(picture: Path) -> str:
    below_docs = picture.parts[0] == "docs"
    return Path(os.path.relpath(picture, "docs") if below_docs else picture).as_posix()
