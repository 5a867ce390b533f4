"""Measured items as one page that needs nothing beside it: tables sort, verdicts filter, curves tell their values."""

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from dnnlib import colours
from dnnlib.pictures import data_url
from skip.evidence.estimate import Estimate, as_text
from skip.tables.item import Item
from skip.tables.measured import MeasuredItem
from skip.tables.show import plots
from skip.tables.show.choices import made_of
from skip.tables.show.labels import heading, in_words, label
from skip.tables.show.markdown import (
    NOT_YET,
    READING,
    best_in_words,
    command,
    comparisons,
    computed_elsewhere,
    heading_of_claims,
    main_table,
)
from skip.tables.show.sweeps import sweeps
from skip.tables.show.table import Column, by_index, plus_minus
from skip.tables.show.verdicts import Judged, verdicts
from skip.tables.spec import load_item

ASSETS = Path(__file__).resolve().parent / "report"
OPEN_ROWS = 12  # a table of more rows than this is folded at first


def html(
    items: Sequence[MeasuredItem], pictures: Path | None = None, zoom: int | None = None
) -> str:
    """A page of HTML with its style, script and figures in it; it asks no server for anything.

    Args:
        items: in order.
        pictures: folder to keep the figures in too.
        zoom: as of `markdown`.
    Raises:
        ValueError, FileNotFoundError, RuntimeError: as `markdown`.
    """
    judged = [verdicts(measured) for measured in items]
    curves: dict[str, Any] = {}
    sections = []
    for measured, found in zip(items, judged, strict=True):
        own = _curves(measured)
        if own:
            curves[measured.item.name] = own
        sections.append(_section(measured, found, _figure(measured, pictures, zoom), bool(own)))

    profile = items[0].item.profile if items else ""
    title = f"Skip-Tuning: results, profile {profile}"
    looks = {"colours": colours.CURVES, "marks": colours.MARKS, "dashes": colours.DASHES}
    data = json.dumps(looks | {"items": curves}, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # "</script" would end the element, wherever it stands
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{colours.style_sheet()}{_asset('report.css')}</style>",
            "</head>",
            "<body>",
            _navigation(items),
            "<main>",
            f"<h1>{escape(title)}</h1>",
            _introduction(),
            _overview(items, judged),
            *sections,
            "</main>",
            f'<script type="application/json" id="data">{data}</script>',
            f"<script>\n{_asset('report.js')}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _navigation(items: Sequence[MeasuredItem]) -> str:
    links = [
        f'<a href="#{one.item.name}">{escape(heading(one.item).partition(":")[0])}</a>'
        for one in items
    ]
    return f'<nav aria-label="Items"><a href="#top">All claims</a>{"".join(links)}</nav>'


def _introduction() -> str:
    reading = _list("ul", [_inline(text) for text in READING])
    return (
        "<p>± and error bars are one standard error over the images of a cell. Cells share their seeds, so differences "
        "are paired, and far more certain than two values side by side.</p>"
        f"<details><summary>How to read the verdicts</summary>{reading}</details>"
    )


def _overview(items: Sequence[MeasuredItem], judged: Sequence[Sequence[Judged]]) -> str:
    """Every claim in one table, and buttons that leave those of one verdict."""
    rows = []
    count: dict[str, int] = {}
    for measured, found in zip(items, judged, strict=True):
        name = heading(measured.item).partition(":")[0]
        link = f'<a href="#{measured.item.name}">{escape(name)}</a>'
        if measured.item.requires:
            text = escape(f"not run: it needs {measured.item.requires}")
            rows.append(f'<tr data-verdict="not run"><td>{link}</td><td></td><td>{text}</td></tr>')
            continue
        for one in found:
            seen = one.seen or NOT_YET
            count[seen] = count.get(seen, 0) + 1
            rows.append(
                f'<tr data-verdict="{seen}"><td>{link}</td><td>{escape(one.says)}</td>'
                f"<td>{_badge(seen)}</td></tr>"
            )

    buttons = [
        f'<button type="button" data-filter="{seen}" aria-pressed="false">{seen} ({number})</button>'
        for seen, number in count.items()
    ]
    every = f'<button type="button" data-filter="" aria-pressed="true">all ({sum(count.values())})</button>'
    return (
        '<section id="top" class="item"><h2>All claims</h2>'
        f'<div class="filters" role="group" aria-label="Verdicts">{every}{"".join(buttons)}'
        '<label>Search <input type="search" id="search"></label></div>'
        '<div class="scroll"><table id="claims" class="sortable"><thead><tr>'
        '<th scope="col">Item</th><th scope="col">Direction</th><th scope="col">Here</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _section(measured: MeasuredItem, judged: Sequence[Judged], figure: str, curves: bool) -> str:
    item = measured.item
    parts = [f'<section id="{item.name}" class="item"><h2>{escape(heading(item))}</h2>']
    if item.requires:
        return f"{parts[0]}<p>Not run: it needs {escape(item.requires)}.</p></section>"

    parts.append(f'<p class="source">In the paper: {escape(item.source)}.</p>')
    parts.append(_command(command(item)))
    if judged:
        parts.append(
            f"<h3>{heading_of_claims(item)}</h3>{_list('ol', [_verdict(one) for one in judged])}"
        )
    if curves:
        parts.append(f'<div class="curves" data-item="{item.name}"></div>')
        if figure:
            figure = f"<details><summary>The figure as a picture</summary>{figure}</details>"
    if figure:
        parts.append(figure)

    parts.append(_table("The table", main_table(measured)))
    if measured.indexed:
        parts.append(_table("By index", by_index(measured)))
    parts += _stated(item)
    if best := sweeps(measured):
        found = [escape(best_in_words(sweep)) for sweep in best]
        parts.append(f"<h3>Best rho, between the points of the grid</h3>{_list('ul', found)}")
    if rows := comparisons(judged):
        parts.append(_table("What was compared", rows, folded=True))

    notes = [*item.notes, *computed_elsewhere(measured)]
    how = f"<p>{_inline(made_of(item))}</p>{_list('ul', [_inline(note) for note in notes])}"
    parts.append(f"<details><summary>How it was measured</summary>{how}</details></section>")
    return "\n".join(parts)


def _stated(item: Item) -> list[str]:
    """Of another profile than the paper's: the values that the paper states, where, and of which setting."""
    if item.profile == "paper":
        return []  # beside the measured ones
    rows = [
        (in_words(cell.varies), label(one.metric), f"{one.value:g}", one.where)
        for cell in load_item(item.name, "paper").cells
        for one in cell.published
    ]
    if not rows:
        return []

    setting, metric, value, where = (list(texts) for texts in zip(*rows, strict=True))
    columns = [
        Column("setting", setting, "left"),
        Column("value of", metric, "left"),
        Column("paper", value),
        Column("where", where, "left"),
    ]
    return [_table("What the paper has, with its own network", columns, folded=True)]


def _figure(measured: MeasuredItem, pictures: Path | None, zoom: int | None) -> str:
    """The item's picture in the text itself; nothing where there is none."""
    if measured.item.requires:
        return ""
    if pictures is not None:
        plots.save(measured, pictures, zoom)
    picture = plots.encoded(measured, zoom)
    if picture is None:
        return ""
    kind, content = picture
    text = escape(f"{heading(measured.item)}, as measured; its numbers are in the table below")
    return f'<figure><img alt="{text}" loading="lazy" src="{data_url(content, kind)}"></figure>'


def _curves(measured: MeasuredItem) -> list[dict[str, Any]]:
    """What the page draws over rho, panel by panel, as JSON."""
    how = measured.item.plot
    if measured.item.requires or how is None or how.x != "rho":
        return []
    return [
        {
            "title": panel.title,
            "ylabel": panel.ylabel,
            "xlabel": plots.xlabel(how),
            "curves": [
                {"name": name, "points": [_point(point) for point in curve]}
                for name, curve in panel.curves.items()
            ],
        }
        for panel in plots.panels(how, measured)
    ]


def _point(point: plots.CurvePoint) -> dict[str, Any]:
    found = {
        "x": point.x,
        "y": point.y.value,
        "error": point.y.error,
        "text": _text(point.y),
        "images": point.images,
    }
    if point.stated is not None:
        found["stated"] = point.stated
    return found


def _text(estimate: Estimate) -> str:
    return plus_minus(as_text(estimate))


def _table(what: str, columns: Sequence[Column], folded: bool = False) -> str:
    """A table that sorts, which scrolls where it is wider than the page."""
    sides = [f' class="{column.side}"' for column in columns]
    head = "".join(
        f'<th scope="col"{side}>{escape(column.head)}</th>'
        for column, side in zip(columns, sides, strict=True)
    )
    rows = [
        "".join(f"<td{side}>{escape(text)}</td>" for text, side in zip(texts, sides, strict=True))
        for texts in zip(*(column.texts for column in columns), strict=True)
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    state = "" if folded or len(rows) > OPEN_ROWS else " open"
    return (
        f'<details{state}><summary>{escape(what)}</summary><div class="scroll">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )


def _command(text: str) -> str:
    return (
        f'<div class="command"><code>{escape(text)}</code>'
        '<button type="button" class="copy">Copy</button></div>'
    )


def _badge(seen: str) -> str:
    return f'<span class="badge {seen.replace(" ", "-")}">{escape(seen)}</span>'


def _verdict(one: Judged) -> str:
    """The sentence, whose first words are the badge."""
    seen = one.seen or NOT_YET
    text = one.sentence
    if text.lower().startswith(f"{seen}: "):
        text = text[len(seen) + 2 :]
    return f"{_badge(seen)} {_inline(text)}"


def _list(kind: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f"<{kind}>{''.join(f'<li>{text}</li>' for text in texts)}</{kind}>"


def _inline(text: str) -> str:
    """Text with `code` and *emphasis* as notes write them."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<em>\1</em>", text)
