"""Claims of an item over hand-made results: which cells they compare, and what they say."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_items import Desk

from skip.evidence.claim import Claim
from skip.evidence.estimate import Estimate
from skip.tables.show.render import markdown
from skip.tables.show.verdicts import verdicts

LOWER = Claim(
    "FID is lower with rho < 1 than with rho = 1", "lower", "fid", "rho", for_each="sampler, steps"
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_claims_name_the_group_and_the_demo(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1), 0.9: Estimate(5.0, 0.1)}, steps=9)
    cells += desk.sweep({1.0: Estimate(7.0, 0.1), 0.9: Estimate(5.0, 0.1)}, steps=3, sampler="heun")
    by_nfe = Claim("FID falls with NFE", "falls", "fid", "nfe", for_each="sampler, rho")
    one, two = verdicts(desk.read(desk.item(*cells, claims=(LOWER, by_nfe))))
    assert one.seen == "seen" and one.says == "demo FID is lower with rho < 1 than with rho = 1"
    assert one.sentence == "Seen: demo FID is lower with rho < 1 than with rho = 1."
    assert one.rows == (
        ("sampler unipc, steps 9", "seen", "5.00 at rho 0.9", "6.00 at 1", "-1.00 +- 0.14"),
        ("sampler heun, steps 3", "seen", "5.00 at rho 0.9", "7.00 at 1", "-2.00 +- 0.14"),
    )
    groups = {row.group: (row.seen, row.measured) for row in two.rows}
    assert groups["sampler unipc, rho 0.9"] == (
        "undecided",
        "1 values of NFE, too few for a direction",
    )
    (already,) = verdicts(desk.read(desk.item(*cells, claims=(replace(LOWER, says=one.says),))))
    assert already.says == one.says
    assert "± 0.14" in markdown([desk.read(desk.item(*cells, claims=(LOWER,)))])


def test_a_metric_is_called_as_in_the_cells_of_the_claim(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1), 0.9: Estimate(5.0, 0.1)}, steps=9)
    floored = {1.0: Estimate(3.0, 0.1), 0.9: Estimate(2.0, 0.1)}
    others = desk.sweep(floored, "fid-demo-fashion-mnist-floor3", steps=9, detector="demo-floor3")
    each = [
        replace(LOWER, for_each=None, match={"detector": name}) for name in ("det", "demo-floor3")
    ]
    plain, black = verdicts(desk.read(desk.item(*cells, *others, claims=tuple(each))))
    assert plain.sentence == "Seen: demo FID is lower with rho < 1 than with rho = 1."
    assert black.says.startswith("demo FID (fashion-mnist-floor3) is lower")
    less = Claim("FID falls less", "falls_less", "fid", for_each="detector", than="det")
    (judged,) = verdicts(desk.read(desk.item(*cells, *others, claims=(less,))))
    assert judged.seen == "undecided" and judged.rows[0].group == "detector demo-floor3, rho 0.9"


def test_claims_that_do_not_fit(desk: Desk) -> None:
    item = desk.item(*desk.sweep({1.0: 6.0, 0.9: 5.0}))
    (judged,) = verdicts(
        desk.read(replace(item, claims=(replace(LOWER, metric="clip-vitl14 loss"),)))
    )
    assert judged.seen is None and judged.sentence.startswith("Not measured here: FID is lower")
    with pytest.raises(
        ValueError, match=r"table2, claim 'FID is lower.*no cell has the setting 'stepz'"
    ):
        verdicts(desk.read(replace(item, claims=(replace(LOWER, for_each="sampler, stepz"),))))
    with pytest.raises(ValueError, match="no cell has the setting 'stepz'"):
        verdicts(desk.read(replace(item, claims=(replace(LOWER, match={"stepz": 9}),))))


def test_a_claim_about_features_is_one_about_each(desk: Desk) -> None:
    cells = [desk.images(rho=rho) for rho in (1.0, 0.8)]
    for cell, value in zip(cells, (6.0, 5.0), strict=True):
        names = ("pixel loss", "LL loss", "demo loss", "resnet-101 loss")
        desk.save(cell, **{name: Estimate(value, 0.1) for name in names})
    claim = Claim("the feature loss falls", "lower", "feature loss", "rho")
    found = [judged.sentence for judged in verdicts(desk.read(desk.item(*cells, claims=(claim,))))]
    assert found == ["Seen: the demo loss falls.", "Seen: the resnet-101 loss falls."]
    text = markdown([desk.read(desk.item(*cells))])
    assert "| pixel loss (difference from rho 1) | LL loss (difference from rho 1) |" in text
    assert text.count("5.00 ± 0.10 (-1.00 ± 0.14)") == 4


def test_a_setting_that_is_not_there_can_be_the_baseline(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1)}, window=None)
    cells += desk.sweep({0.8: Estimate(5.0, 0.1)}, window=(0.5, 2.0))
    claim = Claim("FID falls in some window", "lower", "fid", "window", baseline="none")
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(claim,))))
    assert judged.rows[0][2:4] == ("5.00 at window 0.5 to 2", "6.00 at none")


def test_windows_have_an_order(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1)}, window=None)
    for window, fid in (((2.0, 1000.0), 6.0), ((0.5, 2.0), 5.0), ((0.0, 0.5), 5.9)):
        cells += desk.sweep({0.8: Estimate(fid, 0.1)}, window=window)
    middle = Claim("a middle window helps most", "u_shape", "fid", "window_top", match={"rho": 0.8})
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(middle,))))
    assert judged.seen == "seen" and judged.rows[0].measured == "5.00 at window up to 2"


def test_a_plain_cell_has_no_time_order(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1), 0.8: Estimate(5.5, 0.1)})
    for time, fid in (("increasing", 5.7), ("decreasing", 5.0)):
        cells += desk.sweep({0.8: Estimate(fid, 0.1)}, time=time)
    claim = Claim(
        "decreasing rho is better", "lower", "fid", "time", "axis", "increasing", ("decreasing",)
    )
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(claim,))))
    assert judged.rows[0][2:4] == ("5.00 at time decreasing", "5.70 at increasing")
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(replace(claim, baseline="none"),))))
    assert judged.rows[0][2:4] == ("5.00 at time decreasing", "6.00 at none")


def test_along_two_settings(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1), 0.8: Estimate(5.0, 0.1)}, steps=20)
    cells += desk.sweep({1.0: Estimate(5.5, 0.1)}, steps=256)
    limit = Claim(
        "FID is below the limit",
        "lower",
        "fid",
        "rho, steps",
        None,
        "1, steps 256",
        ("0.8, steps 20",),
    )
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(limit,))))
    assert judged.rows == (
        ("", "seen", "5.00 at rho 0.8, steps 20", "5.50 at 1, steps 256", "-0.50 +- 0.14"),
    )


def test_a_claim_about_most_of_several_metrics(desk: Desk) -> None:
    cells = [desk.images(rho=rho) for rho in (1.0, 0.8)]
    for cell, value in zip(cells, (6.0, 5.0), strict=True):
        names = ("rbf_v", "imq_v", "laplace_v")
        desk.save(cell, **{name: Estimate(value, 0.1) for name in names})
    claim = Claim("most kernels fall", "most_lower", metrics=("rbf_v", "imq_v"))
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(claim,))))
    assert judged.seen == "seen"
    assert [row.measured for row in judged.rows] == [
        "RBF, V-statistic 5.00 at rho 0.8",
        "IMQ, V-statistic 5.00 at rho 0.8",
    ]
    with pytest.raises(ValueError, match="no cell has the metric 'rbf 2'"):
        verdicts(desk.read(desk.item(*cells, claims=(replace(claim, metrics=("rbf_v", "rbf_2")),))))


def test_a_claim_waits_for_the_cells_that_it_is_about(desk: Desk) -> None:
    cells = desk.sweep({1.0: Estimate(6.0, 0.1), 0.9: Estimate(5.0, 0.1)}, steps=9)
    cells += [desk.images(rho=rho, steps=19) for rho in (1.0, 0.9)]
    claims = tuple(replace(LOWER, match=match) for match in ({"steps": 9}, {"steps": 19}, None))
    first, second, both = verdicts(desk.read(desk.item(*cells, claims=claims)))
    assert first.seen == "seen"
    assert second.seen is both.seen is None
    assert second.sentence.endswith("(cells to do: 2 of 2).")
    assert both.sentence.endswith("(cells to do: 2 of 4).")


def test_a_plain_cell_is_the_baseline_of_both_ways_over_layers(desk: Desk) -> None:
    """Of each sampler its own; a group with a plain cell of its own keeps that one."""
    cells = []
    for sampler, plain in (("unipc", 6.0), ("heun", 8.0)):
        cells += desk.sweep({1.0: Estimate(plain, 0.1)}, sampler=sampler)
        for across, fid in (("bottom-to-one", 5.0), ("constant", 5.5)):
            tuned = {0.8: Estimate(fid, 0.1)}
            cells += desk.sweep(tuned, sampler=sampler, across=across)
    claim = replace(LOWER, for_each="sampler, across")
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(claim,))))
    assert judged.seen == "seen"
    assert [(row.group, row.against, row.gap) for row in judged.rows] == [
        ("sampler unipc, across bottom-to-one", "6.00 at 1", "-1.00 +- 0.14"),
        ("sampler unipc, across constant", "6.00 at 1", "-0.50 +- 0.14"),
        ("sampler heun, across bottom-to-one", "8.00 at 1", "-3.00 +- 0.14"),
        ("sampler heun, across constant", "8.00 at 1", "-2.50 +- 0.14"),
    ]
    # Of cells that differ in something else as well, each has its own.
    cells += desk.sweep({1.0: Estimate(4.0, 0.1)}, labels="balanced")
    for across in ("bottom-to-one", "constant"):
        cells += desk.sweep({0.8: Estimate(3.0, 0.1)}, labels="balanced", across=across)
    for labels, against in (("balanced", "4.00 at 1"), ("random", "6.00 at 1")):
        only = replace(claim, match={"labels": labels, "sampler": "unipc"})
        (judged,) = verdicts(desk.read(desk.item(*cells, claims=(only,))))
        assert [row.against for row in judged.rows] == [against, against]

    cells += desk.sweep({1.0: Estimate(5.6, 0.1)}, sampler="unipc", across="constant")
    plain_labels = replace(claim, match={"labels": "random"})
    (judged,) = verdicts(desk.read(desk.item(*cells, claims=(plain_labels,))))
    own = {row.group: row for row in judged.rows}["sampler unipc, across constant"]
    assert own.against == "5.60 at 1" and own.seen == "undecided"
