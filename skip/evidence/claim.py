"""What the paper reports as a direction, to be looked for in measured cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from skip.evidence.estimate import Estimate
from skip.evidence.words import Setting

ClaimKind = Literal[
    "lower", "higher", "equal", "most_lower", "u_shape", "peaks", "rises", "falls", "best_rises",
    "best_falls", "best_above", "falls_less",
]  # fmt: skip
CLAIM_KINDS: tuple[ClaimKind, ...] = get_args(ClaimKind)
NEED_GROUPS = ("peaks", "best_rises", "best_falls", "best_above", "falls_less")


@dataclass(frozen=True)
class Point:
    """One cell: its settings by name, and what was measured there by metric."""

    settings: Mapping[str, Setting]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Claim:
    """What the paper says of a metric along one setting.

    It is seen if the cells show it, not seen if they show the opposite, and undecided otherwise. To show something,
    differences must exceed the threshold of `skip.evidence.significance`, paired where cells share their seeds; level
    5% is shared by all chances that there are to show it. So of m cells of which one is enough, each is tested at
    0.05 / m: being the best of many is no effect by itself. (The value of the best stays a little optimistic.) Groups
    must all show it, each at 5%; of g groups one is enough to contradict, so each is tested at 0.05 / g.

        lower, higher   some cell other than the baseline lies below, above it; contradicted if all lie on the other
                        side
        equal           every such cell lies within `margin` of the baseline (two one-sided tests); contradicted by one
                        that lies beyond
        most_lower      at some value of `along`, more than half of the `metrics` lie below their baseline, tested as a
                        partial conjunction; contradicted if at every value half of them or more lie above
        u_shape         some inner cell lies below both ends; contradicted by an end below all inner ones
        peaks           the fall from the baseline is larger in some inner group of `for_each` than in every other
                        group; contradicted by an end where it is larger than in all inner ones. Of all groups together
        rises, falls    along increasing values the ends differ in that direction; contradicted by ends, or one step
                        between neighbours, that go against it
        best_rises, best_falls   along increasing values of `for_each`, the place of the least along `along`, see
                        `skip.evidence.best.best_rho`, moves in that direction between the ends
        best_above      in every group of `against`, that place lies above the one in the group `baseline`
        falls_less      at every value of `along`, the fall from the baseline is smaller in all other groups of
                        `for_each` than in the group `than`; contradicted by one where it is larger

    A best at the lower end of its grid may lie lower, at the upper end higher: what that could undo stays undecided.

    Reference: Benjamini and Heller, 2008, Screening for Partial Conjunction Hypotheses, Biometrics 64: the u-th least
    of K p-values times K - u + 1 tests that u hypotheses or more are false

    Args:
        says: the statement, a clause that follows "Seen: ".
        kind: of the above.
        metric: whose estimates count.
        along: the setting that varies.
        for_each: the setting whose every value must show it; None takes all points together.
        baseline: the value of `along`, of `for_each` for best_above, that others are compared with.
        against: the values that are compared with it; None is all others.
        match: settings of the cells that it is about, each a value or several of them; None takes all.
        metrics: instead of `metric`, of most_lower.
        margin: of equal, as a fraction of the baseline's value.
        than: of falls_less, the value of `for_each` that others are compared with.
    Raises:
        ValueError: if the kind is unknown or lacks what it needs, or `against` is empty or holds the baseline.
    """

    says: str
    kind: ClaimKind
    metric: str = ""
    along: str = "rho"
    for_each: str | None = None
    baseline: Setting = 1.0
    against: tuple[Setting, ...] | None = None
    match: Mapping[str, Setting | Sequence[Setting]] | None = None
    metrics: tuple[str, ...] = ()
    margin: float | None = None
    than: Setting = None

    def __post_init__(self) -> None:
        if self.kind not in CLAIM_KINDS:
            raise ValueError(
                f"unknown kind of claim {self.kind!r}; choose from {', '.join(CLAIM_KINDS)}"
            )
        if self.against is not None and (not self.against or self.baseline in self.against):
            raise ValueError(
                f"against is {self.against}; name values of {self.along} other than {self.baseline}"
            )

        if self.kind in NEED_GROUPS and self.for_each is None:
            raise ValueError(
                f"{self.kind} compares {self.along} between values of for_each: name that setting"
            )

        if (self.kind == "falls_less") != (self.than is not None):
            raise ValueError(
                f"than is {self.than}: falls_less needs a value of for_each, and nothing else has one"
            )

        if (self.kind == "equal") != (self.margin is not None):
            raise ValueError(f"margin is {self.margin}: equal needs one, and nothing else has one")
        if self.margin is not None and not 0 < self.margin < 1:
            raise ValueError(f"margin is {self.margin}; it must lie between 0 and 1, as 0.05")

        if (self.kind == "most_lower") != bool(self.metrics) or bool(self.metric) == bool(
            self.metrics
        ):
            raise ValueError(
                f"metric is {self.metric!r} and metrics {self.metrics}: most_lower needs several "
                "metrics, every other kind one metric"
            )

    def is_about(self, settings: Mapping[str, Setting]) -> bool:
        """Whether a cell of these settings is one of those that it is about."""
        for name, wanted in (self.match or {}).items():
            several = wanted if isinstance(wanted, list | tuple) else [wanted]
            if settings.get(name) not in several:
                return False
        return True
