"""Claims: every kind seen, contradicted and undecided, with the numbers of the sentence."""

import re
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from skip.evidence.claims import Claim, Point, Setting, judge, threshold
from skip.evidence.estimate import Estimate

NOISE = np.random.default_rng(0).standard_normal(1000)
LOWER = Claim("FID is lower with rho < 1 than with rho = 1", "lower", "fid", "rho")
U = Claim("FID over rho has a minimum below 1", "u_shape", "fid", "rho")
FALLS = Claim("FID falls with NFE", "falls", "fid", "nfe")


def cells(
    along: str, values: dict[Any, float], error: float | None = 0.1, **others: Setting
) -> list[Point]:
    """Points whose differences have sqrt(2) times the error."""
    return [
        Point({along: x, **others}, {"fid": Estimate.plain(y, error)}) for x, y in values.items()
    ]


def test_lower_seen() -> None:
    verdict = judge(LOWER, cells("rho", {0.6: 6.3, 0.7: 6.12, 1.0: 6.6}))
    assert verdict.seen == "seen"
    assert verdict.sentence == (
        "Seen: FID is lower with rho < 1 than with rho = 1 "
        "(6.12 at rho 0.7 against 6.60 at 1, difference -0.48 +- 0.14)."
    )


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({0.8: 5.0, 1.0: 5.27}, "undecided"),  # 1.91 errors
        ({0.8: 5.0, 1.0: 5.29}, "seen"),  # 2.05 errors of 1 candidate
        ({0.8: 5.0, 0.7: 6.0, 1.0: 5.29}, "undecided"),  # the same of 2
        ({0.8: 5.0, 0.7: 6.0, 1.0: 5.33}, "seen"),  # 2.33 errors of 2
        ({0.8: 5.33, 0.7: 6.0, 1.0: 5.0}, "not seen"),
        ({0.8: 5.2, 1.0: 5.0}, "undecided"),
        ({0.8: 5.0, 1.0: 5.0}, "undecided"),
        ({0.8: 4.0}, "undecided"),
        ({1.0: 4.0}, "undecided"),
    ],
)
def test_lower_and_higher(values: dict[float, float], seen: str) -> None:
    assert judge(LOWER, cells("rho", values)).seen == seen
    mirrored = {rho: 10 - value for rho, value in values.items()}
    assert judge(replace(LOWER, kind="higher"), cells("rho", mirrored)).seen == seen


BEST = Claim("the best rho rises with NFE", "best_rises", "fid", "rho", "nfe")


def bowl(nfe: int, best: float, error: float | None = 0.001) -> list[Point]:
    """FID 5 + (rho - best)^2 with the blocks of an error; its parabola's vertex is `best`."""
    moves = [-error, error] * 50 if error else []
    fids = {rho: 5 + (rho - best) ** 2 for rho in (0.6, 0.7, 0.8, 0.9, 1.0)}
    return [
        Point(
            {"rho": rho, "nfe": nfe},
            {"fid": Estimate(y, error and error / 10, tuple(y + m * rho for m in moves))},
        )
        for rho, y in fids.items()
    ]


@pytest.mark.parametrize(
    ("first", "last", "seen"),
    [
        (0.72, 0.83, "seen"),
        (0.83, 0.72, "not seen"),
        (0.8, 0.8, "undecided"),
        (0.5, 0.8, "undecided"),
    ],
)
def test_the_best_moves(first: float, last: float, seen: str) -> None:
    points = bowl(39, last) + bowl(19, 0.9) + bowl(9, first)
    verdict = judge(BEST, points)
    assert verdict.seen == seen
    opposite = {"seen": "not seen", "not seen": "seen"}
    assert judge(replace(BEST, kind="best_falls"), points).seen == opposite.get(seen, seen)
    assert ("an end of the grid" in verdict.sentence) == (first == 0.5)
    if seen == "seen":
        assert re.search(
            r"best rho 0\.72\d* \+- \S+ at NFE 9 and 0\.83\d* \+- \S+ at NFE 39, difference \+0\.11",
            verdict.sentence,
        )


def test_the_best_of_unknown_error_or_of_one_group_says_nothing() -> None:
    assert judge(BEST, bowl(9, 0.7, None) + bowl(39, 0.8, None)).seen == "undecided"
    assert judge(BEST, bowl(9, 0.7)).sentence.endswith(
        "(1 values of NFE, too few for a direction)."
    )
    with pytest.raises(ValueError, match="name that setting"):
        replace(BEST, for_each=None)


def test_what_is_missing_is_named() -> None:
    assert "(rho 1 is not measured)" in judge(LOWER, cells("rho", {0.8: 4.0})).sentence
    assert (
        "(nothing is measured to compare with rho 1)"
        in judge(LOWER, cells("rho", {1.0: 4.0})).sentence
    )
    assert judge(LOWER, []).sentence == f"Undecided: {LOWER.says} (nothing measured yet)."
    unknown = judge(LOWER, cells("rho", {0.8: 4.0, 1.0: 5.0}, error=None))
    assert unknown.seen == "undecided"
    assert "4 at rho 0.8 against 5 at 1, difference -1 of unknown error" in unknown.sentence


