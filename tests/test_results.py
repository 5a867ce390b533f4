"""docs/results.md says what results/ holds, and results/ was made with the files that are here."""

from pathlib import Path

import pytest

from skip.tables.results import Results, unique
from skip.tables.show import render
from skip.tables.spec import Item, load_item
from tables import paper_items

ROOT = Path(__file__).resolve().parent.parent
PICTURES = Path("docs/images/results")
RESULTS = Results(Path("results"))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def items() -> list[Item]:
    return [load_item(name, "demo") for name in paper_items()]


def test_the_document_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """python tables.py show --all --pictures docs/images/results > docs/results.md"""

    def drawn(item: Item, results: Results, pictures: Path) -> list[Path]:
        return [path for path in (pictures / f"{item.name}.png",) if path.exists()]

    monkeypatch.setattr(render, "_draw", drawn)
    assert (ROOT / "docs" / "results.md").read_text().splitlines() == render.markdown(
        items(), RESULTS, PICTURES
    ).splitlines()


def test_no_result_is_of_other_files() -> None:
    cells = unique(cell for item in items() for cell in item.cells)
    assert "stale" not in {RESULTS.state(cell) for cell in cells}


def test_every_result_belongs_to_a_cell() -> None:
    known = {RESULTS.path(cell) for item in [*items(), load_item("calibrate_unipc", "demo")] for cell in item.cells}
    assert set(RESULTS.folder.glob("*.json")) <= known
