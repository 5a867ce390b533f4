"""What the cells of an item say together: claims, and the best rho of each sweep; and how their values are called."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from dnnlib.util import is_url
from metrics.measure import QUANTITIES
from skip.evidence.best import Best, best_rho
from skip.evidence.claims import WRITTEN, Claim, Point, Seen, Setting, judge
from skip.evidence.estimate import Estimate
from skip.studies.wavelet import BANDS
from skip.tables.cells.settings import plain
from skip.tables.results import Results, unique
from skip.tables.spec import DERIVED, Cell, Item, setting

# Without effect at rho = 1:
SKIP_SETTINGS = {"rho", "across", "spacing", "time", "axis", "time_range", "window", "target", "top"}
FEATURE_LOSS = "feature loss"
IMAGE_LOSSES = {f"{name} loss" for name in ("pixel", *BANDS)}


class Judged(NamedTuple):
    """A claim: what it says, whether it is seen (None until all cells are measured), and one sentence."""

    says: str
    seen: Seen | None
    sentence: str


class Sweep(NamedTuple):
    """Cells that differ in rho alone: the other settings that vary, the value's name, its best (None if cells lack)."""

    settings: dict[str, Any]
    name: str | None
    best: Best | None


def label(name: str, written: str | None = None) -> str:
    """A value's name for people; that of another feature network than Inception-v3 stays in it.

    "fid" -> "FID", "fid-demo-fashion-mnist" -> "demo FID", "fid-clip-vitl14" -> "FID (clip-vitl14)",
    "gradient_norm" -> "gradient norm".

    Args:
        name: as the study gives it.
        written: what to call the metric, instead of its own name.
    """
    metric, _, detector = name.partition("-")
    if metric not in QUANTITIES:
        return written or name.replace("_", " ")
    text = written or QUANTITIES[metric].label
    if detector.startswith("demo"):
        return text if "demo" in text else f"demo {text}"
    return f"{text} ({detector})" if detector else text


def resolve(metric: str, names: Iterable[str]) -> str | None:
    """The value that a metric means: of its name, or the metric with another feature network; None if there is none."""
    names = list(names)
    if metric in names:
        return metric
    return next((name for name in names if metric in QUANTITIES and name.startswith(f"{metric}-")), None)


def shown(value: Any) -> str:
    """A setting's value in words: "0.8", "0.002 to 80", "none"; of a URL the file's name."""
    if isinstance(value, list | tuple):
        return (" to " if all(isinstance(part, float | int) for part in value) else ", ").join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and is_url(value):
        return value.rpartition("/")[2]
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def caption(settings: Mapping[str, Any]) -> str:
    """Settings in words: "sampler unipc, steps 9"."""
    return ", ".join(f"{written(name)} {shown(value)}" for name, value in settings.items())


def written(setting: str) -> str:
    """A setting's name in words."""
    return WRITTEN.get(setting.lower(), setting.replace("_", " "))


def plain_cell(item: Item, cell: Cell) -> Cell | None:
    """The cell at rho = 1 that is otherwise the same, with which a cell at another rho compares."""
    if setting(cell, "rho") in (1.0, None):
        return None
    same = _without(cell, SKIP_SETTINGS)
    return next((c for c in item.cells if setting(c, "rho") == 1 and _without(c, SKIP_SETTINGS) == same), None)


def least_of_three(cell: Cell, results: Results, name: str) -> Estimate | None:
    """The least FID of a cell's seeds 0 to N - 1 and of the two ranges of N seeds that follow, as EDM reports it.

    Args:
        cell: with the first range.
        results: of all three: `tables.py run ITEM --seeds N-2N-1`, say.
        name: of the value.
    Returns:
        The least of the three; None until all are measured, and for other values than FID.
    """
    study: Any = cell.settings
    n = study.count
    if name.partition("-")[0] != "fid" or study.numbers != list(range(n)):
        return None
    ranges = [replace(cell, settings=replace(study, seeds=f"{i * n}-{(i + 1) * n - 1}")) for i in range(3)]
    found = [(results.load(one) or {}).get(name) for one in ranges]
    known = [estimate for estimate in found if estimate is not None]
    return min(known, key=lambda estimate: estimate.value) if len(known) == 3 else None


