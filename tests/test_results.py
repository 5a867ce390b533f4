"""docs/results.md says what results/ holds, and results/ was made with the files that are here."""

from functools import cache
from pathlib import Path

import pytest

from programs.tables.work import shown_items
from skip.tables.item import Item
from skip.tables.measured import MeasuredItem
from skip.tables.results import Results, unique
from skip.tables.show.markdown import overview, section
from skip.tables.show.render import markdown
from skip.tables.show.verdicts import verdicts
from skip.tables.spec import item_names, load_item

ROOT = Path(__file__).resolve().parent.parent
PICTURES = Path("docs/images/results")
RESULTS = Results(Path("results"))
ITEMS = shown_items("demo")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@cache
def item(name: str) -> Item:
    return load_item(name, "demo")


@cache
def measured(name: str) -> MeasuredItem:
    return MeasuredItem.read(item(name), RESULTS, seed_ranges=True)


@cache
def document() -> list[str]:
    """docs/results.md: what stands before the first item, and the section of each."""
    first, *sections = (
        (ROOT / "docs" / "results.md").read_text().removesuffix("\n").split("\n\n## ")
    )
    return [first, *(f"## {text}" for text in sections)]


# The document is what `python tables.py show --all --pictures docs/images/results` prints; here part by part.


@pytest.mark.parametrize("number, name", list(enumerate(ITEMS, 1)), ids=ITEMS)
def test_a_section_of_the_document(number: int, name: str) -> None:
    pictures = [path for path in (PICTURES / f"{name}.png",) if path.exists()]
    assert (
        section(measured(name), verdicts(measured(name)), pictures).splitlines()
        == document()[number].splitlines()
    )


def test_the_overview_of_the_document() -> None:
    items = [measured(name) for name in ITEMS]
    assert (
        overview(items, [verdicts(one) for one in items]).splitlines() == document()[0].splitlines()
    )
    assert len(document()) == 1 + len(items), "a section that no item has"


def test_a_document_is_its_overview_and_sections() -> None:
    few = [measured(name) for name in ("table2", "figure13")]
    judged = [verdicts(one) for one in few]
    sections = [section(one, found) for one, found in zip(few, judged, strict=True)]
    assert markdown(few) == "\n\n".join([overview(few, judged), *sections]) + "\n"
    assert markdown(few[:1]) == sections[0] + "\n"


def test_every_comparison_finds_its_cells() -> None:
    """A claim that names a value which no cell has would be undecided for ever."""
    for name in ITEMS:
        one = measured(name)
        rows = [row for judged in verdicts(one) for row in judged.rows]
        if len(one.done) == len(one.distinct):
            assert not [row for row in rows if row.measured and not row.gap], name


def test_no_result_is_of_other_files() -> None:
    assert "stale" not in {outcome.state for name in ITEMS for outcome in measured(name).outcomes}


def test_every_result_belongs_to_a_cell() -> None:
    cells = unique(cell for name in item_names() for cell in item(name).cells)
    assert set(RESULTS.folder.glob("*.json")) <= {RESULTS.path(cell) for cell in cells}
