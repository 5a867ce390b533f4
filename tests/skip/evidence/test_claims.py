"""Claims: every kind seen, contradicted and undecided, with the numbers of the sentence."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, ttest_rel

from skip.evidence.claim import Claim, Point
from skip.evidence.claims import Row, Verdict, judge
from skip.evidence.estimate import Estimate
from skip.evidence.words import Setting

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
    assert verdict.sentence == "Seen: FID is lower with rho < 1 than with rho = 1."
    assert verdict.rows == (Row("", "seen", "6.12 at rho 0.7", "6.60 at 1", "-0.48 +- 0.14"),)


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({0.8: 5.0, 1.0: 5.27}, "undecided"),  # 1.91 errors
        ({0.8: 5.0, 1.0: 5.29}, "seen"),  # 2.05 errors of 1 candidate
        ({0.8: 5.0, 0.7: 6.0, 1.0: 5.29}, "undecided"),  # the same of 2
        ({0.8: 5.0, 0.7: 6.0, 1.0: 5.33}, "seen"),  # 2.33 errors of 2
        ({0.8: 5.29, 0.7: 6.0, 1.0: 5.0}, "not seen"),  # all are above, each by 1.96 errors
        ({0.8: 5.27, 0.7: 6.0, 1.0: 5.0}, "undecided"),
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
        (0.5, 0.8, "seen"),  # it is 0.6, the end of the grid, or less
        (0.8, 0.5, "not seen"),
        (0.5, 0.5, "undecided"),
    ],
)
def test_the_best_moves(first: float, last: float, seen: str) -> None:
    points = bowl(39, last) + bowl(19, 0.9) + bowl(9, first)
    verdict = judge(BEST, points)
    assert verdict.seen == seen
    opposite = {"seen": "not seen", "not seen": "seen"}
    assert judge(replace(BEST, kind="best_falls"), points).seen == opposite.get(seen, seen)
    assert ("an end of the grid" in verdict.rows[0].against) == (first == 0.5)
    if first == 0.72:
        assert re.match(r"best rho 0\.83\d* \+- \S+ at NFE 39$", verdict.rows[0].measured)
        assert re.match(r"best rho 0\.72\d* \+- \S+ at NFE 9$", verdict.rows[0].against)
        assert verdict.rows[0].gap.startswith("+0.11")


def test_the_best_of_unknown_error_or_of_one_group_says_nothing() -> None:
    assert judge(BEST, bowl(9, 0.7, None) + bowl(39, 0.8, None)).seen == "undecided"
    assert remark(judge(BEST, bowl(9, 0.7))) == "1 values of NFE, too few for a direction"
    with pytest.raises(ValueError, match="name that setting"):
        replace(BEST, for_each=None)


def remark(verdict: Verdict) -> str:
    (row,) = verdict.rows
    assert verdict.seen == "undecided" and row.against == row.gap == ""
    return row.measured


def test_what_is_missing_is_named() -> None:
    assert remark(judge(LOWER, cells("rho", {0.8: 4.0}))) == "rho 1 is not measured"
    nothing = "nothing is measured to compare with rho 1"
    assert remark(judge(LOWER, cells("rho", {1.0: 4.0}))) == nothing
    assert judge(LOWER, []) == Verdict("undecided", f"Undecided: {LOWER.says}.", ())
    unknown = judge(LOWER, cells("rho", {0.8: 4.0, 1.0: 5.0}, error=None))
    assert unknown.seen == "undecided"
    assert unknown.rows[0][2:] == ("4 at rho 0.8", "5 at 1", "-1 of unknown error")


def test_shared_seeds_decide_what_single_errors_cannot() -> None:
    def point(rho: float, shift: float) -> Point:
        return Point(
            {"rho": rho}, {"fid": Estimate.of_mean(6 + NOISE + shift + 0.1 * shift * NOISE[::-1])}
        )

    points = [point(0.8, -0.02), point(1.0, 0.0)]
    assert judge(LOWER, points).seen == "seen"
    blind = [Point(p.settings, {"fid": replace(p.estimates["fid"], blocks=())}) for p in points]
    assert judge(LOWER, blind).seen == "undecided"


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
    assert verdict.rows[0][2:] == ("4.00 at time decreasing", "5.00 at increasing", "-1.00 +- 0.14")


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
    both = replace(claim, match={"network": ["ldm", "edm"]}, for_each="network")
    found = judge(both, [*edm, *ldm, *cells("time", {"increasing": 1.0}, network="other")])
    assert [row.group for row in found.rows] == ["network edm", "network ldm"]
    with pytest.raises(ValueError, match="two cells have time increasing"):
        judge(replace(claim, match=None), edm + ldm)
    with pytest.raises(ValueError, match="no cell has the setting 'net'"):
        judge(replace(claim, match={"net": "ldm"}), edm + ldm)


def test_every_group_must_show_it() -> None:
    claim = replace(LOWER, for_each="nfe")
    good = cells("rho", {0.7: 6.12, 1.0: 6.6}, nfe=9)
    bad = cells("rho", {0.7: 5.5, 1.0: 5.0}, nfe=19)
    doubtful = cells("rho", {0.7: 4.9, 1.0: 5.0}, nfe=39)
    verdict = judge(claim, good)
    assert verdict.seen == "seen" and verdict.rows[0].group == "NFE 9"
    verdict = judge(claim, good + bad + doubtful)
    assert verdict.sentence == "Not seen: FID is lower with rho < 1 than with rho = 1."
    assert verdict.rows == (
        Row("NFE 9", "seen", "6.12 at rho 0.7", "6.60 at 1", "-0.48 +- 0.14"),
        Row("NFE 19", "not seen", "5.50 at rho 0.7", "5.00 at 1", "+0.50 +- 0.14"),
        Row("NFE 39", "undecided", "4.90 at rho 0.7", "5.00 at 1", "-0.10 +- 0.14"),
    )
    assert judge(claim, good + doubtful).seen == "undecided"


def test_each_candidate_is_tested_not_the_lowest_alone() -> None:
    """Table 3 of the demo: at rho 0.98 the difference is small and certain, at 0.95 the value is lowest."""
    points = [
        Point({"rho": rho}, {"fid": Estimate.plain(value, error)})
        for rho, value, error in ((1.0, 5.0, 0.0), (0.98, 4.984, 0.005), (0.95, 4.981, 0.013))
    ]
    verdict = judge(LOWER, points)
    assert verdict.seen == "seen" and verdict.rows[0].measured == "4.984 at rho 0.98"
    points[1] = Point({"rho": 0.98}, {"fid": Estimate.plain(4.984, 0.0075)})  # 2.13 < 2.24 errors
    assert judge(LOWER, points).seen == "undecided"
    alone = replace(LOWER, against=(0.98,))
    assert judge(alone, points).seen == "seen", "a rho that the paper states is tested by itself"


@pytest.mark.parametrize(("groups", "gap", "seen"), [
    (1, 2.0, "not seen"), (5, 2.0, "undecided"), (5, 2.5, "undecided"), (5, 2.6, "not seen"),
])  # fmt: skip
def test_a_contradiction_is_corrected_for_the_number_of_groups(
    groups: int, gap: float, seen: str
) -> None:
    """Five groups: 2.58 errors instead of 1.96."""
    points = []
    for nfe in range(groups):
        above = gap if nfe == 0 else -9.0
        for rho, value, error in ((1.0, 0.0, 0.0), (0.9, above, 1.0)):
            points.append(Point({"rho": rho, "nfe": nfe}, {"fid": Estimate.plain(value, error)}))
    assert judge(replace(LOWER, for_each="nfe"), points).seen == seen


def test_of_groups_without_an_effect_few_contradict() -> None:
    """The levels of five groups, each group of two cells without a difference: false contradictions in 2.5%."""
    rng = np.random.default_rng(0)
    contradicted = 0
    for _ in range(1000):
        points = []
        for nfe, value in enumerate(rng.standard_normal(5)):
            points.append(Point({"rho": 1.0, "nfe": nfe}, {"fid": Estimate.plain(0, 0)}))
            points.append(Point({"rho": 0.9, "nfe": nfe}, {"fid": Estimate.plain(value, 1)}))
        contradicted += judge(replace(LOWER, for_each="nfe"), points).seen == "not seen"
    assert 10 <= contradicted <= 45


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
    assert judge(U, cells("rho", {0.5: 8.0, 0.7: 6.0, 1.0: 7.0})).rows == (
        Row("", "seen", "6.00 at rho 0.7", "8.00 at 0.5", "-2.00 +- 0.14"),
        Row("", "seen", "6.00 at rho 0.7", "7.00 at 1", "-1.00 +- 0.14"),
    )
    few = judge(U, cells("rho", {0.5: 8.0, 1.0: 7.0}))
    assert remark(few) == "2 values of rho, too few for a U"


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({9: 6.0, 19: 5.0, 39: 4.0}, "seen"),
        ({9: 6.0, 19: 4.0, 39: 4.2}, "seen"),  # up by less than the error allows
        ({9: 6.0, 19: 4.0, 39: 4.5}, "not seen"),
        # Up by 2.2 errors, one of four steps.
        ({9: 6.0, 12: 5.0, 15: 5.31, 19: 4.9, 39: 4.0}, "seen"),
        ({9: 6.0, 12: 5.0, 15: 5.36, 19: 4.9, 39: 4.0}, "seen"),  # 2.55: one of five, with the ends
        ({9: 6.0, 12: 5.0, 15: 5.38, 19: 4.9, 39: 4.0}, "not seen"),  # 2.69
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
    assert judge(FALLS, cells("nfe", {9: 6.0, 39: 4.0, 19: 5.0})).rows == (
        Row("", "seen", "4.00 at NFE 39", "6.00 at 9", "-2.00 +- 0.14"),
    )
    assert judge(FALLS, cells("nfe", {9: 6.0, 19: 4.0, 39: 4.5})).rows == (
        Row("", "not seen", "4.50 at NFE 39", "6.00 at 9", "-1.50 +- 0.14"),
        Row("", "not seen", "4.50 at NFE 39", "4.00 at 19", "+0.50 +- 0.14"),
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
    with pytest.raises(ValueError, match="'bends'; choose from lower, higher, equal, most_lower"):
        replace(LOWER, kind="bends")  # type: ignore[arg-type]
    for against in ((), (0.8, 1.0)):
        with pytest.raises(ValueError, match=r"name values of rho other than 1\.0"):
            replace(LOWER, against=against)


# ---- equality within a margin

EQUAL = Claim("FID has converged", "equal", "fid", "nfe", baseline=511, margin=0.05)


@pytest.mark.parametrize(
    ("value", "error", "seen"),
    [
        (100.0, 2.0, "seen"),  # 95 and 105 are 2.5 errors away
        (100.0, 2.6, "undecided"),
        (103.0, 0.9, "seen"),
        (103.0, 1.1, "undecided"),
        (107.0, 0.9, "not seen"),
        (93.0, 0.9, "not seen"),
        (107.0, 1.1, "undecided"),
    ],
)
def test_equality_is_shown_not_taken(value: float, error: float, seen: str) -> None:
    points = [
        Point({"nfe": 511}, {"fid": Estimate.plain(100.0, 0.0)}),
        Point({"nfe": 39}, {"fid": Estimate.plain(value, error)}),
    ]
    assert judge(EQUAL, points).seen == seen
    negative = [
        Point(p.settings, {"fid": replace(p.estimates["fid"], value=-p.estimates["fid"].value)})
        for p in points
    ]
    assert judge(EQUAL, negative).seen == seen


def test_two_one_sided_tests_as_scipy_does_them() -> None:
    """Paired, of ratios: a against 0.95 b and 1.05 b by Student's t of the blocks."""
    rng = np.random.default_rng(1)
    seen = []
    for shift in np.linspace(0, 8, 60):
        b = 100 + rng.standard_normal(20)
        a = b + shift + 2 * rng.standard_normal(20)
        points = [
            Point({"nfe": 511}, {"fid": Estimate.of_mean(b)}),
            Point({"nfe": 39}, {"fid": Estimate.of_mean(a)}),
        ]
        high = ttest_rel(a, 1.05 * b, alternative="less").pvalue
        low = ttest_rel(a, 0.95 * b, alternative="greater").pvalue
        expected = max(high, low) < 0.025
        assert (judge(EQUAL, points).seen == "seen") == expected
        seen.append(expected)
    assert 10 < sum(seen) < 50


