"""An item with its results, read once: each cell once, its baseline, and what a command needs of them."""

from pathlib import Path

import pytest
from small_items import Desk

from skip.tables.measured import MeasuredItem
from skip.tables.plan import lines, summary


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_what_is_read_stays_whatever_the_folder_does(desk: Desk) -> None:
    cell = desk.images(rho=0.9)
    before = desk.read(desk.item(cell))
    desk.save(cell, **{"fid_demo": 6.0, "ratio[0]": 1.0})
    after = desk.read(desk.item(cell))
    assert [one.done for one in before.outcomes + after.outcomes] == [False, True]
    assert (before.names, after.scalars, after.indexed) == ([], ["fid-demo"], ["ratio[0]"])
    desk.results.path(cell).unlink()
    assert after.outcomes[0].values["fid-demo"].value == 6.0


def test_a_cell_that_is_there_twice_counts_once(desk: Desk) -> None:
    cells = [desk.images(rho=0.9), desk.images(rho=1.0), desk.images(rho=0.9)]
    desk.save(cells[0], fid_demo=6.0)
    measured = desk.read(desk.item(*cells))
    assert len(measured.outcomes) == 3 and len(measured.distinct) == 2 and len(measured.done) == 1
    assert "  1/2   done" in summary(measured) and len(list(lines(measured))) == 3


def test_the_baseline_is_the_first_cell_at_rho_1_that_is_otherwise_the_same(desk: Desk) -> None:
    cells = [
        desk.images(rho=1.0, steps=5),
        desk.images(rho=1.0),
        desk.images(rho=1.0, window=(0.5, 2.0)),
    ]
    cells += [
        desk.images(rho=0.8, time="increasing", target="shortcut"),
        desk.images(rho=0.8, steps=7),
    ]
    measured = desk.read(desk.item(*cells))
    found = [measured.baseline(outcome) for outcome in measured.outcomes]
    assert found == [None, None, None, measured.outcomes[1], None]


def test_other_methods_are_compared_with_the_plain_network_where_it_is_there(desk: Desk) -> None:
    freeu = desk.images(rho=1.0, skip_method="freeu:s1=0.5")
    both = desk.images(rho=0.8, skip_method="freeu:s1=0.5")
    plain = desk.images(rho=1.0)

    measured = desk.read(desk.item(freeu, both, plain))
    found = [measured.baseline(outcome) for outcome in measured.outcomes]
    assert found == [measured.outcomes[2], measured.outcomes[2], None]

    alone = desk.read(desk.item(freeu, both))
    assert [alone.baseline(outcome) for outcome in alone.outcomes] == [None, alone.outcomes[0]]


def test_a_damaged_result_of_other_seeds_stops_only_what_shows_it(desk: Desk) -> None:
    cell = desk.images(rho=1.0)  # seeds 0-3
    desk.save(cell, fid=3.0)
    desk.results.path(desk.images(rho=1.0, seeds="4-7")).write_text("{")
    assert MeasuredItem.read(desk.item(cell), desk.results).outcomes[0].done
    with pytest.raises(ValueError, match="is a damaged result"):
        MeasuredItem.read(desk.item(cell), desk.results, seed_ranges=True)
