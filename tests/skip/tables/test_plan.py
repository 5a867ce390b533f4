"""Which cells a command names, and what a run of them would cost and need."""

from pathlib import Path

import pytest

from skip.tables.item import setting
from skip.tables.measured import MeasuredItem
from skip.tables.plan import count, dry_run, lines, select
from skip.tables.results import Results
from skip.tables.spec import load_item


def test_select() -> None:
    item = load_item("table2", "demo")
    assert select(item, None) is item
    assert select(item, "0,3-4").cells == (item.cells[0], item.cells[3], item.cells[4])
    some = select(item, "sampler=heun,rho=0.8")
    assert [(setting(c, "sampler"), setting(c, "rho")) for c in some.cells] == [("heun", 0.8)] * 2
    assert [setting(c, "sampler") for c in select(item, "nfe=9,rho=1.0").cells] == ["unipc", "heun"]
    assert select(item, "rho=1").cells == select(item, "rho=1.0").cells
    wrong = {
        "99": "--cells=99: table2 has the cells 0 to 21",
        "rho=0.33": "no such cell",
        "rho=": "not SETTING=VALUE",
        "rhoo=1": "no cell of table2 has a setting 'rhoo'",
        "": "--cells= is neither numbers",
        "5-3": "--cells=5-3 is neither numbers",
    }
    for which, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            select(item, which)


def test_plan_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    item = load_item("table2", "paper")
    measured = [
        MeasuredItem.read(one, Results(tmp_path)) for one in (item, load_item("table7", "paper"))
    ]
    assert len(list(lines(measured[0]))) == len(item.cells)
    said = list(dry_run(measured))
    assert any(
        "to download: network edm-imagenet-64x64-cond-adm (https://" in line for line in said
    )
    assert any("to prepare: autoencoder downloads/autoencoder_kl.pth" in line for line in said)
    cells = [*item.cells, *load_item("table7", "paper").cells]
    total = sum(cell.settings.evaluations() for cell in cells)
    assert f"{len(cells)} cells to measure, {count(total)} evaluations" in said
    assert [count(n) for n in (999, 1000, 50_500, 12_345_678)] == ["999", "1 k", "50.5 k", "12.3 M"]
