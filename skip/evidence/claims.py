"""The directions that the paper reports, and whether the measured cells show them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

from skip.evidence.best import best_rho
from skip.evidence.estimate import Estimate, as_text, difference, rounded

Setting = float | str | None
Seen = Literal["seen", "not seen", "undecided"]
Kind = Literal["lower", "higher", "u_shape", "rises", "falls", "best_rises", "best_falls"]
KINDS: tuple[Kind, ...] = get_args(Kind)
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
    kind: Kind
    metric: str
    along: str
    for_each: str | None = None
    baseline: Setting = 1.0
    against: tuple[Setting, ...] | None = None
    match: Mapping[str, Setting] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of claim {self.kind!r}; choose from {', '.join(KINDS)}")
        if self.against is not None and (not self.against or self.baseline in self.against):
            raise ValueError(f"against is {self.against}; name values of {self.along} other than {self.baseline}")
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
    parts = []
    for group, finding in findings.items():
        label = _named(claim.for_each, group) if claim.for_each else ""
        if label and seen != "seen":
            label += f", {finding.seen}"
        parts.append(f"{label}: {finding.text}" if label else finding.text)
    return Verdict(seen, f"{seen.capitalize()}: {claim.says} ({'; '.join(parts) or 'nothing measured yet'}).")


def _groups(claim: Claim, points: Sequence[Point]) -> dict[Setting, Cells]:
    """The metric's estimates by `for_each` and `along`."""
    needed = [claim.along, *([claim.for_each] if claim.for_each else []), *(claim.match or {})]
    for what, names, given in (
        ("setting", needed, {name for p in points for name in p.settings}),
        ("metric", [claim.metric], {name for p in points for name in p.estimates}),
    ):
        for name in names:
            if given and name not in given:
                raise ValueError(f"no cell has the {what} {name!r}; there are {', '.join(sorted(given))}")
    groups: dict[Setting, Cells] = {}
    wanted = claim.match or {}
    for p in points:
        if any(p.settings.get(name) != value for name, value in wanted.items()):
            continue
        if claim.metric in p.estimates and all(name in p.settings for name in needed):
            group = p.settings[claim.for_each] if claim.for_each else None
            cells = groups.setdefault(group, {})
            value = p.settings[claim.along]
            if value in cells:
                raise ValueError(f"two cells have {_named(claim.along, value)}: what tells them apart must be for_each")
            cells[value] = p.estimates[claim.metric]
    several = {group: cells for group, cells in groups.items() if len(cells) > 1}
    return several or groups  # a group of one cell has no direction


def _beats(claim: Claim, cells: Cells) -> Finding:
    """lower, higher."""
    candidates = {
        value: cell
        for value, cell in cells.items()
        if value != claim.baseline and (claim.against is None or value in claim.against)
    }
    baseline = _named(claim.along, claim.baseline)
    if claim.baseline not in cells:
        return Finding("undecided", f"{baseline} is not measured")
    if not candidates:
        return Finding("undecided", f"nothing is measured to compare with {baseline}")
    sign = 1 if claim.kind == "lower" else -1
    best = min(candidates, key=lambda value: sign * candidates[value].value)
    gap = difference(cells[best], cells[claim.baseline])
    return Finding(_below(gap, sign, len(candidates)), _compared(claim, cells, best, claim.baseline))


def _bends(claim: Claim, cells: Cells) -> Finding:
    """u_shape."""
    values = _numbers(claim, cells)
    if len(values) < 3:
        return Finding("undecided", f"{len(values)} values of {_written(claim.along)}, too few for a U")
    inner = values[1:-1]
    least = min(inner, key=lambda value: cells[value].value)
    gaps = {end: difference(cells[least], cells[end]) for end in (values[0], values[-1])}
    moves = " and ".join(f"{_moved(gap)} against {_named(claim.along, end)}" for end, gap in gaps.items())
    text = f"{as_text(cells[least])} at {_named(claim.along, least)}, {moves}"
    return Finding(_together([_below(gap, 1, len(inner)) for gap in gaps.values()]), text)


def _goes(claim: Claim, cells: Cells) -> Finding:
    """rises, falls."""
    values = _numbers(claim, cells)
    if len(values) < 2:
        return Finding("undecided", f"{len(values)} values of {_written(claim.along)}, too few for a direction")
    sign = 1 if claim.kind == "falls" else -1
    first, last = values[0], values[-1]
    text = _compared(claim, cells, last, first)
    steps = {(low, high): difference(cells[high], cells[low]) for low, high in pairwise(values)}
    against = [
        f"{_moved(step)} from {_named(claim.along, low)} to {_shown(high)}"
        for (low, high), step in steps.items()
        if _below(step, sign, len(steps)) == "not seen"
    ]
    if against:
        return Finding("not seen", f"{text}; but {', '.join(against)}")
    return Finding(_below(difference(cells[last], cells[first]), sign, 1), text)


def _best_moves(claim: Claim, groups: Mapping[Setting, Cells]) -> Finding:
    """best_rises, best_falls."""
    for_each = str(claim.for_each)
    order = _numbers(replace(claim, along=for_each), groups)
    if len(order) < 2:
        return Finding("undecided", f"{len(order)} values of {_written(for_each)}, too few for a direction")
    first, last = order[0], order[-1]
    grids = {at: _numbers(claim, groups[at]) for at in (first, last)}
    bests = {at: best_rho(grid, [groups[at][value] for value in grid]) for at, grid in grids.items()}
    told = [
        f"{as_text(Estimate.plain(best.rho, best.error))} at {_named(for_each, at)}"
        + ", an end of the grid" * best.at_edge
        for at, best in bests.items()
    ]
    errors = [best.error for best in bests.values()]
    error = None if None in errors else math.hypot(*[e for e in errors if e is not None])
    gap = Estimate.plain(bests[last].rho - bests[first].rho, error)
    text = f"best {_written(claim.along)} {' and '.join(told)}, difference {_moved(gap)}"
    if any(best.at_edge for best in bests.values()):
        return Finding("undecided", text)
    return Finding(_below(gap, -1 if claim.kind == "best_rises" else 1, 1), text)


_JUDGES: dict[Kind, Callable[[Claim, Cells], Finding]] = {
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
    if "not seen" in parts:
        return "not seen"
    return "seen" if parts and all(part == "seen" for part in parts) else "undecided"


def _numbers(claim: Claim, cells: Iterable[Setting]) -> list[float]:
    """The values of `along` in order."""
    values = []
    for value in cells:
        if not isinstance(value, float | int):
            raise ValueError(f"{claim.kind} goes along numbers; {claim.along} is {value!r}")
        values.append(value)
    return sorted(values)


def _compared(claim: Claim, cells: Cells, value: Setting, other: Setting) -> str:
    gap = difference(cells[value], cells[other])
    a, b = (rounded(cells[v].value, gap.error) for v in (value, other))
    return f"{a} at {_named(claim.along, value)} against {b} at {_shown(other)}, difference {_moved(gap)}"


def _moved(gap: Estimate) -> str:
    return as_text(gap, "+") + (" of unknown error" if gap.error is None else "")


def _shown(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _written(name: str) -> str:
    return WRITTEN.get(name.lower(), name.replace("_", " "))


def _named(name: str, value: Setting) -> str:
    return f"{_written(name)} {_shown(value)}"
