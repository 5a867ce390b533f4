"""Whether the cells of a group show what a claim says; a function for each kind of claim."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from dnnlib.words import written
from skip.evidence.claim import Claim, ClaimKind
from skip.evidence.comparison import (
    Cells,
    Finding,
    Seen,
    compared,
    gaps_from_baseline,
    numbers,
    remark,
)
from skip.evidence.estimate import Estimate, difference, scaled
from skip.evidence.significance import lies
from skip.evidence.words import Setting


def beats(claim: Claim, cells: Cells, groups: int) -> Finding:
    """lower, higher."""
    gaps = gaps_from_baseline(claim, cells)
    if isinstance(gaps, str):
        return remark(gaps)

    sign = 1 if claim.kind == "lower" else -1
    passing = [value for value, gap in gaps.items() if lies(gap, sign, len(gaps))]
    best = min(passing or gaps, key=lambda value: sign * cells[value].value)
    seen: Seen = "undecided"
    if passing:
        seen = "seen"
    elif all(lies(gap, -sign, groups) for gap in gaps.values()):
        seen = "not seen"
    return Finding(seen, (compared(claim.along, cells, best, claim.baseline),))


def equals(claim: Claim, cells: Cells, groups: int) -> Finding:
    """equal: with c a cell and b the baseline, c < (1 + margin) b and c > (1 - margin) b, both paired."""
    gaps = gaps_from_baseline(claim, cells)
    if isinstance(gaps, str):
        return remark(gaps)

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
        seen, tuple(compared(claim.along, cells, value, claim.baseline) for value in gaps)
    )


def most_beat(claim: Claim, by_metric: Mapping[str, Cells], groups: int) -> Finding:
    """most_lower."""
    gaps: dict[Setting, dict[str, Estimate]] = {}
    for metric, cells in by_metric.items():
        found = gaps_from_baseline(claim, cells)
        if isinstance(found, str):
            return remark(found)
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
            compared(claim.along, cells, best, claim.baseline, metric)
            for metric, cells in by_metric.items()
        ),
    )


def bends(claim: Claim, cells: Cells, groups: int) -> Finding:
    """u_shape."""
    values = numbers(claim, cells)
    if len(values) < 3:
        return remark(f"{len(values)} values of {written(claim.along)}, too few for a U")

    first, *inner, last = values
    gaps = {
        value: [difference(cells[value], cells[end]) for end in (first, last)] for value in inner
    }
    least, seen = least_inside(gaps, {value: cells[value].value for value in inner}, groups)
    return Finding(seen, tuple(compared(claim.along, cells, least, end) for end in (first, last)))


def least_inside(
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
        return remark(f"{len(values)} values of {written(claim.along)}, too few for a direction")
    sign = 1 if claim.kind == "falls" else -1
    first, last = values[0], values[-1]
    whole = difference(cells[last], cells[first])
    steps = list(pairwise(values))
    tests = groups * (len(steps) + 1 if len(steps) > 1 else 1)

    # A step against the direction refutes it, whatever the ends say.
    against = []
    for low, high in steps:
        if lies(difference(cells[high], cells[low]), -sign, tests) and len(steps) > 1:
            against.append(compared(claim.along, cells, high, low))

    seen: Seen = "undecided"
    if against or lies(whole, -sign, tests):
        seen = "not seen"
    elif lies(whole, sign):
        seen = "seen"
    return Finding(seen, (compared(claim.along, cells, last, first), *against))


IN_A_GROUP: dict[ClaimKind, Callable[[Claim, Cells, int], Finding]] = {
    "lower": beats,
    "higher": beats,
    "equal": equals,
    "u_shape": bends,
    "rises": goes,
    "falls": goes,
}
