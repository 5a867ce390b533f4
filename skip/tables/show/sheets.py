"""Sheets of images side by side."""

from typing import Any

from PIL import Image

from dnnlib.pictures import enlarged, fitting_zoom, open_picture, side_by_side, stacked, titled
from skip.tables.cells.registry import OF_SHEETS
from skip.tables.item import Cell
from skip.tables.measured import SKIP_SETTINGS, MeasuredItem
from skip.tables.results import Outcome
from skip.tables.show.labels import in_words, title

WIDTH = 1200  # of a row of sheets, in pixels


def sheets(measured: MeasuredItem, zoom: int | None = None) -> Image.Image | None:
    """The sheets that the cells made, each under the settings that tell it from the others.

    They stand side by side; a new row begins where all settings but the last change, and where a row would be too wide.

    Args:
        measured: the item.
        zoom: each pixel becomes zoom x zoom pixels; None enlarges small sheets until the widest row fills WIDTH.
    Returns:
        The page, or None where no cell made a sheet.
    Raises:
        FileNotFoundError: if a cell is done and its sheet is gone.
    """
    rows: list[list[Cell]] = []
    pages: list[list[Image.Image]] = []
    for outcome in measured.outcomes:
        cell = outcome.cell
        if cell.study not in OF_SHEETS or not outcome.done:
            continue
        page = _page(outcome)
        fits = max(1, WIDTH // page.width)
        if not rows or len(rows[-1]) == fits or _common(rows[-1][0]) != _common(cell):
            rows.append([])
            pages.append([])
        rows[-1].append(cell)
        pages[-1].append(page)

    if not rows:
        return None
    if zoom is None:
        zoom = fitting_zoom(max(sum(page.width for page in beside) for beside in pages), WIDTH)
    lines = []
    for cells, small in zip(rows, pages, strict=True):
        beside = [enlarged(page, zoom) for page in small]
        captions = [in_words(cell.varies) for cell in cells]
        # A lone sheet needs none.
        lines.append(side_by_side(beside, captions) if any(captions) else beside[0])
    return titled(stacked(lines), title(measured.item))


def _page(outcome: Outcome) -> Image.Image:
    """The sheet of a cell that is done."""
    path = outcome.path.with_suffix(".png")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is gone; remove {outcome.path.name} beside it and run it again"
        )
    return open_picture(path).convert("RGB")


def _common(cell: Cell) -> list[Any]:
    """What the sheets of a row have in common: all but rho."""
    return [value for name, value in cell.varies.items() if name not in SKIP_SETTINGS]
