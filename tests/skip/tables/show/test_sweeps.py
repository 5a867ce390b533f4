"""The best rho of each sweep, between the points of the grid."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_items import Desk

from skip.evidence.estimate import Estimate
from skip.tables.show.render import as_json, markdown
from skip.tables.show.sweeps import sweeps


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def blocks(value: float, spread: float) -> Estimate:
    """With the error spread, and blocks that go up and down around the value by as much."""
    return Estimate(value, spread, (value - spread, value + spread))


def test_best_rho_of_each_sweep(desk: Desk) -> None:
    """The parabola (rho - 0.75)^2 gives 0.75 exactly; the other sweep falls towards its end."""
    cells = desk.sweep({rho: 2 + 100 * (rho - 0.75) ** 2 for rho in (1.0, 0.8, 0.7, 0.6)}, steps=9)
    cells += desk.sweep({rho: rho + 1 for rho in (1.0, 0.8, 0.6)}, steps=5)
    cells += desk.sweep({1.0: 2.0, 0.8: 2.0}, steps=7)
    item = desk.item(
        *[replace(c, varies={"steps": c.by_name["steps"], "rho": c.varies["rho"]}) for c in cells]
    )
    text = markdown([desk.read(item)])
    assert "- 9 steps: 0.75 (demo FID 2, -6.25 from rho 1)\n" in text
    assert (
        "- 5 steps: 0.6, an end of the grid: the best may lie beyond (demo FID 1.6, -0.4 from rho 1)\n"
        in text
    )
    assert "- 7 steps" not in text
    (record,) = json.loads(as_json([desk.read(item)]))
    assert record["best"][0]["rho"] == pytest.approx(0.75) and record["best"][1]["at_edge"] is True
    errors = desk.sweep(
        {rho: blocks(2 + 100 * (rho - 0.75) ** 2, 0.01) for rho in (0.8, 0.7, 0.6)},
        name="fid",
        steps=8,
    )
    (sweep,) = sweeps(desk.read(desk.item(*errors)))
    assert (
        sweep.name == "fid"
        and sweep.best is not None
        and sweep.best.error is not None
        and sweep.best.gain is None
    )
