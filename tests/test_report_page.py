"""The page of results in a real browser: what a visitor does with it, and that it can be read everywhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from in_browser import CONTRAST, chromium, opened

pytestmark = pytest.mark.browser
ITEMS = ["table2", "table3", "figure4", "figure12"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the repository's own results."""
    pytest.importorskip("matplotlib", reason="of the extra `tables`")
    import tables

    folder = tmp_path_factory.mktemp("report")
    args = ["show", *ITEMS, "--format", "html", "--outdir", str(folder)]
    outcome = CliRunner().invoke(tables.main, args)
    assert outcome.exit_code == 0, outcome.output
    return folder / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page; whatever was done with it, its console stayed empty."""
    found, errors = opened(browser, report.as_uri())
    yield found
    found.close()
    assert errors == []


def column(page: Any, table: str, number: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:visible td:nth-child({number})")
    return list(cells.all_inner_texts())


def test_tables_sort_both_ways_by_number(page: Any) -> None:
    table = "#table2 table.sortable >> nth=0"
    page.locator("#table2 summary", has_text="The table").click()
    before = column(page, "#table2 details[open] table", 3)
    page.locator(table).get_by_role("button", name="rho", exact=True).click()
    rising = column(page, "#table2 details[open] table", 3)
    assert rising == sorted(before, key=float) != before
    page.locator(table).get_by_role("button", name="rho", exact=True).click()
    assert column(page, "#table2 details[open] table", 3) == sorted(before, key=float, reverse=True)


def test_verdicts_filter(page: Any) -> None:
    every = column(page, "#claims", 3)
    assert {"seen", "undecided"} <= set(every)
    page.locator("[data-filter=undecided]").click()
    assert column(page, "#claims", 3) == ["undecided"] * every.count("undecided")
    page.locator("[data-filter='']").click()
    page.locator("#search").fill("u-shaped")
    assert column(page, "#claims", 1) == ["Figure 4"]


def test_a_mark_of_a_curve_says_value_error_and_count(page: Any) -> None:
    curves = page.locator("#figure4 .curves > div").first
    mark = curves.locator(".hit").first
    mark.hover()
    assert "±" in curves.locator(".tip").inner_text()
    assert "2000 images" in curves.locator(".tip").inner_text()

    marks = curves.locator(".hit").count()
    curves.locator(".legend button").first.click()
    assert 0 < curves.locator(".hit").count() < marks


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1100])
def test_it_can_be_read(browser: Any, report: Path, width: int, dark: bool) -> None:
    page, errors = opened(browser, report.as_uri(), width, dark)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("[...document.images].every((one) => one.alt.length > 10)")
    assert page.evaluate("[...document.images].length") >= 4
    assert errors == []
    page.close()
