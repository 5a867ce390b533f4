"""What a finding is made of: values compared with one another, their differences, and what they show."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from skip.evidence.claim import Claim
from skip.evidence.estimate import Estimate, difference, rounded
from skip.evidence.words import Setting, moved, named, number_or_text

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


def gaps_from_baseline(claim: Claim, cells: Cells) -> dict[Setting, Estimate] | str:
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


def remark(text: str) -> Finding:
    """A sentence in place of a comparison, which decides nothing."""
    return Finding("undecided", (Comparison(text),))


def compared(
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