def test_what_lies_on_the_margin_is_seldom_called_equal() -> None:
    rng = np.random.default_rng(0)
    passed = 0
    for value in 105 + rng.standard_normal(1000):
        points = [
            Point({"nfe": 511}, {"fid": Estimate.plain(100.0, 0.0)}),
            Point({"nfe": 39}, {"fid": Estimate.plain(value, 1.0)}),
        ]
        passed += judge(EQUAL, points).seen == "seen"
    assert 10 <= passed <= 45


# ---- the largest fall at an inner level

PEAKS = Claim("the fall is largest inside", "peaks", "fid", "rho", "sigma")


def falls_of(falls: dict[float, float], error: float = 0.1) -> list[Point]:
    points = []
    for sigma, fall in falls.items():
        points.append(Point({"rho": 1.0, "sigma": sigma}, {"fid": Estimate.plain(9.0, 0.0)}))
        points.append(Point({"rho": 0.8, "sigma": sigma}, {"fid": Estimate.plain(9 - fall, error)}))
    return points


@pytest.mark.parametrize(
    ("falls", "seen"),
    [
        ({80: -0.5, 17: 1.0, 2: 2.0, 0.002: 0.0}, "seen"),  # a rise elsewhere is allowed
        ({80: -0.5, 17: 1.9, 2: 2.0, 0.002: 0.0}, "undecided"),  # two levels alike
        ({80: 3.0, 17: 1.0, 2: 2.0, 0.002: 0.0}, "not seen"),
        ({80: 2.1, 17: 1.0, 2: 2.0, 0.002: 0.0}, "undecided"),
        ({80: 0.0, 0.002: 0.0}, "undecided"),
        ({80: 0.0, 17: 0.3, 0.002: 0.0}, "seen"),  # 2.12 errors, one inner level
        ({80: 0.0, 17: 0.3, 2: 0.0, 0.002: 0.0}, "undecided"),  # of two
    ],
)
def test_the_largest_fall(falls: dict[float, float], seen: str) -> None:
    verdict = judge(PEAKS, falls_of(falls))
    assert verdict.seen == seen
    if len(falls) == 4 and seen == "seen":
        first = verdict.rows[0]
        assert first[2:] == ("fall -2.00 at sigma 2", "+0.00 at 0.002", "-2.00 +- 0.14")
        assert len(verdict.rows) == 3


