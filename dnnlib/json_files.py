"""JSON in files: objects and lines of numbers, with checksums, read so that damage is named."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

from dnnlib.files import atomic_write
from dnnlib.text import printable

_CHECKSUM = "crc32"
_MOST_JSON, _MOST_JSON_LINES = 2**20, 2**26  # bytes; a file of ours has far fewer


def write_json(path: str | os.PathLike[str], value: Any, checksum: bool = False) -> None:
    """Write `value` as indented JSON, atomically; numbers that JSON lacks (NaN, infinity) are refused.

    Args:
        path: of the file.
        value: what it says.
        checksum: add one to an object, for `read_json_object`.
    """
    said = value | {_CHECKSUM: _checksum(value)} if checksum else value
    text = json.dumps(said, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def read_json_object(
    path: str | os.PathLike[str],
    cure: str = "remove it, or choose another folder",
    most: int = _MOST_JSON,
) -> dict[str, Any]:
    """The object in a JSON file; where it has a checksum, that is compared and left out.

    Args:
        path: of the file.
        cure: what a message says to do.
        most: bytes of a file that is read.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it holds something else, is larger, or was changed.
    """
    try:
        value = json.loads(read_text(Path(path), most))
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        said = value.pop(_CHECKSUM, None)
        if said is not None and said != _checksum(value):
            raise ValueError(
                f"its checksum is another; if you changed it yourself, take out {_CHECKSUM} too"
            )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({printable(error)}); {cure}") from error
    return value


def json_line(numbers: dict[str, float]) -> str:
    """A line for `read_json_lines`, with its checksum."""
    return json.dumps(numbers | {_CHECKSUM: _checksum(numbers)}, allow_nan=False) + "\n"


def read_json_lines(
    path: Path, cure: str = "remove the file to go on without"
) -> list[dict[str, float]]:
    """The numbers in a file of one JSON object a line; where a line has a checksum, it is compared and left out.

    Args:
        path: of the file.
        cure: what a message says to do if it is another kind of file.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and its first line that is none, or that was changed.
    """
    try:
        lines = read_text(path, _MOST_JSON_LINES).splitlines()
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({printable(error)}); {cure}") from error

    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_numbers(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number} is damaged ({printable(error)}): remove that line, or {cure}"
            ) from error
    return found


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    said = value.pop(_CHECKSUM, None)
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{printable(name, 40)} is no number")
        if not abs(number) < 1e300:  # a whole number may be larger than any float
            raise ValueError(f"{printable(name, 40)} is NaN, infinite or absurdly large")
    if said is not None and said != _checksum(value):
        raise ValueError("its checksum is another")
    return value


def _checksum(value: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value).encode()):08x}"


def read_text(path: Path, most: int) -> str:
    """A file's text, in UTF-8.

    Args:
        path: of the file.
        most: bytes.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a pipe, larger, or no text.
    """
    if path.is_fifo():  # nobody may ever write to it
        raise ValueError("it is a pipe, no file")
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is no text in UTF-8") from error
