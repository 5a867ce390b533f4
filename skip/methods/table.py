"""The table of methods, and how they are written: "freeu2:b1=1.1,s1=0.9", several of them with a + between."""

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from dnnlib.keywords import resolved, shown
from skip.methods import names
from skip.methods.method import SkipMethod

METHODS: dict[str, Any] = resolved(__package__, names.METHODS)
MOST_FACTOR = 1000.0


Parameters = dict[str, dict[str, float]]  # method -> parameter -> number


def parse_methods(text: str | None) -> tuple[SkipMethod, ...]:
    """The methods that a text names, in its order; None or an empty one names none.

    Raises:
        ValueError: if a method or a parameter is unknown, is named twice, or is no finite number.
    """
    found = {
        method: {name: _number(f"{method}:{name}", value) for name, value in given.items()}
        for method, given in _words(text or "").items()
    }
    return tuple(METHODS[method](**given) for method, given in found.items())


@dataclass(frozen=True)
class Range:
    """Where a search looks for a parameter.

    Attributes:
        method, parameter: their names.
        low, high: its ends.
    """

    method: str
    parameter: str
    low: float
    high: float


def parse_ranges(text: str) -> tuple[Parameters, tuple[Range, ...]]:
    """What a search of parameters starts from, and where it looks, in the order of the text: "freeu2:b1=1..1.3,s1=0.9".

    Raises:
        ValueError: as `parse_methods`.
    """
    start: Parameters = {}
    ranges: list[Range] = []
    for method, given in _words(text).items():
        start[method] = {}
        for parameter, value in given.items():
            name = f"{method}:{parameter}"
            low, dots, high = value.partition("..")
            if dots:
                ranges.append(Range(method, parameter, _number(name, low), _number(name, high)))
            start[method][parameter] = 1.0 if dots else _number(name, low)
    return start, tuple(ranges)


def written(parameters: Parameters) -> str:
    """Methods as `parse_methods` reads them."""
    return "+".join(
        f"{method}:" + ",".join(f"{name}={value:g}" for name, value in given.items())
        for method, given in parameters.items()
    )


def _words(text: str) -> dict[str, dict[str, str]]:
    """Methods, their parameters, and what stands for each of these."""
    found: dict[str, dict[str, str]] = {}
    for part in text.split("+") if text else []:
        name, _, rest = part.partition(":")
        if name not in METHODS:
            raise ValueError(
                f"unknown method {shown(name)} in {shown(text)}; choose from {', '.join(METHODS)}, "
                "as freeu:b1=1.1,s1=0.9"
            )
        if name in found:
            raise ValueError(f"{name} stands twice in {shown(text)}; give it once")
        found[name] = _parameters(name, rest)
    if {"freeu", "freeu2"} <= found.keys():
        raise ValueError("freeu and freeu2 are two versions of one method; give one of them")
    return found


def _parameters(method: str, text: str) -> dict[str, str]:
    known = [field.name for field in _numbers(METHODS[method])]
    found: dict[str, str] = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if name not in known or not equals:
            raise ValueError(
                f"{shown(part)} is no parameter of {method}; write {','.join(f'{n}=NUMBER' for n in known)}"
            )
        if name in found:
            raise ValueError(f"{name} stands twice in {method}:{text}; give it once")
        found[name] = value

    if not found:
        raise ValueError(
            f"{method} does nothing without a parameter; give {method}:{known[0]}=NUMBER, of {', '.join(known)}"
        )
    return found


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name}={shown(text)} is not a number such as 0.9") from None
    if not math.isfinite(value) or abs(value) > MOST_FACTOR:
        raise ValueError(f"{name}={text} is no useful factor; they are near 1")
    return value


def _numbers(method: Any) -> list[Field[Any]]:
    """The fields of a method that are its parameters."""
    return [field for field in fields(method) if field.type in (float, "float")]


def check_reach(methods: Sequence[SkipMethod], levels: Sequence[int], network: str) -> None:
    """Refuse a parameter that leaves every long skip of a network as it is.

    Args:
        methods: which act on the skips.
        levels: of all long skips, as `SkipMethod.join` has them.
        network: what to call it.
    Raises:
        ValueError: naming the parameter, and what the network has.
    """
    called = {kind: name for name, kind in METHODS.items()}
    for method in methods:
        for field in _numbers(method):
            name, value = field.name, float(getattr(method, field.name))
            if value == 1 or method.reaches(name, levels):
                continue
            at = ", ".join(str(level) for level in sorted(set(levels)))
            raise ValueError(
                f"{called[type(method)]}:{name}={value:g} touches no long skip of {network}, which has {len(levels)}, "
                f"of level {at} (0 is the lowest resolution); leave {name} out"
            )


def record_of_methods(methods: Sequence[SkipMethod]) -> dict[str, dict[str, float]]:
    """Methods and their parameters as JSON, those that do nothing left out; equal methods give equal records."""
    called = {kind: name for name, kind in METHODS.items()}
    return {
        called[type(method)]: {
            field.name: float(getattr(method, field.name)) for field in _numbers(method)
        }
        for method in methods
        if not method.is_identity
    }
