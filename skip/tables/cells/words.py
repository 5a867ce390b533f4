"""The settings of a cell as words: those of a TOML file, of results/ and of --cells; no word is nested in another.

A cell is built of parts, a SamplerSettings and a SkipScale among them, whose fields are words of their own: an option
that either of them gains is one here at once. Three words are not SkipScale's, as results/ are named by them: `rho` is
its `bottom`; `across` says its `top`, unless `top` is given; and `time_range` is its sigma_min and sigma_max, which
are a sampler's words too.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from dnnlib.keywords import check_values
from sampling.settings import SamplerSettings
from skip.scale import SkipScale

Across = Literal["bottom-to-one", "constant"]
PLAIN = SkipScale()


@dataclass(frozen=True)
class Word:
    """One setting.

    Attributes:
        hint: its type.
        default: what it is where a file leaves it out; MISSING if it must not.
    """

    hint: Any
    default: Any = MISSING

    @property
    def is_list(self) -> bool:
        """Whether its value is a list."""
        return any(get_origin(hint) is tuple for hint in (self.hint, *get_args(self.hint)))


@cache
def _hints(study: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(study)


def _words_of_scale() -> dict[str, Word]:
    own = {
        field.name: Word(_hints(SkipScale)[field.name], field.default)
        for field in fields(SkipScale)
    }
    found = {"rho": own.pop("bottom"), "across": Word(Across, "bottom-to-one")}
    del own["sigma_min"], own["sigma_max"]
    own["top"] = Word(float | None, None)
    own["time_range"] = Word(tuple[float, float] | None, None)
    return found | own


SCALE_WORDS = _words_of_scale()


@cache
def words_of(study: Callable[..., Any]) -> dict[str, Word]:
    """The words of a dataclass of settings, those of its sampler first."""
    hints = _hints(study)
    of_sampler: dict[str, Word] = {}
    others: dict[str, Word] = {}
    for field in fields(cast(Any, study)):
        hint = hints[field.name]
        if hint is SamplerSettings:
            of_sampler = words_of(SamplerSettings)
        elif hint is SkipScale:
            others |= SCALE_WORDS
        elif field.name not in others:  # `across` stands beside the scale
            others[field.name] = Word(hint, _default(field))
    return of_sampler | others


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def values_of(study: Any) -> dict[str, Any]:
    """Every word of settings with its value; None where there is none."""
    of_sampler: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for field in fields(study):
        value = getattr(study, field.name)
        if isinstance(value, SamplerSettings):
            of_sampler = values_of(value)
        elif isinstance(value, SkipScale):
            others |= _values_of_scale(value, study.across)
        elif field.name not in others:
            others[field.name] = value
    return of_sampler | others


def _values_of_scale(scale: SkipScale, across: Across) -> dict[str, Any]:
    own = {field.name: getattr(scale, field.name) for field in fields(SkipScale)}
    found = {"rho": own.pop("bottom"), "across": across}
    if scale.layers is not None:
        found["rho"] = None  # of each layer, then

    # What follows from the other words is left out, as it is in the names of results.
    if scale.top == _top(scale.bottom, across) or scale.layers is not None:
        own["top"] = None
    ends = own.pop("sigma_min"), own.pop("sigma_max")
    own["time_range"] = None if ends == (PLAIN.sigma_min, PLAIN.sigma_max) else ends
    return found | own


def _top(bottom: float, across: Across) -> float:
    return bottom if across == "constant" else 1.0


def build(study: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Settings from the words of a TOML file, where tuples are lists.

    Raises:
        ValueError: if a word is unknown, or a value is wrong.
    """
    words = words_of(study)
    for name in values:
        if name not in words:
            raise ValueError(f"unknown setting {name!r}; there are {', '.join(sorted(words))}")
    check_values(values, {name: word.hint for name, word in words.items()})

    left = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    parts: dict[str, Any] = {}
    for name, hint in _hints(study).items():
        if hint is SamplerSettings:
            parts[name] = SamplerSettings(**_taken(left, words_of(SamplerSettings)))
        elif hint is SkipScale:
            given = _taken(left, SCALE_WORDS)
            if "across" in given:
                left["across"] = given["across"]
            parts[name] = _scale(given)
    try:
        return study(**parts, **left)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _taken(values: dict[str, Any], names: Mapping[str, Word]) -> dict[str, Any]:
    """Those of the names, which are then no longer among the values."""
    return {name: values.pop(name) for name in names if name in values}


def _scale(given: dict[str, Any]) -> SkipScale:
    """The skip coefficients that SCALE_WORDS describe."""
    own = {name: value for name, value in given.items() if value is not None}
    across = own.pop("across", "bottom-to-one")
    if "top" in own and across != "bottom-to-one":
        raise ValueError(
            f"across = {across} says what rho is at the top; leave out top = {own['top']}"
        )

    bottom = own.pop("rho", PLAIN.bottom)
    top = own.pop("top", _top(bottom, across))
    if "time_range" in own:
        own["sigma_min"], own["sigma_max"] = own.pop("time_range")
    return SkipScale(bottom, top, **own)


def record_of(study: Any, defaults: bool = True) -> dict[str, Any]:
    """Settings as JSON, without those that are None.

    Args:
        study: the settings.
        defaults: with those that have their default value. Without them, a setting that is added later, with a default
            that changes nothing, leaves the names of results as they are.
    """
    words = words_of(cast(Any, type(study)))
    found = {}
    for name, value in values_of(study).items():
        if value is not None and (defaults or value != words[name].default):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found
