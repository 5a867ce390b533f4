"""Whether measured cells show what the paper reports."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from skip.evidence.claim import Claim, Point
from skip.evidence.comparison import Finding, Seen, together
from skip.evidence.estimate import Estimate
from skip.evidence.findings import IN_A_GROUP, most_beat
from skip.evidence.findings_over_groups import OVER_GROUPS
from skip.evidence.words import Setting, named

Groups = dict[Setting, dict[Setting, Estimate]]  # by `for_each`, then by `along`


class Row(NamedTuple):
    """One comparison behind a verdict: its group, whether that group shows the claim, and the numbers in words."""

    group: str
    seen: Seen
    measured: str
    against: str
    gap: str


class Verdict(NamedTuple):
    """Whether a claim is seen, one sentence, and the numbers that it rests on."""

    seen: Seen
    sentence: str
    rows: tuple[Row, ...]


def judge(claim: Claim, points: Sequence[Point]) -> Verdict:
    """Whether the points show what the claim says.

    "seen" needs every group of equal `for_each` that has cells; one group that contradicts makes it "not seen";
    otherwise, and where the baseline or errors are missing, it is "undecided". Points without the metric or one of the
    settings, rows that are quoted for instance, do not count.

    Raises:
        ValueError: if no point has a setting or the metric, two points of a group agree in `along`, or a value along
            which a metric rises, falls or bends is no number.
    """
    findings = _findings(claim, points)
    seen = together([finding.seen for finding in findings.values()])
    rows = [
        Row(group, finding.seen, *compared)
        for group, finding in findings.items()
        for compared in finding.compared
    ]
    return Verdict(seen, f"{seen.capitalize()}: {claim.says}.", tuple(rows))


def _findings(claim: Claim, points: Sequence[Point]) -> dict[str, Finding]:
    """Of each group, in words; of all groups together, "", where a claim is about them."""
    if claim.kind == "most_lower":
        by_metric = {metric: _groups(claim, metric, points) for metric in claim.metrics}
        found = {}
        for group in next(iter(by_metric.values())):
            cells = {metric: groups[group] for metric, groups in by_metric.items()}
            found[_name(claim, group)] = most_beat(claim, cells, len(by_metric[claim.metrics[0]]))
        return found

    groups = _groups(claim, claim.metric, points)
    if claim.kind in OVER_GROUPS:
        return OVER_GROUPS[claim.kind](claim, groups)
    return {
        _name(claim, group): IN_A_GROUP[claim.kind](claim, cells, len(groups))
        for group, cells in groups.items()
    }


def _name(claim: Claim, group: Setting) -> str:
    return named(claim.for_each, group) if claim.for_each else ""


def _groups(claim: Claim, metric: str, points: Sequence[Point]) -> Groups:
    """The metric's estimates by `for_each` and `along`."""
    needed = [claim.along, *(claim.match or {})]
    if claim.for_each:
        needed.insert(1, claim.for_each)
    _require("setting", needed, [point.settings for point in points])
    _require("metric", [metric], [point.estimates for point in points])

    groups: Groups = {}
    for point in points:
        if not claim.is_about(point.settings):
            continue
        if metric not in point.estimates or any(name not in point.settings for name in needed):
            continue

        group = point.settings[claim.for_each] if claim.for_each else None
        cells = groups.setdefault(group, {})
        value = point.settings[claim.along]
        if value in cells:
            raise ValueError(
                f"two cells have {named(claim.along, value)}: what tells them apart must be for_each"
            )
        cells[value] = point.estimates[metric]

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
