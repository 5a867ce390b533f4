"""Files that are either whole or absent."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of `path` for binary writing; rename it to `path` if the block succeeds.

    A reader, or a run that is killed at any moment, sees the old file or the new one, never half of it. The
    folder is created where it is missing, and a failed write leaves nothing behind.

    Args:
        path: the file to create or replace.
    Raises:
        OSError: if the folder cannot be written or the disk is full; it names the file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(partial, "xb") as file:
            yield file
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:  # as of a full disk
            error.filename = str(target)
        raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, atomically; numbers that JSON lacks (NaN, infinity) are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def remove_partial_files(folder: str | os.PathLike[str]) -> int:
    """Delete what killed runs left of `atomic_write` below `folder`; return how many files that were."""
    found = [p for p in Path(folder).rglob(".*.tmp") if p.is_file()]
    for p in found:
        p.unlink(missing_ok=True)
    return len(found)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of one JSON object a line.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and its first line that is none.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no JSON object: remove it, or the file") from error
    return found
