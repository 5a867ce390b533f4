"""Settings and differences in words."""

from skip.evidence.estimate import Estimate, as_text

Setting = float | str | None
# settings that sentences write otherwise than the files do
WRITTEN = {"nfe": "NFE", "s_churn": "S_churn", "window_top": "window up to"}


def written(name: str) -> str:
    """A setting's name in words."""
    return WRITTEN.get(name.lower(), name.replace("_", " "))


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
