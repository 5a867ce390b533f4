"""Settings and differences in words."""

from dnnlib.words import written
from skip.evidence.estimate import Estimate, as_text

Setting = float | str | None


def named(name: str, value: Setting) -> str:
    """A setting with its value: "NFE 9"."""
    return f"{written(name)} {number_or_text(value)}"


def number_or_text(value: Setting) -> str:
    """A setting's value."""
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def moved(gap: Estimate) -> str:
    """A difference with its sign and its error: "-0.48 +- 0.14"."""
    text = as_text(gap, "+")
    return f"{text} of unknown error" if gap.error is None else text
