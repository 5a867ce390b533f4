"""What a search says: JSON of its rounds, and sentences for people."""

from typing import Any

from skip.evidence.estimate import Estimate, as_text, difference
from skip.scale import TIMES, Time
from skip.search.search import Round, gain

DIGITS = 3  # of a coefficient that is found: far below its error


def told(summary: dict[str, Any]) -> list[str]:
    """Sentences for people: what was found, and what to do where the range was too narrow."""
    lines = []
    for name, one in summary.items():
        if not isinstance(one, dict) or "at_edge" not in one:
            continue
        rho = as_text(Estimate.plain(one["rho"], one["error"]))
        lines.append(f"{called(name)} = {rho} ({one['images']} images)")
        if one["at_edge"]:
            flag = f"--{name}" if name in ("bottom", "top") else "its range in --skip-method"
            lines.append(
                f"that is an end of its range: what is better may lie beyond; widen {flag}"
            )
    if summary.get("skip_method"):
        lines.append(f"skip_method = {summary['skip_method']}")
    return [*lines, f"for generate.py and fid.py: --rho-layers={summary['scale']}"]


def called(stage: str) -> str:
    """A coefficient that is searched as people call it: rho_bottom, rho_top, or a method's, freeu2:b1."""
    return stage if ":" in stage else f"rho_{stage}"


def stage(rounds: list[Round]) -> dict[str, Any]:
    """What a search saw, as JSON."""
    last = rounds[-1]
    found: dict[str, Any] = {
        "rho": round(last.best.rho, DIGITS),
        "error": last.best.error,
        "low": last.best.low,
        "high": last.best.high,
        "at_edge": last.best.at_edge,
        "images": last.images,
        "value": last.best.value.value,
    }

    compared = gain(rounds)
    if compared is not None:
        images, gap = compared
        found["gain"] = {"images": images, "value": gap.value, "error": gap.error}
    return found | {"rounds": [_seen(one) for one in rounds]}


def orders(chosen: Time, images: int, found: list[Estimate]) -> dict[str, Any]:
    """The orders in time as JSON; differences are from the first, and paired."""
    points = {time: _compared(one, found[0]) for time, one in zip(TIMES, found, strict=True)}
    return {"chosen": chosen, "images": images, "orders": points}


def _seen(one: Round) -> dict[str, Any]:
    """A round as JSON; differences are from its point nearest to the vertex, and paired."""
    nearest = min(range(len(one.rhos)), key=lambda i: abs(one.rhos[i] - one.best.rho))
    points = []
    for rho, estimate in zip(one.rhos, one.estimates, strict=True):
        points.append({"rho": rho} | _compared(estimate, one.estimates[nearest]))
    return {
        "images": one.images,
        "best": {"rho": one.best.rho, "error": one.best.error},
        "points": points,
    }


def _compared(one: Estimate, other: Estimate) -> dict[str, Any]:
    """An estimate and its difference from another, as JSON."""
    gap = difference(one, other)
    return {
        "value": one.value,
        "error": one.error,
        "difference": gap.value,
        "error_of_difference": gap.error,
    }


def short(part: dict[str, Any]) -> dict[str, Any]:
    """Without the measurements."""
    return {name: value for name, value in part.items() if name not in ("rounds", "orders")}
