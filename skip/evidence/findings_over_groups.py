"""Whether groups of cells, compared with one another, show what a claim says; a function for each kind of claim."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dnnlib.words import written
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
)
from skip.evidence.estimate import Estimate, as_text, difference
from skip.evidence.findings import least_inside
from skip.evidence.significance import lies
from skip.evidence.words import Setting, moved, named

Findings = dict[str, Finding]  # by what they are called; "" is of all groups


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


def falls_less(claim: Claim, by_group: Mapping[Setting, Cells]) -> Findings:
    """falls_less: a finding for each other group and each value of `along`."""
    for_each = str(claim.for_each)
    others = [group for group in by_group if group != claim.than]
    if claim.than not in by_group or not others:
        return {"": remark(f"{named(for_each, claim.than)} has nothing to compare with")}

    falls = {}
    for group, cells in by_group.items():
        gaps = gaps_from_baseline(claim, cells)
        if isinstance(gaps, str):
            return {"": remark(f"{gaps} at {named(for_each, group)}")}
        falls[group] = gaps

    pairs = []
    for group in others:
        pairs += [(group, value) for value in falls[group] if value in falls[claim.than]]
    findings = {}
    for group, value in pairs:
        both = {at: falls[at][value] for at in (group, claim.than)}
        gap = difference(both[group], both[claim.than])
        seen: Seen = "undecided"
        if lies(gap, -1):
            seen = "seen"
        elif lies(gap, 1, len(pairs)):
            seen = "not seen"
        name = f"{named(for_each, group)}, {named(claim.along, value)}"
        findings[name] = Finding(seen, (compared(for_each, both, group, claim.than, "fall", "+"),))
    return findings or {"": remark("no two falls to compare")}


def best_moves(claim: Claim, by_group: Mapping[Setting, Cells]) -> Findings:
    """best_rises, best_falls."""
    order = numbers(claim, by_group, str(claim.for_each))
    if len(order) < 2:
        few = f"{len(order)} values of {written(str(claim.for_each))}, too few for a direction"
        return {"": remark(few)}
    sign = 1 if claim.kind == "best_falls" else -1
    return {"": _best_between(claim, by_group, order[-1], order[0], sign, 1)}


def best_above(claim: Claim, by_group: Mapping[Setting, Cells]) -> Findings:
    """best_above: a finding for each group that is compared with the baseline."""
    for_each = str(claim.for_each)
    others = [group for group in by_group if group != claim.baseline]
    if claim.against is not None:
        others = [group for group in others if group in claim.against]
    if claim.baseline not in by_group or not others:
        return {"": remark(f"{named(for_each, claim.baseline)} has nothing to compare with")}
    return {
        named(for_each, group): _best_between(
            claim, by_group, group, claim.baseline, -1, len(others)
        )
        for group in others
    }


def _best_between(
    claim: Claim,
    by_group: Mapping[Setting, Cells],
    group: Setting,
    other: Setting,
    sign: int,
    groups: int,
) -> Finding:
    """Whether the best of a group lies below (sign 1) or above (-1) that of another one."""
    here, there = (_Place.of(claim, by_group[at]) for at in (group, other))
    error = None
    if here.best.error is not None and there.best.error is not None:
        # Of different cells: as if independent.
        error = math.hypot(here.best.error, there.best.error)
    gap = Estimate.plain(here.best.rho - there.best.rho, error)

    # At an end of its grid a best may lie further out, which can make the gap larger or smaller, not both.
    unsure = {1: here.at_high or there.at_low, -1: here.at_low or there.at_high}
    seen: Seen = "undecided"
    if lies(gap, sign) and not unsure[sign]:
        seen = "seen"
    elif lies(gap, -sign, groups) and not unsure[-sign]:
        seen = "not seen"
    row = Comparison(here.told(claim, group), there.told(claim, other), moved(gap))
    return Finding(seen, (row,))


class _Place(NamedTuple):
    """The best of a group, and whether that is the first or the last of its grid."""

    best: Best
    at_low: bool
    at_high: bool

    @classmethod
    def of(cls, claim: Claim, cells: Cells) -> "_Place":
        grid = numbers(claim, cells)
        best = best_rho(grid, [cells[value] for value in grid])
        return cls(best, best.rho == grid[0], best.rho == grid[-1])

    def told(self, claim: Claim, group: Setting) -> str:
        """In words: "best rho 0.77 +- 0.02 at NFE 9"."""
        place = as_text(Estimate.plain(self.best.rho, self.best.error))
        end = ", an end of the grid" if self.best.at_edge else ""
        return f"best {written(claim.along)} {place} at {named(str(claim.for_each), group)}{end}"


OVER_GROUPS: dict[ClaimKind, Callable[[Claim, Mapping[Setting, Cells]], Findings]] = {
    "peaks": lambda claim, by_group: {"": peaks(claim, by_group)},
    "falls_less": falls_less,
    "best_rises": best_moves,
    "best_falls": best_moves,
    "best_above": best_above,
}