def test_a_peak_needs_one_pair_a_level() -> None:
    more = Point({"rho": 0.9, "sigma": 80.0}, {"fid": Estimate.plain(8.0, 0.1)})
    levels = falls_of({80: 0.0, 2: 1.0, 0.002: 0.0})
    with pytest.raises(ValueError, match="say against"):
        judge(PEAKS, [*levels, more])
    assert judge(replace(PEAKS, against=(0.8,)), [*levels, more]).seen == "seen"
    assert "rho 1 is not measured" in remark(judge(PEAKS, levels[1::2]))


def test_without_a_peak_few_are_seen() -> None:
    rng = np.random.default_rng(0)
    passed = sum(
        judge(PEAKS, falls_of(dict(enumerate(rng.standard_normal(5))), 1.0)).seen != "undecided"
        for _ in range(500)
    )
    assert passed <= 25


# ---- most of several metrics

KERNELS = tuple(f"k{i}" for i in range(6))
MOST = Claim("noise is closer to Gaussian under most kernels", "most_lower", metrics=KERNELS)


def under_kernels(gaps: dict[float, list[float]]) -> list[Point]:
    """At rho = 1 every kernel has 0 without an error, elsewhere the gap in errors of 1."""
    plain = Point({"rho": 1.0}, {name: Estimate.plain(0, 0) for name in KERNELS})
    return [plain] + [
        Point(
            {"rho": rho},
            {name: Estimate.plain(gap, 1) for name, gap in zip(KERNELS, own, strict=True)},
        )
        for rho, own in gaps.items()
    ]


