"""The page of hand-made results: whole, escaped, and asking nothing of anyone."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from small_items import Desk

from skip.evidence.claim import Claim
from skip.evidence.estimate import Estimate
from skip.tables.item import Item, Plot
from skip.tables.show.page import html

LOWER = Claim("FID is lower with rho < 1 than with rho = 1", "lower", "fid", "rho")
CURVES = Plot("rho", ("fid",), ("steps",), xlabel="rho of the deepest layer", ylabel="FID")
VOID = {"meta", "img", "input"}


class Elements(HTMLParser):
    """Every element with its attributes; an end that does not fit its start is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    pytest.importorskip("matplotlib", reason="of the extra `tables`")
    return Desk(tmp_path, monkeypatch)


def swept(desk: Desk, **about: Any) -> Item:
    """Two rho at 9 steps, four seeds each."""
    fids: dict[float, Estimate | float] = {
        1.0: Estimate(6.0, 0.2, (5.8, 6.2)),
        0.9: Estimate(5.5, 0.1, (5.4, 5.6)),
    }
    cells = desk.sweep(fids, steps=9)
    cells = [replace(c, varies={"steps": 9, "rho": c.varies["rho"]}) for c in cells]
    return desk.item(*cells, **about)


def test_a_page_has_every_table_claim_command_and_figure(desk: Desk) -> None:
    item = swept(desk, claims=(LOWER,), plot=CURVES, notes=("Run `tables.py list` *first*.",))
    missing = replace(item, name="table3", requires="weights that nobody has")
    page = html([desk.read(item), desk.read(missing)])
    elements = Elements(page)

    assert [one["id"] for one in elements.of("section")] == ["top", "table2", "table3"]
    for text in ("5.50 ± 0.10", "-0.50 ± 0.10", "python tables.py run table2"):
        assert text in elements.texts
    assert "Not run: it needs weights that nobody has." in page
    assert "<code>tables.py list</code> <em>first</em>" in page
    assert "demo FID is lower with rho &lt; 1 than with rho = 1" in page
    rows = [one["data-verdict"] for one in elements.of("tr") if "data-verdict" in one]
    assert rows == ["undecided", "not run"]
    assert [one["data-filter"] for one in elements.of("button") if "data-filter" in one] == [
        "",
        "undecided",
    ]
    (image,) = elements.of("img")
    assert (image["src"] or "").startswith("data:image/svg+xml;base64,")
    assert "Table 2: Few steps" in (image["alt"] or "")


def test_the_paper_s_own_values_stand_with_their_place(desk: Desk) -> None:
    page = html([desk.read(swept(desk))])
    section = page.partition("What the paper has, with its own network")[2]
    assert "Figure 15" in section.partition("</table>")[0]


def test_it_asks_no_server(desk: Desk) -> None:
    page = html([desk.read(swept(desk, plot=CURVES))])
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", page) == []
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|<link", page)


def test_points_of_curves_have_value_error_and_count(desk: Desk) -> None:
    page = html([desk.read(swept(desk, plot=CURVES))])
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data
    first, relative = json.loads(data[1])["items"]["table2"]
    assert first["ylabel"] == "demo FID" and relative["ylabel"] == "demo FID, relative to rho 1"
    (curve,) = first["curves"]
    assert curve["points"] == [
        {"x": 0.9, "y": 5.5, "error": 0.1, "text": "5.50 ± 0.10", "images": 4},
        {"x": 1.0, "y": 6.0, "error": 0.2, "text": "6.0 ± 0.2", "images": 4},
    ]


def test_no_text_becomes_an_element(desk: Desk) -> None:
    hostile = "</script><script>alert(1)</script>"
    item = swept(desk, notes=(hostile,), plot=replace(CURVES, ylabel=hostile))
    item = replace(item, title=hostile, claims=(replace(LOWER, says=hostile),))
    page = html([desk.read(item)])
    assert len(Elements(page).of("script")) == 2
    assert "<script>alert" not in page


def test_figures_are_kept_where_a_folder_is_given(desk: Desk) -> None:
    html([desk.read(swept(desk, plot=CURVES))], Path("pictures"))
    assert sorted(path.name for path in Path("pictures").iterdir()) == ["table2.png", "table2.svg"]
