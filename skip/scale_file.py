"""Skip coefficients, and what else acts on the skips, as a JSON file: what a search found, for the programs to use."""

import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from dnnlib.json_files import read_json_object, write_json
from dnnlib.keywords import shown
from dnnlib.text import printable
from skip.methods.table import parse_methods
from skip.scale import SkipScale, as_json

FORMAT = "skip-tuning-scale/1"
COEFFICIENTS = ("bottom", "top", "layers")
METHOD = "skip_method"
HINTS = get_type_hints(SkipScale)
CURE = "correct it, or have it made again (tables.py tune, skip.finetune rho)"


class Skips(NamedTuple):
    """What a file says of the long skips.

    Attributes:
        scale: their coefficients.
        method: what else acts on them, as `skip.methods.table.parse_methods` reads it; None for nothing.
    """

    scale: SkipScale
    method: str | None


def save_scale(
    path: str | os.PathLike[str],
    scale: SkipScale,
    skip_method: str | None = None,
    **provenance: Any,
) -> None:
    """Write the coefficients and the method, atomically.

    The file is {"format": "skip-tuning-scale/1", every field of SkipScale, "skip_method": where there is one,
    "provenance": {...}}; a noise level of infinity, which JSON lacks, is "inf".

    Args:
        path: of the file.
        scale, skip_method: what it says, as `Skips`; a method without effect is left out.
        provenance: how it was found, as JSON; nothing reads it.
    Raises:
        OSError: if the file cannot be written.
    """
    record = {name: value for name, value in asdict(scale).items() if value is not None}
    if scale.layers is not None:
        del record["bottom"], record["top"], record["spacing"]  # they are without effect
    record = {name: as_json(value) for name, value in record.items()}
    if acting := _acting(skip_method):
        record[METHOD] = acting
    write_json(path, {"format": FORMAT} | record | {"provenance": provenance}, checksum=True)


def load_scale(path: str | os.PathLike[str]) -> SkipScale:
    """The coefficients alone, of a file that says nothing else.

    Raises:
        FileNotFoundError, ValueError: as `load_skips`, or if the file says a method too, which would be lost.
    """
    scale, method = load_skips(path)
    if method is not None:
        raise ValueError(
            f"{path} says --skip-method {method} too, and these are coefficients alone: read both with load_skips"
        )
    return scale


def load_skips(path: str | os.PathLike[str]) -> Skips:
    """Read what `save_scale` wrote, or a file written by hand; what that leaves out has SkipScale's default.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and what is wrong in it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path} with skip coefficients; check the path")
    record = read_json_object(path, CURE)
    try:
        if record.get("format") != FORMAT:
            raise ValueError(f'it is not a file of skip coefficients: need "format": "{FORMAT}"')
        method = _method(record)
        return Skips(SkipScale(**_settings(record, method)), method)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {printable(error, 500)}; {CURE}") from error


def _method(record: dict[str, Any]) -> str | None:
    """The method in a file's record; the first searches of methods wrote it among where it came from."""
    provenance = record.get("provenance")
    earlier = provenance.get(METHOD) if isinstance(provenance, dict) else None
    method = record.get(METHOD, earlier)
    if method is None:
        return None
    if not isinstance(method, str):
        raise ValueError(f"{METHOD} is {shown(method)}; it must be a text")
    return _acting(method)


def _acting(method: str | None) -> str | None:
    """The method; None of one that leaves every network as it is, such as FreeU with factors of 1."""
    return method if any(not one.is_identity for one in parse_methods(method)) else None


def _settings(record: dict[str, Any], method: str | None) -> dict[str, Any]:
    """The arguments of SkipScale in a file's record, which may have none beside a method."""
    others = ("format", METHOD, "provenance")
    found = {name: value for name, value in record.items() if name not in others}
    for name, value in found.items():
        if name not in HINTS:
            raise ValueError(
                f"unknown key {printable(name, 50)!r}; there are {', '.join([*HINTS, METHOD])}"
            )
        found[name] = _value(name, value)

    if method is None and not set(COEFFICIENTS) & record.keys():
        raise ValueError(f"it has no coefficients; give {' or '.join(COEFFICIENTS)}")
    if len(found.get("window", (0, 0))) != 2:
        raise ValueError(f"window has {len(record['window'])} numbers; it must be [low, high]")
    return found


def _value(name: str, value: Any) -> Any:
    """A field of SkipScale, by what it is: a number, numbers, or a choice, which is a text."""
    if HINTS[name] is float:
        return _number(name, value)
    if any(get_origin(part) is tuple for part in get_args(HINTS[name])):
        if not isinstance(value, list):
            raise ValueError(f"{name} is {shown(value)}; it must be a list of numbers")
        return tuple(_number(name, one) for one in value)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}; it must be a text")
    return value


def _number(name: str, value: Any) -> float:
    if name == "window" and value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} has {shown(value)} where a number must be")
    return float(value)
