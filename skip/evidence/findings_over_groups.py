"""Whether groups of cells, compared with one another, show what a claim says; a function for each kind of claim."""

import math
from collections.abc import Callable, Mapping

from skip.evidence.best import Best, best_rho
from skip.evidence.claim import Claim, ClaimKind
from skip.evidence.comparison import (
    Cells,
    Comparison,
    Finding,
    Seen,
    compared,
    gaps_from_baseline,
    numbers,
    remark,
    together,
)
from skip.evidence.estimate import Estimate, as_text, difference
from skip.evidence.findings import least_inside
from skip.evidence.significance import lies
from skip.evidence.words import Setting, moved, named, written


def peaks(claim: Claim, by_group: Mapping[Setting, Cells]) -> Finding:
    """peaks, over all groups."""
    order = numbers(claim, by_group, str(claim.for_each))
    if len(order) < 3:
        return remark(f"{len(order)} values of {written(str(claim.for_each))}, too few for a peak")
    falls: dict[Setting, Estimate] = {}
    for group in order:
        gaps = gaps_from_baseline(claim, by_group[group])
        if isinstance(gaps, str):
            return remark(gaps)
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
    most, seen = least_inside(to_ends, {group: falls[group].value for group in inner}, 1, to_all)
    return Finding(
        seen,
        tuple(
            compared(str(claim.for_each), falls, most, other, "fall", "+")
            for other in order
            if other != most
        ),
    )


def best_moves(claim: Claim, by_group: Mapping[Setting, Cells]) -> Finding:
    """best_rises, best_falls, over all groups."""
    order = numbers(claim, by_group, str(claim.for_each))
    if len(order) < 2:
        return remark(
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
        return remark(f"{named(str(claim.for_each), claim.baseline)} has nothing to compare with")
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


OVER_GROUPS: dict[ClaimKind, Callable[[Claim, Mapping[Setting, Cells]], Finding]] = {
    "peaks": peaks,
    "best_rises": best_moves,
    "best_falls": best_moves,
    "best_above": best_above,
}
