"""Tensors by name: read from torch.save files without executing anything, and checked against a network's."""

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from dnnlib.files import atomic_write
from dnnlib.text import printable
from torch_utils.torch_files import check_tensors, read_archive

NAMES_SHOWN, NAME_LENGTH = 3, 120
SAFE_SINCE = (2, 10)  # of torch: what weights_only promises holds
Module = TypeVar("Module", bound=nn.Module)


def check_names(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], optional: str | None = None
) -> None:
    """What a strict load_state_dict checks, told in one line.

    Args:
        expected: the network's state_dict.
        found: the stored tensors.
        optional: names that end so may be missing.
    Raises:
        ValueError: if a name is missing or unexpected, or a shape is another; the first of them are named.
    """
    lists = {
        "missing": [
            n for n in expected if n not in found and not (optional and n.endswith(optional))
        ],
        "unexpected": [n for n in found if n not in expected],
        "of the wrong shape": [
            f"{name} {list(found[name].shape)} for {list(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
    }

    problems = [
        f"{len(names)} {problem} ({_first(names)})" for problem, names in lists.items() if names
    ]
    if problems:
        raise ValueError(f"the tensors do not fit the network: {'; '.join(problems)}")


def check_like(found: Any, expected: Mapping[str, Tensor]) -> None:
    """Refuse what is not, name by name, a tensor of the shape and dtype that is expected.

    Args:
        found: from a file.
        expected: what goes on from it.
    Raises:
        ValueError: naming the first difference.
    """
    if not isinstance(found, dict) or not all(
        isinstance(value, Tensor) for value in found.values()
    ):
        raise ValueError("there is something else in the place of tensors by name")
    check_names(expected, found)
    for name, value in expected.items():
        if found[name].dtype != value.dtype or found[name].layout != value.layout:
            raise ValueError(
                f"{name} is {found[name].dtype}, {found[name].layout}; it must be {value.dtype}"
            )


def _first(names: list[str]) -> str:
    shown = [printable(name, NAME_LENGTH) for name in names[:NAMES_SHOWN]]
    return ", ".join(shown + ["..."] * (len(names) > NAMES_SHOWN))


def assembled(make: Callable[[], Module], tensors: Mapping[str, Tensor]) -> Module:
    """The module that `make` makes, with these tensors for its weights and buffers, in its own dtypes, on the CPU.

    It is made on the meta device, where nothing has a size in memory, and stopped where it has many more parameters
    than there are tensors: what a file says of its network costs no more than its tensors do. No initial values are
    drawn either, which takes most of the time of making a large network.

    Args:
        make: of real numbers it makes only what is no part of the state_dict.
        tensors: by name; they are copied.
    Raises:
        ValueError: if `make` asks for too large a module, or as `check_names`.
    """
    with torch.device("meta"), at_most(2 * len(tensors) + 1000, ", far more than the file"):
        module = make()
    expected = module.state_dict()
    check_names(expected, tensors)
    weights = {
        name: tensors[name].to(value.dtype, copy=True, memory_format=torch.contiguous_format)
        for name, value in expected.items()
    }
    module.load_state_dict(weights, strict=True, assign=True)
    return module


@contextlib.contextmanager
def at_most(limit: int, than: str = "") -> Iterator[None]:
    """Refuse modules with more parameters, counted by tensors, while they are made.

    Raises:
        ValueError: where the block makes one more than `limit`.
    """
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > limit:
            raise ValueError(f"the network has more than {limit:,} tensors of weights{than}")

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()


def read_saved(path: Path, device: str | torch.device = "cpu") -> Any:
    """What torch.save wrote, with its checksums compared, which torch.load passes over; nothing in it is executed.

    Raises:
        Exception: of any kind, if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} is another")
    return load_pickled(path, device)


def write_saved(path: str | os.PathLike[str], value: Any) -> None:
    """torch.save of plain tensors and numbers, atomically.

    Raises:
        OSError: if the file cannot be written, or the disk is full; it names the file.
    """
    with atomic_write(path) as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            # Of which torch says "unexpected pos 64 vs 0".
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


class OldTorchError(ValueError):
    """This torch cannot read a file safely."""


def load_pickled(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Any:
    """torch.load of plain tensors and numbers, by a torch whose `weights_only` keeps what it promises.

    Raises:
        OldTorchError: if this torch is older than 2.10, in which such a file can execute code (CVE-2026-24747).
        Exception: of any kind, if the file is damaged.
    """
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) < SAFE_SINCE:
        raise OldTorchError(
            f"{path} is read by torch.load, which torch {torch.__version__} cannot do safely (CVE-2026-24747): "
            "upgrade torch to 2.10 or newer, or take a safetensors file"
        )
    return torch.load(path, map_location=device, weights_only=True)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state_dict that torch.save wrote; nothing in the file is executed.

    Raises:
        ValueError: if the file is damaged, asks to execute something, or holds other things than tensors by name.
    """
    tensors = read_archive(path)
    if not isinstance(tensors, dict):
        raise ValueError("the file is no state_dict: it holds other things than tensors by name")
    check_tensors(tensors, path.stat().st_size, "the file is no state_dict: it")
    return tensors
