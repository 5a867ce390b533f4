"""What the paper says of an item, and whether the measured cells show it."""

import re
from collections.abc import Hashable, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from metrics.names import QUANTITIES
from skip.evidence.claim import Claim, Point
from skip.evidence.claims import Row, judge
from skip.evidence.comparison import Seen
from skip.evidence.words import Setting
from skip.studies.wavelet import BANDS
from skip.tables.measured import SKIP_SETTINGS, MeasuredItem, settings_without
from skip.tables.results import Outcome
from skip.tables.show.labels import caption, label, resolve, shown

FEATURE_LOSS = "feature loss"
IMAGE_LOSSES = {f"{name} loss" for name in ("pixel", *BANDS)}


class Judged(NamedTuple):
    """A claim: what it says, whether it is seen (None until its cells are measured), one sentence, and its numbers."""

    says: str
    seen: Seen | None
    sentence: str
    rows: tuple[Row, ...] = ()


def verdicts(measured: MeasuredItem) -> list[Judged]:
    """Every claim of the item, judged once all cells that it is about are measured.

    One of the "feature loss" is one of each feature.

    Raises:
        ValueError: if a claim does not fit the cells.
    """
    claims: list[Claim] = []
    for general in measured.item.claims:
        claims += _each_feature(general, measured.names)
    return [_judged(claim, measured) for claim in claims]


def _judged(claim: Claim, measured: MeasuredItem) -> Judged:
    asked = claim.metrics or (claim.metric,)
    try:
        matching = [outcome for outcome in measured.outcomes if _is_about(claim, outcome)]
    except ValueError as error:
        raise ValueError(f"{measured.item.name}, claim {claim.says!r}: {error}") from error

    # Before its own cells are measured, a metric is called as it is of others.
    names = _resolved(asked, matching) or _resolved(asked, measured.outcomes)
    says = _says(claim, names)
    missing, of = sum(not outcome.done for outcome in matching), len(matching)
    if missing:
        return Judged(says, None, f"Not yet measured: {says} (cells to do: {missing} of {of}).")
    if not names:
        return Judged(
            says, None, f"Not measured here: {says} (no cell has the metric {', '.join(asked)})."
        )

    first_along, *_ = _names(claim.along)
    first_each, *_ = _names(claim.for_each)
    simple = replace(
        claim,
        says=says,
        along=first_along,
        for_each=first_each or None,
        metrics=tuple(map(label, claim.metrics)),
        match=None,  # the points are those that match
    )
    try:
        verdict = judge(simple, points(measured, claim))
    except ValueError as error:
        raise ValueError(f"{measured.item.name}, claim {claim.says!r}: {error}") from error
    return Judged(says, *verdict)


def _resolved(asked: Sequence[str], outcomes: Sequence[Outcome]) -> list[str]:
    """What these metrics are called in the values of some cells."""
    found = (resolve(name, outcome.values) for outcome in outcomes for name in asked)
    return [name for name in found if name is not None]


def points(measured: MeasuredItem, claim: Claim) -> list[Point]:
    """The measured cells as a claim sees them.

    Its metric is resolved, and a setting that is None is "none". A `for_each` or `along` of several settings,
    "sampler, steps", becomes one: the first then says "unipc, steps 9". Along a setting that has no effect at
    rho = 1, such as time, the cell at rho = 1 is at "none". In a `for_each` of such settings, such as across, it is the
    baseline of every group that has none of its own.

    Raises:
        ValueError: if the cells lack one of these settings.
    """
    done = [outcome for outcome in measured.done if _is_about(claim, outcome)]
    found = [_point(outcome, claim, _settings(outcome)) for outcome in done]
    grouped_by = SKIP_SETTINGS.intersection(_names(claim.for_each))
    if not grouped_by or "rho" in grouped_by:
        return found

    at_one = {
        _group(outcome, grouped_by) for outcome in done if outcome.cell.by_name.get("rho") == 1
    }
    for outcome in done:
        baseline = measured.baseline(outcome)
        group = _group(outcome, grouped_by)
        if baseline is None or not baseline.done or group in at_one:
            continue
        at_one.add(group)
        settings = _settings(outcome)
        own = {name: settings[name] for name in grouped_by}
        found.append(_point(baseline, claim, _settings(baseline) | own))
    return found


def _group(outcome: Outcome, names: Set[str]) -> Hashable:
    """What cells with a baseline each differ in: these settings, and all that have an effect at rho = 1."""
    settings = _settings(outcome)
    own = tuple(settings[name] for name in sorted(names))
    return own, settings_without(outcome.cell, SKIP_SETTINGS)


def _is_about(claim: Claim, outcome: Outcome) -> bool:
    """Whether a cell has the settings that a claim names; a name that cells do not know is a ValueError."""
    settings = _settings(outcome)
    for name in claim.match or {}:
        _require(name, settings)
    return claim.is_about(settings)


def _settings(outcome: Outcome) -> dict[str, Setting]:
    """As claims write them: numbers, and other values in words."""
    return {
        name: value if isinstance(value, float | int) else shown(value)
        for name, value in outcome.cell.by_name.items()
    }


def _point(outcome: Outcome, claim: Claim, settings: dict[str, Setting]) -> Point:
    """A cell as a claim sees it, at these settings."""
    if claim.along in SKIP_SETTINGS - {"rho"} and settings.get("rho") == 1:
        settings[claim.along] = "none"

    _join(settings, _names(claim.along))
    _join(settings, _names(claim.for_each))

    estimates = dict(outcome.values)
    metric = resolve(claim.metric, estimates)
    if metric is not None:
        estimates[claim.metric] = estimates[metric]
    for name in claim.metrics:  # these are named in what is compared
        if name in estimates:
            estimates[label(name)] = estimates[name]
    return Point(settings, estimates)


def _join(settings: dict[str, Setting], names: Sequence[str]) -> None:
    """Let the first of several settings say what all of them are."""
    first, *rest = names
    if not rest:
        return
    for name in names:
        _require(name, settings)
    others = {name: settings[name] for name in rest}
    settings[first] = f"{shown(settings[first])}, {caption(others)}"


def _require(name: str, settings: dict[str, Setting]) -> None:
    if name not in settings:
        known = ", ".join(sorted(settings))
        raise ValueError(f"no cell has the setting {name!r}; there are {known}")


def _each_feature(claim: Claim, names: Sequence[str]) -> list[Claim]:
    """A claim about the "feature loss" is one about each that is measured."""
    features = [name for name in names if name.endswith(" loss") and name not in IMAGE_LOSSES]
    if claim.metric != FEATURE_LOSS or not features:
        return [claim]
    return [
        replace(claim, metric=name, says=claim.says.replace(FEATURE_LOSS, name))
        for name in features
    ]


def _names(settings: str | None) -> list[str]:
    """ "sampler, steps" -> "sampler" and "steps"; of nothing one that is empty."""
    return [name.strip() for name in (settings or "").split(",")]


def _says(claim: Claim, names: Sequence[str]) -> str:
    """The statement, with the metric called as it was measured: not FID where it is a demo FID."""
    if claim.metric not in QUANTITIES or not names:
        return claim.says
    word, text = QUANTITIES[claim.metric].label, label(names[0])
    if word == text:
        return claim.says
    return re.sub(rf"(?<!demo )\b{re.escape(word)}(?!\w)", lambda _: text, claim.says)
