"""Our own files: safetensors, with what is needed to build the network in the metadata.

format      "skip-tuning-edm/1"
class       a name in FAMILIES, such as "EDMPrecond"
kwargs      its constructor keywords, as JSON; infinity and NaN are written {"float": "inf"}
provenance  JSON: where the weights come from, in free words and numbers
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from dnnlib.text import printable, reason
from torch_utils.safetensors_files import check_safetensors, write_safetensors
from torch_utils.torch_files import check_tensors

FORMAT = "skip-tuning-edm/1"
# Class name, constructor keywords, state_dict.
Contents = tuple[str, dict[str, Any], dict[str, Tensor]]


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is a safetensors file."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file of any program.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"the safetensors file is truncated or damaged ({printable(error)})"
        ) from error
    check_tensors(tensors, path.stat().st_size, "the safetensors file")
    check_safetensors(path)
    return metadata, tensors


def read(path: Path) -> Contents:
    """Read a network.

    Raises:
        ValueError: if the file is damaged, or of another program.
    """
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise ValueError(
            f"a safetensors file of another program: its format is {found[:50]!r}, not {FORMAT!r}"
        )
    try:
        return metadata["class"], _keywords(metadata["kwargs"]), tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the metadata of the safetensors file is damaged ({reason(error)})"
        ) from error


def write(path: str | os.PathLike[str], contents: Contents, provenance: Mapping[str, Any]) -> None:
    """Store a network, atomically.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if provenance holds what JSON cannot.
    """
    name, kwargs, tensors = contents
    metadata = {
        "format": FORMAT,
        "class": name,
        "kwargs": json.dumps(_encode_floats(kwargs), allow_nan=False),
        "provenance": json.dumps(_encode_floats(provenance), allow_nan=False),
    }
    write_safetensors(path, tensors, metadata)


def _keywords(text: str) -> dict[str, Any]:
    kwargs = json.loads(text, object_hook=_decode_float)
    if not isinstance(kwargs, dict):
        raise ValueError(f"the arguments are a {type(kwargs).__name__}")
    return kwargs


def _encode_floats(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dict):
        return {key: _encode_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode_floats(item) for item in value]
    return value


def _decode_float(value: dict[str, Any]) -> Any:
    return float(value["float"]) if value.keys() == {"float"} else value
