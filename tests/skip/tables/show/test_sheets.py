"""Sheets of images side by side."""

from pathlib import Path

import pytest
from PIL import Image
from small_items import Desk

from skip.tables.show.plots import save
from skip.tables.show.sheets import sheets


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_sheets_side_by_side(desk: Desk) -> None:
    cells = [desk.sheet(rho=rho) for rho in (1.0, 0.8, 0.6)]
    for cell, colour in zip(cells[:2], ("red", "blue"), strict=True):
        desk.save(cell, images=4.0)
        Image.new("RGB", (100, 50), colour).save(desk.results.path(cell).with_suffix(".png"))
    item = desk.item(*cells, name="figure5")
    page = sheets(desk.read(item), zoom=1)
    assert page is not None and page.width == 224
    top = page.height - 50
    assert page.getpixel((50, top + 9)) == (255, 0, 0)
    assert page.getpixel((170, top + 9)) == (0, 0, 255)
    larger = sheets(desk.read(item))
    assert larger is not None and larger.width == 6 * 200 + 24, (
        "as large as fits, by a whole factor"
    )
    tops = {larger.getpixel((50, larger.height - 300 + row)) for row in (0, 150, 299)}
    assert tops == {(255, 0, 0)}
    assert save(desk.read(item), Path("out")) == [Path("out/figure5.png")]
    desk.results.path(cells[1]).with_suffix(".png").unlink()
    with pytest.raises(FileNotFoundError, match=r"is gone; remove sheet-.*json"):
        sheets(desk.read(item))


def test_a_lone_sheet_needs_no_caption(desk: Desk) -> None:
    cell = desk.sheet()
    desk.save(cell, images=4.0)
    Image.new("RGB", (100, 50), "red").save(desk.results.path(cell).with_suffix(".png"))
    page = sheets(desk.read(desk.item(cell, name="figure9")))
    assert page is not None and page.size == (1200, 600 + 38)  # its title


def test_rows_of_sheets(desk: Desk) -> None:
    cells = [desk.sheet(steps=steps, rho=rho) for steps in (9, 5) for rho in (1.0, 0.8)]
    cells += [desk.sheet(steps=3, rho=rho) for rho in (1.0, 0.9, 0.8, 0.7)]
    for cell in cells:
        desk.save(cell, images=4.0)
        Image.new("RGB", (400, 50), "red").save(desk.results.path(cell).with_suffix(".png"))
    page = sheets(desk.read(desk.item(*cells)))
    assert page is not None and page.size == (3 * 400 + 2 * 24, 38 + 4 * 84)  # 2, 2, 3 and 1
    assert page.getpixel((900, 98)) == (255, 255, 255)
    assert page.getpixel((900, 38 + 2 * 84 + 60)) == (255, 0, 0)
