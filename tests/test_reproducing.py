"""docs/reproducing.md: its costs are those of the items, and it names every download."""

import re
from pathlib import Path

import pytest

from programs.tables.work import paper_items
from skip.tables.item import Cell
from skip.tables.plan import count
from skip.tables.results import unique
from skip.tables.spec import load_item

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "reproducing.md").read_text()
ITEM = re.compile(r"(?:table|figure)\d+|appendix-c|calibrate_latent|edm2")


@pytest.fixture(scope="module")
def cells() -> dict[str, list[Cell]]:
    names = [*paper_items(), "calibrate_latent", "edm2"]
    found = {name: unique(load_item(name, "paper").cells) for name in names}
    return {name: own for name, own in found.items() if own or not of_the_demo(name)}


def of_the_demo(name: str) -> bool:
    """Whether the document says that an item has cells in the demo's profile alone."""
    return re.search(rf"items [^.]*\b{name}\b[^.]* of the bundled network alone", TEXT) is not None


def cost(of: list[Cell]) -> str:
    return count(sum(cell.settings.evaluations() for cell in of))


def test_the_table_says_what_list_says(cells: dict[str, list[Cell]]) -> None:
    stated: dict[str, tuple[int, str]] = {}
    for line in TEXT.partition("| item |")[2].partition("\n\n")[0].splitlines():
        names, *numbers = (part.strip() for part in line.split("|")[1:4])
        if found := ITEM.findall(names.partition(" (")[0]):
            many, evaluations = (text.split(", ") for text in numbers)
            stated |= {n: (int(m), e) for n, m, e in zip(found, many, evaluations, strict=True)}
    assert stated == {name: (len(own), cost(own)) for name, own in cells.items()}


def test_the_sums_are_those_of_all(cells: dict[str, list[Cell]]) -> None:
    every = unique(cell for name in paper_items() for cell in cells.get(name, []))
    assert f"it is {len(every)} cells and {cost(every)} evaluations" in " ".join(TEXT.split())


def test_every_download_and_every_reader_of_images_is_named(cells: dict[str, list[Cell]]) -> None:
    downloads = TEXT.partition("| file |")[2].partition("\n\n")[0]
    roles = {
        (role.partition(" ")[0], name)
        for own in cells.values()
        for cell in own
        for role, name in cell.settings.sources().items()
    }
    for role, name in roles:
        base = name.rpartition("/")[2].removesuffix("-ve")
        assert role == "data" or base in downloads or base.removesuffix("-vp") in downloads, name
    readers = {
        name
        for name, own in cells.items()
        if any("data" in cell.settings.sources() for cell in own)
    }
    tables = {f"table{n}" for n in (8, 9, *range(11, 16))}
    assert readers == tables | {f"figure{n}" for n in (3, 9, 10)}
    assert (
        "Tables 8, 9 and 11 to 15 and figures 3, 9 and 10 read `datasets/imagenet-64x64.zip`"
        in TEXT
    )
