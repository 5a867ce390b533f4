"""The directions that the paper reports, and whether the measured cells show them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal, NamedTuple, get_args

from skip.evidence.best import Best, best_rho
from skip.evidence.estimate import Estimate, as_text, difference, rounded

Setting = float | str | None
Seen = Literal["seen", "not seen", "undecided"]
ClaimKind = Literal["lower", "higher", "u_shape", "rises", "falls", "best_rises", "best_falls"]
CLAIM_KINDS: tuple[ClaimKind, ...] = get_args(ClaimKind)
Cells = dict[Setting, Estimate]
# settings that sentences write otherwise than the files do
WRITTEN = {"nfe": "NFE", "s_churn": "S_churn", "window_top": "window up to"}


@dataclass(frozen=True)
class Point:
    """One cell: its settings by name, and what was measured there by metric."""

    settings: Mapping[str, Setting]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Claim:
    """What the paper says of a metric along one setting.

    A difference counts if it exceeds z standard errors, paired where the cells share their seeds (`difference`). z is
    the two-sided normal quantile of 0.05 / m, m the number of cells or steps that one is picked from: 1.96 of one, 2.58
    of five: being the best of many is no effect by itself. (The value of the best stays a little optimistic.)

        lower, higher   the best cell other than the baseline lies below, above the baseline; m such cells
        u_shape         the least inner cell lies below both ends; m inner cells
        rises, falls    along increasing values the ends differ in that direction (m = 1), and none of the m steps
                        between neighbours goes against it
        best_rises, best_falls   along increasing values of `for_each`, the place of the least along `along`, see
                        `skip.evidence.best.best_rho`, moves in that direction between the ends; m = 1. Undecided where
                        a best is an end of its grid

    Args:
        says: the statement, a clause that follows "Seen: ".
        kind: of the above.
        metric: whose estimates count.
        along: the setting that varies.
        for_each: the setting whose every value must show it; None takes all points together.
        baseline: the value of `along` that lower and higher compare with.
        against: the values of `along` that they compare with it; None is all others.
        match: settings of the cells that it is about; None takes all.
    Raises:
        ValueError: if the kind is unknown or lacks its for_each, or `against` is empty or holds the baseline.
    """

    says: str
    kind: ClaimKind
    metric: str
    along: str
    for_each: str | None = None
    baseline: Setting = 1.0
    against: tuple[Setting, ...] | None = None
    match: Mapping[str, Setting] | None = None

    def __post_init__(self) -> None:
        if self.kind not in CLAIM_KINDS:
            raise ValueError(
                f"unknown kind of claim {self.kind!r}; choose from {', '.join(CLAIM_KINDS)}"
            )
        if self.against is not None and (not self.against or self.baseline in self.against):
            raise ValueError(
                f"against is {self.against}; name values of {self.along} other than {self.baseline}"
            )
        if self.kind in ("best_rises", "best_falls") and self.for_each is None:
            raise ValueError(
                f"{self.kind} compares the best {self.along} between values of for_each: name that setting"
            )


@dataclass(frozen=True)
class Verdict:
    """Whether a claim is seen, and one sentence with the numbers."""

    seen: Seen
    sentence: str


class Finding(NamedTuple):
    """Of one group: the verdict, and the numbers in words."""

    seen: Seen
    text: str


def judge(claim: Claim, points: Sequence[Point]) -> Verdict:
    """Whether the points show what the claim says.

    "seen" needs every group of equal `for_each` that has cells; one group that contradicts makes it "not seen";
    otherwise, and where the baseline or errors are missing, it is "undecided". Points without the metric or one of the
    settings, rows that are quoted for instance, do not count.

    Raises:
        ValueError: if no point has a setting or the metric, two points of a group agree in `along`, or a value along
            which a metric rises, falls or bends is no number.
    """
    groups = _groups(claim, points)
    if claim.kind in ("best_rises", "best_falls"):
        moved = _best_moves(claim, groups)
        return Verdict(moved.seen, f"{moved.seen.capitalize()}: {claim.says} ({moved.text}).")

    findings = {group: _JUDGES[claim.kind](claim, cells) for group, cells in groups.items()}
    seen = _together([finding.seen for finding in findings.values()])

    # A group is named if there can be several, with its own verdict where that is not the verdict on all.
    parts = []
    for group, finding in findings.items():
        text = finding.text
        if claim.for_each:
            name = _named(claim.for_each, group)
            own = "" if seen == "seen" else f", {finding.seen}"
            text = f"{name}{own}: {text}"
        parts.append(text)
    told = "; ".join(parts) or "nothing measured yet"
    return Verdict(seen, f"{seen.capitalize()}: {claim.says} ({told}).")


def _groups(claim: Claim, points: Sequence[Point]) -> dict[Setting, Cells]:
    """The metric's estimates by `for_each` and `along`."""
    wanted = claim.match or {}
    needed = [claim.along, *wanted]
    if claim.for_each:
        needed.insert(1, claim.for_each)
    _require("setting", needed, [point.settings for point in points])
    _require("metric", [claim.metric], [point.estimates for point in points])

    groups: dict[Setting, Cells] = {}
    for point in points:
        if any(point.settings.get(name) != value for name, value in wanted.items()):
            continue
        if claim.metric not in point.estimates or any(
            name not in point.settings for name in needed
        ):
            continue

        group = point.settings[claim.for_each] if claim.for_each else None
        cells = groups.setdefault(group, {})
        value = point.settings[claim.along]
        if value in cells:
            raise ValueError(
                f"two cells have {_named(claim.along, value)}: what tells them apart must be for_each"
            )
        cells[value] = point.estimates[claim.metric]

    several = {group: cells for group, cells in groups.items() if len(cells) > 1}
    return several or groups  # a group of one cell has no direction