def points(item: Item, results: Results, claim: Claim) -> list[Point]:
    """The measured cells as a claim sees them.

    Its metric is resolved, and a setting that is None is "none". A `for_each` or `along` of several settings,
    "sampler, steps", becomes one: the first then says "unipc, steps 9". Along a setting that has no effect at
    rho = 1, such as time, the cell at rho = 1 is at "none".

    Raises:
        ValueError: if the cells lack one of these settings.
    """
    found = []
    for cell in unique(item.cells):
        if (values := results.load(cell)) is None:
            continue
        settings: dict[str, Setting] = {
            name: value if isinstance(value, float | int) else shown(value)
            for name, value in (
                asdict(cell.settings) | {name: setting(cell, name) for name in DERIVED}  # type: ignore[call-overload]
            ).items()
        }
        if claim.along in SKIP_SETTINGS - {"rho"} and settings.get("rho") == 1:
            settings[claim.along] = "none"
        for first, *rest in (_names(claim.along), _names(claim.for_each)):
            for name in rest and (first, *rest):
                if name not in settings:
                    raise ValueError(f"no cell has the setting {name!r}; there are {', '.join(sorted(settings))}")
            if rest:
                settings[first] = f"{shown(settings[first])}, {caption({name: settings[name] for name in rest})}"
        metric = resolve(claim.metric, values)
        found.append(Point(settings, values | ({claim.metric: values[metric]} if metric else {})))
    return found


def verdicts(item: Item, results: Results) -> list[Judged]:
    """Every claim of the item, judged once all its cells are measured; of the "feature loss", one for each feature.

    Raises:
        ValueError: if a claim does not fit the cells.
    """
    measured = [results.load(cell) for cell in item.cells]
    missing = sum(values is None for values in measured)
    found = []
    known = list(dict.fromkeys(name for values in measured for name in values or ()))
    for claim in [one for general in item.claims for one in _each_feature(general, known)]:
        names = [name for values in measured if values and (name := resolve(claim.metric, values))]
        says = _says(claim, names)
        if missing:
            text = f"Not yet measured: {says} (cells to do: {missing} of {len(measured)})."
            found.append(Judged(says, None, text))
        elif not names:
            found.append(Judged(says, None, f"Not measured here: {says} (no cell has the metric {claim.metric})."))
        else:
            simple = replace(claim, says=says, along=_names(claim.along)[0], for_each=_names(claim.for_each)[0] or None)
            try:
                verdict = judge(simple, points(item, results, claim))
            except ValueError as error:
                raise ValueError(f"{item.name}, claim {claim.says!r}: {error}") from error
            found.append(Judged(says, verdict.seen, verdict.sentence))
    return found


def sweeps(item: Item, results: Results, metric: str = "fid", least: int = 3) -> list[Sweep]:
    """The best rho of every group of at least `least` cells that differ in rho alone, where the metric is measured."""
    groups: dict[str, list[Cell]] = {}
    for cell in unique(item.cells):
        groups.setdefault(repr(_without(cell, {"rho"})), []).append(cell)
    found = []
    for cells in groups.values():
        estimates: list[Estimate] = []
        name = None
        for cell in cells:
            values = results.load(cell) or {}
            if (own := resolve(metric, values)) is not None:
                name = own
                estimates.append(values[own])
        if len(cells) < least or name is None:
            continue
        others = {key: value for key, value in cells[0].varies.items() if key != "rho"}
        complete = len(estimates) == len(cells)
        best = best_rho([setting(cell, "rho") for cell in cells], estimates) if complete else None
        found.append(Sweep(others, name, best))
    return found


def _each_feature(claim: Claim, names: list[str]) -> list[Claim]:
    """A claim about the "feature loss" is one about each that is measured."""
    features = [name for name in names if name.endswith(" loss") and name not in IMAGE_LOSSES]
    if claim.metric != FEATURE_LOSS or not features:
        return [claim]
    return [replace(claim, metric=name, says=claim.says.replace(FEATURE_LOSS, name)) for name in features]


def _without(cell: Cell, names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in plain(cell.settings).items() if name not in names}


def _names(settings: str | None) -> list[str]:
    return [name.strip() for name in (settings or "").split(",")]


def _says(claim: Claim, names: list[str]) -> str:
    """The statement, with the metric called as it was measured: not FID where it is a demo FID."""
    if claim.metric not in QUANTITIES or not names:
        return claim.says
    word, text = QUANTITIES[claim.metric].label, label(names[0])
    if word == text:
        return claim.says
    return re.sub(rf"(?<!demo )\b{re.escape(word)}(?!\w)", lambda _: text, claim.says)