def test_shared_seeds_decide_what_single_errors_cannot() -> None:
    def point(rho: float, shift: float) -> Point:
        return Point(
            {"rho": rho}, {"fid": Estimate.of_mean(6 + NOISE + shift + 0.1 * shift * NOISE[::-1])}
        )

    points = [point(0.8, -0.02), point(1.0, 0.0)]
    assert judge(LOWER, points).seen == "seen"
    blind = [Point(p.settings, {"fid": replace(p.estimates["fid"], blocks=())}) for p in points]
    assert judge(LOWER, blind).seen == "undecided"


def test_the_threshold_is_bonferronis() -> None:
    assert threshold(1) == pytest.approx(NormalDist().inv_cdf(1 - 0.025))
    assert threshold(5) == pytest.approx(NormalDist().inv_cdf(1 - 0.005))


def test_of_cells_without_an_effect_few_are_seen() -> None:
    """The best of 9 equal cells passes about as often as 0.05 / 2 says, not 9 times as often."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(1000):
        values = {rho / 10: 5 + 0.1 * rng.standard_normal() for rho in range(1, 10)} | {1.0: 5.0}
        points = cells("rho", values, error=0.1)
        points[-1] = Point({"rho": 1.0}, {"fid": Estimate.plain(5, 0)})
        passed += judge(LOWER, points).seen == "seen"
    assert 10 <= passed <= 45


def test_a_group_of_one_cell_has_no_say() -> None:
    points = cells("nfe", {9: 6.0, 19: 5.0}, rho=1.0) + cells("nfe", {19: 4.0}, rho=0.5)
    assert judge(replace(FALLS, for_each="rho"), points).seen == "seen"
    assert judge(replace(FALLS, for_each="rho"), points[2:]).seen == "undecided"


def test_a_chosen_cell_against_another_setting() -> None:
    claim = Claim(
        "EDM prefers decreasing rho",
        "lower",
        "fid",
        "time",
        baseline="increasing",
        against=("decreasing",),
    )
    verdict = judge(claim, cells("time", {"increasing": 5.0, "decreasing": 4.0, "constant": 3.0}))
    assert verdict.seen == "seen"
    assert (
        "4.00 at time decreasing against 5.00 at increasing, difference -1.00 +- 0.14"
        in verdict.sentence
    )


def test_a_claim_about_some_of_the_cells() -> None:
    claim = Claim(
        "LDM prefers increasing rho",
        "lower",
        "fid",
        "time",
        baseline="decreasing",
        match={"network": "ldm"},
    )
    ldm = cells("time", {"increasing": 4.0, "decreasing": 5.0}, network="ldm")
    edm = cells("time", {"increasing": 5.0, "decreasing": 4.0}, network="edm")
    assert judge(claim, edm + ldm).seen == "seen"
    assert judge(replace(claim, match={"network": "edm"}), edm + ldm).seen == "not seen"
    assert judge(claim, edm).seen == "undecided"
    with pytest.raises(ValueError, match="two cells have time increasing"):
        judge(replace(claim, match=None), edm + ldm)
    with pytest.raises(ValueError, match="no cell has the setting 'net'"):
        judge(replace(claim, match={"net": "ldm"}), edm + ldm)


def test_every_group_must_show_it() -> None:
    claim = replace(LOWER, for_each="nfe")
    good = cells("rho", {0.7: 6.12, 1.0: 6.6}, nfe=9)
    bad = cells("rho", {0.7: 5.5, 1.0: 5.0}, nfe=19)
    doubtful = cells("rho", {0.7: 4.9, 1.0: 5.0}, nfe=39)
    assert judge(claim, good).sentence.startswith(f"Seen: {LOWER.says} (NFE 9: 6.12 at rho 0.7")
    verdict = judge(claim, good + bad + doubtful)
    assert verdict.seen == "not seen"
    assert verdict.sentence == (
        "Not seen: FID is lower with rho < 1 than with rho = 1 "
        "(NFE 9, seen: 6.12 at rho 0.7 against 6.60 at 1, difference -0.48 +- 0.14; "
        "NFE 19, not seen: 5.50 at rho 0.7 against 5.00 at 1, difference +0.50 +- 0.14; "
        "NFE 39, undecided: 4.90 at rho 0.7 against 5.00 at 1, difference -0.10 +- 0.14)."
    )
    assert judge(claim, good + doubtful).seen == "undecided"


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({0.5: 8.0, 0.7: 6.0, 0.8: 6.1, 1.0: 7.0}, "seen"),
        ({0.5: 5.0, 0.7: 6.0, 1.0: 7.0}, "not seen"),
        ({0.5: 8.0, 0.7: 6.0, 1.0: 5.0}, "not seen"),
        ({0.5: 8.0, 0.7: 6.0, 1.0: 6.2}, "undecided"),
        ({0.5: 6.1, 0.7: 6.0, 1.0: 7.0}, "undecided"),
        ({0.5: 6.29, 0.7: 6.0, 1.0: 7.0}, "seen"),
        ({0.5: 6.29, 0.7: 6.0, 0.8: 6.5, 1.0: 7.0}, "undecided"),  # of two inner cells
        ({0.5: 8.0, 1.0: 6.2}, "undecided"),
    ],
)
def test_u_shape(values: dict[float, float], seen: str) -> None:
    assert judge(U, cells("rho", values)[::-1]).seen == seen


def test_u_shape_in_words() -> None:
    assert judge(U, cells("rho", {0.5: 8.0, 0.7: 6.0, 1.0: 7.0})).sentence == (
        f"Seen: {U.says} (6.00 +- 0.10 at rho 0.7, -2.00 +- 0.14 against rho 0.5 and -1.00 +- 0.14 against rho 1)."
    )
    assert (
        "(2 values of rho, too few for a U)"
        in judge(U, cells("rho", {0.5: 8.0, 1.0: 7.0})).sentence
    )


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({9: 6.0, 19: 5.0, 39: 4.0}, "seen"),
        ({9: 6.0, 19: 4.0, 39: 4.2}, "seen"),  # up by less than the error allows
        ({9: 6.0, 19: 4.0, 39: 4.5}, "not seen"),
        # Up by 2.2 errors, one of four steps.
        ({9: 6.0, 12: 5.0, 15: 5.31, 19: 4.9, 39: 4.0}, "seen"),
        ({9: 6.0, 12: 5.0, 15: 5.36, 19: 4.9, 39: 4.0}, "not seen"),  # 2.55
        ({9: 6.0, 19: 6.1, 39: 5.9}, "undecided"),
        ({9: 4.0, 19: 5.0, 39: 6.0}, "not seen"),
        ({9: 6.0, 13: 6.25, 19: 6.5}, "not seen"),  # no step counts, the ends do
        ({9: 6.0}, "undecided"),
    ],
)
def test_falls_and_rises(values: dict[float, float], seen: str) -> None:
    assert judge(FALLS, cells("nfe", values)[::-1]).seen == seen
    assert (
        judge(replace(FALLS, kind="rises"), cells("nfe", {x: -y for x, y in values.items()})).seen
        == seen
    )


def test_falls_in_words() -> None:
    assert judge(FALLS, cells("nfe", {9: 6.0, 39: 4.0, 19: 5.0})).sentence == (
        "Seen: FID falls with NFE (4.00 at NFE 39 against 6.00 at 9, difference -2.00 +- 0.14)."
    )
    assert judge(FALLS, cells("nfe", {9: 6.0, 19: 4.0, 39: 4.5})).sentence == (
        "Not seen: FID falls with NFE "
        "(4.50 at NFE 39 against 6.00 at 9, difference -1.50 +- 0.14; but +0.50 +- 0.14 from NFE 19 to 39)."
    )


def test_rows_without_the_setting_do_not_count() -> None:
    quoted = Point({"network": "edm2"}, {"fid": Estimate.plain(1.0)})
    unmeasured = Point({"rho": 0.6}, {"is": Estimate.plain(9.0)})
    points = cells("rho", {0.7: 6.0, 1.0: 7.0})
    assert judge(LOWER, [*points, quoted, unmeasured]) == judge(LOWER, points)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (replace(LOWER, along="roh"), "no cell has the setting 'roh'; there are nfe, rho, time"),
        (replace(LOWER, for_each="steps"), "no cell has the setting 'steps'"),
        (replace(LOWER, metric="fdi"), "no cell has the metric 'fdi'; there are fid"),
        (
            replace(LOWER, along="nfe", baseline=9),
            "two cells have NFE 9: what tells them apart must be for_each",
        ),
        (
            replace(FALLS, along="time", for_each="rho"),
            "falls goes along numbers; time is 'constant'",
        ),
    ],
)
def test_claims_that_fit_no_cell_are_refused(claim: Claim, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(claim, cells("rho", {0.7: 6.0, 1.0: 7.0}, nfe=9, time="constant"))


def test_claims_that_make_no_sense_are_refused() -> None:
    with pytest.raises(
        ValueError, match="'bends'; choose from lower, higher, u_shape, rises, falls"
    ):
        replace(LOWER, kind="bends")  # type: ignore[arg-type]
    for against in ((), (0.8, 1.0)):
        with pytest.raises(ValueError, match=r"name values of rho other than 1\.0"):
            replace(LOWER, against=against)
