"""Tensors by name: read from torch.save files without executing anything, and checked against a network's."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

NAMES_SHOWN = 3


def check_names(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], optional: str | None = None) -> None:
    """What a strict load_state_dict checks, told in one line.

    Args:
        expected: the network's state_dict.
        found: the stored tensors.
        optional: names that end so may be missing.
    Raises:
        ValueError: if a name is missing or unexpected, or a shape is another; the first of them are named.
    """
    lists = {
        "missing": [n for n in expected if n not in found and not (optional and n.endswith(optional))],
        "unexpected": [n for n in found if n not in expected],
        "of the wrong shape": [
            f"{name} {list(found[name].shape)} for {list(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    problems = [
        f"{len(names)} {problem} ({', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''})"
        for problem, names in lists.items()
        if names
    ]
    if problems:
        raise ValueError(f"the tensors do not fit the network: {'; '.join(problems)}")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state_dict that torch.save wrote; nothing in the file is executed.

    Raises:
        ValueError: if the file is damaged, asks to execute something, or holds other things than tensors by name.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what is wrong with a file can show in any way
        message = " ".join(str(error).split())
        if wanted := re.search(r"GLOBAL (\S+)", message):  # torch's advice is to load it all the same
            raise ValueError(
                f"the file wants to run {wanted[1]}, which no state_dict needs; it is not loaded"
            ) from error
        raise ValueError(f"the torch.save archive is truncated or damaged ({message[:200]})") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()
    ):
        raise ValueError("the file is no state_dict: it holds other things than tensors by name")
    return tensors
