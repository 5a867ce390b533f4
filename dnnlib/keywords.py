"""Keywords that come from a file, held against what the constructors say of themselves.

A network is built from keywords that anyone may have written. A text where a number belongs would show later, in the
middle of a run, and a list where a number belongs can be multiplied until it fills the memory.
"""

import math
import os
import pkgutil
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from dnnlib.json_files import read_text
from dnnlib.text import printable

LARGEST = 2**31 - 1  # of a count
_MOST_TOML = 2**20  # bytes
_PLAIN: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


def check_keywords(kwargs: Mapping[str, Any], kinds: Sequence[type]) -> None:
    """See that every keyword has a value of the type that a constructor asks for; unknown keywords are left alone.

    Args:
        kwargs: from a file.
        kinds: the classes whose constructors the keywords reach; of several that know a keyword, the first that says
            more than Any counts.
    Raises:
        ValueError: naming the keyword, and what it must be.
    """
    hints: dict[str, Any] = {}
    for kind in kinds:
        for name, hint in get_type_hints(cast(Any, kind).__init__).items():
            if hint is not Any:
                hints.setdefault(name, hint)
    check_values(kwargs, hints)


def check_values(values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """See that every value is of the type that is asked for; those without a hint are left alone.

    Args:
        values: from a file.
        hints: the annotation of each, such as int or tuple[float, float] | None.
    Raises:
        ValueError: naming the value, and what it must be.
    """
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} is {shown(value)}; it must be {_described(hints[name])}")


def resolved(package: str | None, places: Mapping[str, str]) -> dict[str, Any]:
    """What a table of names stands for, imported now.

    Args:
        package: whose modules they are of, the caller's __package__.
        places: name -> MODULE:NAME.
    """
    return {name: pkgutil.resolve_name(f"{package}.{place}") for name, place in places.items()}


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        OSError: if the file cannot be read.
        ValueError: naming the file, if it is not TOML, or larger than any of ours by far.
    """
    try:
        return tomllib.loads(read_text(Path(path), _MOST_TOML))
    except (ValueError, RecursionError) as error:  # TOML's and Unicode's are ValueErrors
        raise ValueError(f"{path} is not valid TOML: {printable(error)}") from error


Entry = TypeVar("Entry")


def load_tables(path: str | os.PathLike[str], kind: type[Entry]) -> dict[str, Entry]:
    """The tables of a TOML file by name, in its order, each as a `kind`, a dataclass with a field `name`.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not TOML, or a table has an unknown or a missing key, or a value of another type.
    """
    entries = {}
    for name, table in read_toml(path).items():
        try:
            if not isinstance(table, dict):
                raise ValueError(f"it is {shown(table)}, no table")
            check_keywords(table, [kind])
            entries[name] = kind(name=name, **table)  # type: ignore[call-arg]
        except TypeError as error:
            raise ValueError(
                f"{path}, [{printable(name, 50)}]: {printable(str(error).partition(' ')[2])}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{path}, [{printable(name, 50)}]: {error}") from error
    return entries


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value)
    if origin is tuple:
        return _fits_tuple(value, parts)

    if hint is float:
        return type(value) in (int, float) and not math.isnan(value)
    if hint is int:
        return type(value) is int and abs(value) <= LARGEST
    if hint in (bool, str, type(None)):
        return type(value) is hint
    return isinstance(value, origin or hint)


def _fits_tuple(value: Any, parts: tuple[Any, ...]) -> bool:
    """Whether a list has the length and the types of tuple[int, int], or all of one type as tuple[int, ...]."""
    if not isinstance(value, list | tuple):
        return False
    if parts[-1] is Ellipsis:
        return all(_fits(item, parts[0]) for item in value)
    return len(value) == len(parts) and all(
        _fits(item, part) for item, part in zip(value, parts, strict=True)
    )


def _described(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is Sequence or (origin is tuple and parts[-1] is Ellipsis):
        return f"a list, each of it {_described(parts[0])}"
    if origin is tuple:
        return f"a list of {len(parts)}, each of it {_described(parts[0])}"
    if hint is type(None):
        return "absent"
    return _PLAIN.get(hint, "a table")


def shown(value: Any) -> str:
    """A value from a file, if it is short; a list in a pickle can be a small thing with an endless representation."""
    if isinstance(value, str):
        return ascii(value[:50])
    if isinstance(value, float | bool | None) or (isinstance(value, int) and abs(value) < 10**30):
        return str(value)
    return f"of the type {type(value).__name__}"