@pytest.mark.parametrize(
    ("gaps", "seen"),
    [
        ({0.9: [-3, -3, -3, -3, 3, 3]}, "seen"),
        ({0.9: [-3, -3, -3, -2, 3, 3]}, "undecided"),  # the fourth at 0.05 / 3: 2.39 errors
        ({0.9: [-3, -3, -3, 3, 3, 3]}, "not seen"),
        ({0.9: [-3, -3, -3, 3, 3, 2]}, "undecided"),  # the third of those that rise at 0.05 / 4
        ({0.9: [3] * 6, 0.95: [-3, -3, -3, -3, 3, 3]}, "seen"),
        ({0.9: [-2.5] * 4 + [3, 3], 0.95: [0] * 6}, "undecided"),  # of two rhos: 2.64 errors
    ],
)
def test_most_of_the_metrics(gaps: dict[float, list[float]], seen: str) -> None:
    verdict = judge(MOST, under_kernels(gaps))
    assert verdict.seen == seen and len(verdict.rows) == 6
    assert verdict.rows[0].measured.startswith("k0 ")


def test_a_partial_conjunction_as_scipy_combines_it() -> None:
    """At least 4 of 6 p-values are of true effects: the fourth least, times 3; two rhos double it."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        gaps = {rho: list(rng.standard_normal(6) - 2.5) for rho in (0.9, 0.95)}
        combined = min(3 * sorted(norm.cdf(own))[3] for own in gaps.values())
        assert (judge(MOST, under_kernels(gaps)).seen == "seen") == (2 * combined < 0.025)


def test_with_three_of_six_certain_few_are_called_most() -> None:
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(500):
        own = [-9.0, -9.0, -9.0, *rng.standard_normal(3)]
        passed += judge(MOST, under_kernels({0.9: own})).seen == "seen"
    assert 3 <= passed <= 25


# ---- the best of one group above that of another

ABOVE = Claim("students do best nearer 1", "best_above", "fid", "rho", "nfe", baseline=9)


def test_the_best_above_another() -> None:
    teacher, student, other = bowl(9, 0.72), bowl(1, 0.85), bowl(2, 0.68)
    assert judge(ABOVE, teacher + student).seen == "seen"
    verdict = judge(ABOVE, teacher + student + other)
    assert verdict.seen == "not seen" and len(verdict.rows) == 2
    assert judge(replace(ABOVE, against=(1,)), teacher + student + other).seen == "seen"
    assert [row.seen for row in verdict.rows] == ["seen", "not seen"]
    assert [row.group for row in verdict.rows] == ["NFE 1", "NFE 2"]


def test_an_end_of_the_grid_bounds_the_best_on_one_side() -> None:
    """A best at 0.6 or less lies below 0.72; one at 0.8 or more, of a grid that ends there, may lie above 0.85."""
    assert judge(ABOVE, bowl(9, 0.72) + bowl(1, 0.5)).seen == "not seen"
    short = [point for point in bowl(1, 0.95) if point.settings["rho"] in (0.6, 0.7, 0.8)]
    assert judge(ABOVE, bowl(9, 0.72) + short).seen == "seen"
    assert judge(ABOVE, bowl(9, 0.85) + short).seen == "undecided"


LESS = Claim("less in b", "falls_less", "fid", "rho", "detector", than="a")


@pytest.mark.parametrize(
    ("falls", "seen"),
    [
        # of a at rho 0.8 and 0.7, then of b; the error of a difference of two falls is 0.2
        ((1.0, 0.9, 0.5, 0.4), "seen"),
        ((1.0, 0.9, 0.5, 0.6), "undecided"),  # 1.5 errors at 0.7
        ((0.5, 0.4, 0.9, 0.4), "undecided"),  # 2 errors the other way, one of two chances
        ((0.5, 0.4, 0.96, -0.4), "not seen"),  # 2.3 errors
        ((-0.5, -0.5, -1.0, -1.0), "seen"),  # a rise is a fall below 0
    ],
)
def test_one_group_falls_less_than_another(falls: tuple[float, ...], seen: str) -> None:
    of_a = cells("rho", {1.0: 6.0, 0.8: 6 - falls[0], 0.7: 6 - falls[1]}, detector="a")
    of_b = cells("rho", {1.0: 9.0, 0.8: 9 - falls[2], 0.7: 9 - falls[3]}, detector="b")
    verdict = judge(LESS, of_a + of_b)
    assert verdict.seen == seen
    assert [row.group for row in verdict.rows] == [
        "detector b, rho 0.8",
        "detector b, rho 0.7",
    ]
    assert verdict.rows[0].measured.startswith("fall ")


def test_falls_of_common_seeds_are_paired() -> None:
    """Noise that all cells share, or that both cells of a detector share, drops out."""
    shared, of_b, rest = NOISE[:100], NOISE[100:200], NOISE[200:300] / 100
    points = []
    for detector, rho, value, noise in (
        ("a", 1.0, 6.0, shared),
        ("a", 0.8, 5.0, shared),
        ("b", 1.0, 9.0, shared + of_b),
        ("b", 0.8, 8.1, shared + of_b + rest - rest.mean()),
    ):
        estimate = Estimate(value, 0.1, tuple(value + noise - noise.mean()))
        points.append(Point({"detector": detector, "rho": rho}, {"fid": estimate}))
    verdict = judge(LESS, points)
    assert verdict.seen == "seen" and verdict.rows[0].gap == "+0.1000 +- 0.0011"


def test_without_the_group_to_compare_with_nothing_falls_less() -> None:
    alone = cells("rho", {1.0: 6.0, 0.8: 5.0}, detector="b")
    assert judge(LESS, alone).rows[0].measured == "detector a has nothing to compare with"
    without = cells("rho", {0.8: 5.0, 0.7: 5.0}, detector="a")
    found = judge(LESS, alone + without)
    assert found.rows[0].measured == "rho 1 is not measured at detector a"
    assert found.seen == "undecided"


def test_without_the_group_to_compare_with_there_is_no_best_above() -> None:
    student, other = bowl(1, 0.85), bowl(2, 0.68)
    assert remark(judge(ABOVE, student + other)) == "NFE 9 has nothing to compare with"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 0.1}, "equal needs one"),
        ({"kind": "equal"}, "margin is None: equal needs one"),
        ({"kind": "equal", "margin": 5.0}, "between 0 and 1"),
        ({"kind": "most_lower"}, "most_lower needs several"),
        ({"metrics": ("a", "b")}, "every other kind one metric"),
        ({"kind": "peaks"}, "name that setting"),
        ({"kind": "best_above"}, "name that setting"),
        ({"kind": "falls_less"}, "name that setting"),
        ({"kind": "falls_less", "for_each": "nfe"}, "than is None: falls_less needs"),
        ({"kind": "lower", "than": "demo"}, "than is demo: falls_less needs"),
    ],
)
def test_kinds_that_lack_what_they_need(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LOWER, **change)