def _require(what: str, names: Sequence[str], given: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a name that no point has; where there is no point, any may come."""
    known = {name for one in given for name in one}
    for name in names:
        if known and name not in known:
            raise ValueError(
                f"no cell has the {what} {name!r}; there are {', '.join(sorted(known))}"
            )


def _beats(claim: Claim, cells: Cells) -> Finding:
    """lower, higher."""
    baseline = _named(claim.along, claim.baseline)
    if claim.baseline not in cells:
        return Finding("undecided", f"{baseline} is not measured")

    candidates = {value: cell for value, cell in cells.items() if value != claim.baseline}
    if claim.against is not None:
        candidates = {value: cell for value, cell in candidates.items() if value in claim.against}
    if not candidates:
        return Finding("undecided", f"nothing is measured to compare with {baseline}")

    sign = 1 if claim.kind == "lower" else -1
    best = min(candidates, key=lambda value: sign * candidates[value].value)
    gap = difference(cells[best], cells[claim.baseline])
    return Finding(
        _below(gap, sign, len(candidates)), _compared(claim, cells, best, claim.baseline)
    )


def _bends(claim: Claim, cells: Cells) -> Finding:
    """u_shape."""
    values = _numbers(claim, cells)
    if len(values) < 3:
        return Finding(
            "undecided", f"{len(values)} values of {written(claim.along)}, too few for a U"
        )

    first, *inner, last = values
    least = min(inner, key=lambda value: cells[value].value)
    gaps = {end: difference(cells[least], cells[end]) for end in (first, last)}
    seen = _together([_below(gap, 1, len(inner)) for gap in gaps.values()])

    moves = " and ".join(
        f"{_moved(gap)} against {_named(claim.along, end)}" for end, gap in gaps.items()
    )
    return Finding(seen, f"{as_text(cells[least])} at {_named(claim.along, least)}, {moves}")


def _goes(claim: Claim, cells: Cells) -> Finding:
    """rises, falls."""
    values = _numbers(claim, cells)
    if len(values) < 2:
        return Finding(
            "undecided", f"{len(values)} values of {written(claim.along)}, too few for a direction"
        )
    sign = 1 if claim.kind == "falls" else -1
    text = _compared(claim, cells, values[-1], values[0])

    # A step against the direction refutes it, whatever the ends say.
    against = []
    for low, high in pairwise(values):
        step = difference(cells[high], cells[low])
        if _below(step, sign, len(values) - 1) == "not seen":
            against.append(f"{_moved(step)} from {_named(claim.along, low)} to {_shown(high)}")
    if against:
        return Finding("not seen", f"{text}; but {', '.join(against)}")

    whole = difference(cells[values[-1]], cells[values[0]])
    return Finding(_below(whole, sign, 1), text)


def _best_moves(claim: Claim, groups: Mapping[Setting, Cells]) -> Finding:
    """best_rises, best_falls."""
    for_each = str(claim.for_each)
    order = _numbers(replace(claim, along=for_each), groups)
    if len(order) < 2:
        return Finding(
            "undecided", f"{len(order)} values of {written(for_each)}, too few for a direction"
        )

    bests = {at: _best(claim, groups[at]) for at in (order[0], order[-1])}
    told = " and ".join(
        f"{_placed(best)} at {_named(for_each, at)}{_end(best)}" for at, best in bests.items()
    )

    first, last = bests.values()
    error = None
    if first.error is not None and last.error is not None:
        error = math.hypot(first.error, last.error)  # of different cells: as if independent
    gap = Estimate.plain(last.rho - first.rho, error)
    text = f"best {written(claim.along)} {told}, difference {_moved(gap)}"

    if first.at_edge or last.at_edge:
        return Finding("undecided", text)
    sign = 1 if claim.kind == "best_falls" else -1
    return Finding(_below(gap, sign, 1), text)


def _best(claim: Claim, cells: Cells) -> Best:
    grid = _numbers(claim, cells)
    return best_rho(grid, [cells[value] for value in grid])


def _placed(best: Best) -> str:
    return as_text(Estimate.plain(best.rho, best.error))


def _end(best: Best) -> str:
    return ", an end of the grid" if best.at_edge else ""


_JUDGES: dict[ClaimKind, Callable[[Claim, Cells], Finding]] = {
    "lower": _beats,
    "higher": _beats,
    "u_shape": _bends,
    "rises": _goes,
    "falls": _goes,
}


def threshold(candidates: int) -> float:
    """How many standard errors a difference must exceed: the two-sided normal quantile of 0.05 / candidates."""
    return NormalDist().inv_cdf(1 - 0.025 / candidates)


def _below(gap: Estimate, sign: int, candidates: int) -> Seen:
    """Whether sign * gap lies below 0 by more than its error allows."""
    if gap.error is None or abs(gap.value) <= threshold(candidates) * gap.error:
        return "undecided"
    return "seen" if sign * gap.value < 0 else "not seen"


def _together(parts: Sequence[Seen]) -> Seen:
    """Of several that must all be seen: one that contradicts decides, and one that is undecided leaves it open."""
    if "not seen" in parts:
        return "not seen"
    if not parts or "undecided" in parts:
        return "undecided"
    return "seen"


def _numbers(claim: Claim, cells: Iterable[Setting]) -> list[float]:
    """The values of `along` in order."""
    values = []
    for value in cells:
        if not isinstance(value, float | int):
            raise ValueError(f"{claim.kind} goes along numbers; {claim.along} is {value!r}")
        values.append(value)
    return sorted(values)


def _compared(claim: Claim, cells: Cells, value: Setting, other: Setting) -> str:
    """Two cells and their difference, all as precise as the difference is known."""
    gap = difference(cells[value], cells[other])
    a, b = (rounded(cells[v].value, gap.error) for v in (value, other))
    return f"{a} at {_named(claim.along, value)} against {b} at {_shown(other)}, difference {_moved(gap)}"


def _moved(gap: Estimate) -> str:
    text = as_text(gap, "+")
    return f"{text} of unknown error" if gap.error is None else text


def written(name: str) -> str:
    """A setting's name in words."""
    return WRITTEN.get(name.lower(), name.replace("_", " "))


def _named(name: str, value: Setting) -> str:
    return f"{written(name)} {_shown(value)}"


def _shown(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)
