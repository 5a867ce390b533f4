"""Writing safetensors files that carry a checksum, which the format lacks, and comparing it."""

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor

from dnnlib.files import atomic_write

CHECKSUM = "checksum"  # a key of the metadata


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors and text, atomically; equal ones make equal files.

    Args:
        path: the file to create or replace.
        tensors: by name.
        metadata: text by name; the checksum of all is added.
    Raises:
        OSError: if the file cannot be written.
    """
    own = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = memoryview(safetensors.torch.save(own, dict(metadata)))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:start]))
    header["__metadata__"] = dict(metadata) | {CHECKSUM: _checksum(header, data[start:])}
    # The library orders the metadata at random.
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(data[start:])


def check_safetensors(path: str | os.PathLike[str]) -> None:
    """Compare the checksum of a file that `write_safetensors` wrote; files without one pass.

    Args:
        path: of a file whose header the library has read.
    Raises:
        ValueError: if the file was changed since.
    """
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
        said = header.get("__metadata__", {}).get(CHECKSUM)
        if said is None:
            return
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data)[start:] as numbers,
        ):
            found = _checksum(header, numbers)

    if found != said:
        raise ValueError(
            "the safetensors file is damaged: its checksum is another than when it was written"
        )


def _checksum(header: dict[str, Any], numbers: memoryview) -> str:
    """Of all but the checksum itself."""
    metadata = {name: text for name, text in header["__metadata__"].items() if name != CHECKSUM}
    found = hashlib.sha256(json.dumps(header | {"__metadata__": metadata}, sort_keys=True).encode())
    found.update(numbers)
    return found.hexdigest()
