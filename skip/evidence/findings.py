"""Whether the cells of a group show what a claim says; a function for each kind of claim."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from skip.evidence.best import Best, best_rho
from skip.evidence.claim import Claim, ClaimKind
from skip.evidence.estimate import Estimate, as_text, difference, rounded, scaled
from skip.evidence.significance import lies
from skip.evidence.words import Setting, moved, named, number_or_text, written

Seen = Literal["seen", "not seen", "undecided"]
Cells = Mapping[Setting, Estimate]


class Comparison(NamedTuple):
    """Two values and their difference, in words; or `measured` alone, a remark."""

    measured: str
    against: str = ""
    gap: str = ""


class Finding(NamedTuple):
    """Of one group: whether it shows the claim, and what was compared."""

    seen: Seen
    compared: tuple[Comparison, ...]


def beats(claim: Claim, cells: Cells, groups: int) -> Finding:
    """lower, higher."""
    gaps = _gaps(claim, cells)
    if isinstance(gaps, str):
        return _remark(gaps)

    sign = 1 if claim.kind == "lower" else -1
    passing = [value for value, gap in gaps.items() if lies(gap, sign, len(gaps))]
    best = min(passing or gaps, key=lambda value: sign * cells[value].value)
    seen: Seen = "undecided"
    if passing:
        seen = "seen"
    elif all(lies(gap, -sign, groups) for gap in gaps.values()):
        seen = "not seen"
    return Finding(seen, (_compared(claim.along, cells, best, claim.baseline),))


def equals(claim: Claim, cells: Cells, groups: int) -> Finding:
    """equal: with c a cell and b the baseline, c < (1 + margin) b and c > (1 - margin) b, both paired."""
    gaps = _gaps(claim, cells)
    if isinstance(gaps, str):
        return _remark(gaps)

    assert claim.margin is not None
    baseline = cells[claim.baseline]
    ends = [scaled(baseline, 1 - claim.margin), scaled(baseline, 1 + claim.margin)]
    if baseline.value < 0:
        ends.reverse()
    within, beyond = [], []
    for value in gaps:
        from_low, from_high = (difference(cells[value], end) for end in ends)
        within.append(lies(from_low, -1) and lies(from_high, 1))
        tests = len(gaps) * groups
        beyond.append(lies(from_low, 1, tests) or lies(from_high, -1, tests))

    seen: Seen = "undecided"
    if any(beyond):
        seen = "not seen"
    elif all(within):
        seen = "seen"
    return Finding(
        seen, tuple(_compared(claim.along, cells, value, claim.baseline) for value in gaps)
    )


def most_beat(claim: Claim, by_metric: Mapping[str, Cells], groups: int) -> Finding:
    """most_lower."""
    gaps: dict[Setting, dict[str, Estimate]] = {}
    for metric, cells in by_metric.items():
        found = _gaps(claim, cells)
        if isinstance(found, str):
            return _remark(found)
        for value, gap in found.items():
            gaps.setdefault(value, {})[metric] = gap

    # More than half of them fall; if this many rise, they do not.
    fall = len(by_metric) // 2 + 1
    rise = len(by_metric) - fall + 1
    falling, rising = {}, {}
    for value, own in gaps.items():
        falling[value] = sum(lies(gap, 1, len(gaps) * rise) for gap in own.values())
        rising[value] = sum(lies(gap, -1, fall * groups) for gap in own.values())
    best = max(falling, key=lambda value: falling[value] - rising[value])

    seen: Seen = "undecided"
    if falling[best] >= fall:
        seen = "seen"
    elif all(count >= rise for count in rising.values()):
        seen = "not seen"
    return Finding(
        seen,
        tuple(
            _compared(claim.along, cells, best, claim.baseline, metric)
            for metric, cells in by_metric.items()
        ),
    )


def bends(claim: Claim, cells: Cells, groups: int) -> Finding:
    """u_shape."""
    values = numbers(claim, cells)
    if len(values) < 3:
        return _remark(f"{len(values)} values of {written(claim.along)}, too few for a U")

    first, *inner, last = values
    gaps = {
        value: [difference(cells[value], cells[end]) for end in (first, last)] for value in inner
    }
    least, seen = _least_inside(gaps, {value: cells[value].value for value in inner}, groups)
    return Finding(seen, tuple(_compared(claim.along, cells, least, end) for end in (first, last)))


def peaks(claim: Claim, by_group: Mapping[Setting, Cells]) -> Finding:
    """peaks, over all groups."""
    order = numbers(claim, by_group, str(claim.for_each))
    if len(order) < 3:
        return _remark(f"{len(order)} values of {written(str(claim.for_each))}, too few for a peak")
    falls: dict[Setting, Estimate] = {}
    for group in order:
        gaps = _gaps(claim, by_group[group])
        if isinstance(gaps, str):
            return _remark(gaps)
        if len(gaps) > 1:
            raise ValueError(f"peaks compares one {claim.along} with the baseline: say against")
        (falls[group],) = gaps.values()

    first, *inner, last = order
    to_ends = {
        group: [difference(falls[group], falls[end]) for end in (first, last)] for group in inner
    }
    to_all = {
        group: [difference(falls[group], falls[other]) for other in order if other != group]
        for group in inner
    }
    most, seen = _least_inside(to_ends, {group: falls[group].value for group in inner}, 1, to_all)
    return Finding(
        seen,
        tuple(
            _compared(str(claim.for_each), falls, most, other, "fall", "+")
            for other in order
            if other != most
        ),
    )


def _least_inside(
    to_ends: Mapping[float, Sequence[Estimate]],
    heights: Mapping[float, float],
    groups: int,
    to_beat: Mapping[float, Sequence[Estimate]] | None = None,
) -> tuple[float, Seen]:
    """The inner value that lies lowest, of those that show it if some do, and whether it is the least of all.

    Args:
        to_ends: of each inner value, its differences from the first and from the last.
        heights: of each.
        groups: how many there are to contradict.
        to_beat: the differences that must all be negative; None is those from the ends.
    """
    wanted = to_ends if to_beat is None else to_beat
    passing = [
        value for value, gaps in wanted.items() if all(lies(gap, 1, len(wanted)) for gap in gaps)
    ]
    least = min(passing or heights, key=lambda value: heights[value])
    if passing:
        return least, "seen"
    for from_end in zip(*to_ends.values(), strict=True):
        if all(lies(gap, -1, 2 * groups) for gap in from_end):
            return least, "not seen"
    return least, "undecided"


def goes(claim: Claim, cells: Cells, groups: int) -> Finding:
    """rises, falls."""
    values = numbers(claim, cells)
    if len(values) < 2:
        return _remark(f"{len(values)} values of {written(claim.along)}, too few for a direction")
    sign = 1 if claim.kind == "falls" else -1
    first, last = values[0], values[-1]
    whole = difference(cells[last], cells[first])
    steps = list(pairwise(values))
    tests = groups * (len(steps) + 1 if len(steps) > 1 else 1)

    # A step against the direction refutes it, whatever the ends say.
    against = []
    for low, high in steps:
        if lies(difference(cells[high], cells[low]), -sign, tests) and len(steps) > 1:
            against.append(_compared(claim.along, cells, high, low))

    seen: Seen = "undecided"
    if against or lies(whole, -sign, tests):
        seen = "not seen"
    elif lies(whole, sign):
        seen = "seen"
    return Finding(seen, (_compared(claim.along, cells, last, first), *against))


def best_moves(claim: Claim, by_group: Mapping[Setting, Cells]) -> Finding:
    """best_rises, best_falls, over all groups."""
    order = numbers(claim, by_group, str(claim.for_each))
    if len(order) < 2:
        return _remark(
            f"{len(order)} values of {written(str(claim.for_each))}, too few for a direction"
        )
    sign = 1 if claim.kind == "best_falls" else -1
    seen, row = _best_between(claim, by_group, order[-1], order[0], sign, 1)
    return Finding(seen, (row,))


def best_above(claim: Claim, by_group: Mapping[Setting, Cells]) -> Finding:
    """best_above, over all groups."""
    others = [group for group in by_group if group != claim.baseline]
    if claim.against is not None:
        others = [group for group in others if group in claim.against]
    if claim.baseline not in by_group or not others:
        return _remark(f"{named(str(claim.for_each), claim.baseline)} has nothing to compare with")
    found = [
        _best_between(claim, by_group, group, claim.baseline, -1, len(others)) for group in others
    ]
    return Finding(together([seen for seen, _ in found]), tuple(row for _, row in found))


def _best_between(
    claim: Claim,
    by_group: Mapping[Setting, Cells],
    group: Setting,
    other: Setting,
    sign: int,
    groups: int,
) -> tuple[Seen, Comparison]:
    """Whether the best of a group lies below (sign 1) or above (-1) that of another one; in words."""
    here, there = (_best(claim, by_group[at]) for at in (group, other))
    error = None
    if here.error is not None and there.error is not None:
        error = math.hypot(here.error, there.error)  # of different cells: as if independent
    gap = Estimate.plain(here.rho - there.rho, error)
    texts = [
        f"best {written(claim.along)} {as_text(Estimate.plain(best.rho, best.error))} at "
        f"{named(str(claim.for_each), at)}{', an end of the grid' if best.at_edge else ''}"
        for best, at in ((here, group), (there, other))
    ]

    seen: Seen = "undecided"
    if not here.at_edge and not there.at_edge:
        if lies(gap, sign):
            seen = "seen"
        elif lies(gap, -sign, groups):
            seen = "not seen"
    return seen, Comparison(texts[0], texts[1], moved(gap))


def _best(claim: Claim, cells: Cells) -> Best:
    grid = numbers(claim, cells)
    return best_rho(grid, [cells[value] for value in grid])


IN_A_GROUP: dict[ClaimKind, Callable[[Claim, Cells, int], Finding]] = {
    "lower": beats,
    "higher": beats,
    "equal": equals,
    "u_shape": bends,
    "rises": goes,
    "falls": goes,
}
OVER_GROUPS: dict[ClaimKind, Callable[[Claim, Mapping[Setting, Cells]], Finding]] = {
    "peaks": peaks,
    "best_rises": best_moves,
    "best_falls": best_moves,
    "best_above": best_above,
}


def together(parts: Sequence[Seen]) -> Seen:
    """Of several that must all be seen: one that contradicts decides, and one that is undecided leaves it open."""
    if "not seen" in parts:
        return "not seen"
    if not parts or "undecided" in parts:
        return "undecided"
    return "seen"


def numbers(claim: Claim, cells: Iterable[Setting], along: str | None = None) -> list[float]:
    """The values of `along`, of the claim's if it is None, in order."""
    values = []
    for value in cells:
        if not isinstance(value, float | int):
            raise ValueError(
                f"{claim.kind} goes along numbers; {along or claim.along} is {value!r}"
            )
        values.append(value)
    return sorted(values)


def _gaps(claim: Claim, cells: Cells) -> dict[Setting, Estimate] | str:
    """The differences of the cells that count from the baseline; or why there are none."""
    baseline = named(claim.along, claim.baseline)
    if claim.baseline not in cells:
        return f"{baseline} is not measured"
    found = {
        value: difference(cell, cells[claim.baseline])
        for value, cell in cells.items()
        if value != claim.baseline and (claim.against is None or value in claim.against)
    }
    return found or f"nothing is measured to compare with {baseline}"


def _remark(text: str) -> Finding:
    return Finding("undecided", (Comparison(text),))


def _compared(
    along: str,
    cells: Cells,
    value: Setting,
    other: Setting,
    what: str = "",
    sign: Literal["", "+"] = "",
) -> Comparison:
    """Two cells and their difference, all as precise as the difference is known."""
    gap = difference(cells[value], cells[other])
    a, b = (rounded(cells[at].value, gap.error, sign) for at in (value, other))
    return Comparison(
        f"{what} {a} at {named(along, value)}".strip(),
        f"{b} at {number_or_text(other)}",
        moved(gap),
    )
