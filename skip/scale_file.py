"""A SkipScale as a JSON file: what a search found, for generate.py and fid.py to use."""

import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from dnnlib.json_files import read_json_object, write_json
from dnnlib.keywords import shown
from dnnlib.text import printable
from skip.scale import SkipScale, as_json

FORMAT = "skip-tuning-scale/1"
COEFFICIENTS = ("bottom", "top", "layers")
HINTS = get_type_hints(SkipScale)
CURE = "correct it, or have it made again (tables.py tune, skip.finetune rho)"


def save_scale(path: str | os.PathLike[str], scale: SkipScale, **provenance: Any) -> None:
    """Write the coefficients, atomically.

    The file is {"format": "skip-tuning-scale/1", every field of SkipScale, "provenance": {...}}; a noise level of
    infinity, which JSON lacks, is "inf".

    Args:
        path: of the file.
        scale: what it says.
        provenance: how it was found, as JSON; nothing reads it.
    Raises:
        OSError: if the file cannot be written.
    """
    record = {name: value for name, value in asdict(scale).items() if value is not None}
    if scale.layers is not None:
        del record["bottom"], record["top"], record["spacing"]  # they are without effect
    record = {name: as_json(value) for name, value in record.items()}
    write_json(path, {"format": FORMAT} | record | {"provenance": provenance}, checksum=True)


def load_scale(path: str | os.PathLike[str]) -> SkipScale:
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
        return SkipScale(**_settings(record))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {printable(error, 500)}; {CURE}") from error


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """The arguments of SkipScale in a file's record."""
    found = {name: value for name, value in record.items() if name not in ("format", "provenance")}
    for name, value in found.items():
        if name not in HINTS:
            raise ValueError(f"unknown key {printable(name, 50)!r}; there are {', '.join(HINTS)}")
        found[name] = _value(name, value)

    if not set(COEFFICIENTS) & found.keys():
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
