"""Reading torch.save's archives as data: tensors, dicts and literals; nothing that a file names is imported or run.

Such a file is a zip archive of a pickle and, each in a file of its own, the numbers of its storages. The pickle goes
through the machine of safe_pickle.py. What torch wrote before its version 1.6 is no archive, and is not read.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_utils.pickle_globals import (
    GLOBALS,
    Named,
    Storage,
    UnsafePickleError,
    exactly,
    named,
)
from torch_utils.safe_pickle import Rules, load

_CALLED = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)
_DTYPES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip


class UnwantedError(UnsafePickleError):
    """The file names a class or function that tensors have no need of."""


class TensorRules(Rules):
    """Tensors, dicts and literals."""

    def __init__(self, archive: "Archive") -> None:
        super().__init__()
        self.archive = archive

    def named(self, module: str, name: str) -> Any:
        """A stand-in for what tensors need."""
        full = f"{module}.{name}"
        if full not in _CALLED and full not in _DTYPES:
            shown = ascii(full)[1:-1][:100]
            raise UnwantedError(
                f"the file wants to run {shown}, which no state_dict needs; it is not loaded"
            )
        return Named(full)

    def called(self, function: Any, args: Any) -> Any:
        """A tensor or a dict."""
        if exactly(Named, function).name not in _CALLED:
            raise UnsafePickleError(f"safe loading refuses a call of {function.name}")
        return GLOBALS[function.name](*exactly(tuple, args))

    def set_state(self, target: Any, state: Any) -> None:
        """Nothing: a state_dict has attributes, but no use for them here."""

    def stored(self, reference: Any) -> Any:
        """The numbers of a tensor: ("storage", its class, its file in the archive, device, count)."""
        _tag, kind, key, _device, _count = exactly(tuple, reference)
        return Storage(
            self.archive.member(f"data/{exactly(str, key)}", _DTYPES[exactly(Named, kind).name])
        )


class ArrayRules(TensorRules):
    """Numpy's arrays too, and whatever else `torch_utils.safe_pickle` reads as data."""

    def named(self, module: str, name: str) -> Any:
        """A stand-in for what tensors and arrays need."""
        full = f"{module}.{name}"
        return Named(full) if full in _DTYPES else named(module, name)

    def called(self, function: Any, args: Any) -> Any:
        """A tensor, an array or a dict."""
        return Rules.called(self, function, args)

    def set_state(self, target: Any, state: Any) -> None:
        """The contents of an array; a state_dict has attributes, but no use for them here."""
        if type(target) is not dict:
            Rules.set_state(self, target, state)


class Archive:
    """The files inside of a torch.save archive, mapped rather than read."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as file:
            self.members = {info.filename: info for info in file.infolist()}
        (pickle,) = (
            name for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1
        )
        self.root = pickle.removesuffix("data.pkl")
        self.bytes = torch.from_file(
            str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8
        )

    def member(self, name: str, dtype: torch.dtype = torch.uint8) -> Tensor:
        """The numbers in a file, one-dimensional."""
        info = self.members[self.root + name]
        header = self.bytes[info.header_offset :][:30].tolist()
        start = (
            info.header_offset + 30 + header[26] + 256 * header[27] + header[28] + 256 * header[29]
        )
        if info.compress_type != zipfile.ZIP_STORED or start + info.file_size > len(self.bytes):
            raise UnsafePickleError(f"its file {name[:50]} is compressed or cut short")
        data = self.bytes[start : start + info.file_size]
        # torch aligns its files; others may have written this one.
        return (data if start % dtype.itemsize == 0 else data.clone()).view(dtype)


def is_archive(path: Path) -> bool:
    """Whether a file is what torch.save writes: a zip with a pickle in its only folder."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # which its reader says
    return any(name.endswith("/data.pkl") and name.count("/") == 1 for name in names)


def read_archive(path: Path, rules: Callable[[Archive], Rules] = TensorRules) -> Any:
    """What torch.save wrote, its tensors on the CPU; they read from the file when they are used.

    Args:
        path: of the archive.
        rules: what its pickle may do.
    Raises:
        ValueError: if the file is truncated or damaged, or names what `rules` refuses.
    """
    try:
        archive = Archive(path)
        return load(io.BytesIO(archive.member("data.pkl").numpy().tobytes()), rules(archive))
    except UnwantedError:
        raise
    except Exception as error:  # what is wrong with a file can show in any way
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the torch.save archive is truncated or damaged ({reason})") from error


def check_tensors(tensors: Mapping[Any, Any], size: int, what: str) -> None:
    """See that these are tensors by name, and together no larger than the file that they come from.

    A small file could else name one storage a thousand times, for tensors that fill the memory once they are copied.

    Args:
        tensors: as read.
        size: of the file, in bytes.
        what: they are, for the message: "the file is no state_dict: it".
    Raises:
        ValueError: if they are not.
    """
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise ValueError(
                f"{what} holds other things than tensors by name: a key that is no text"
            )
        if not isinstance(value, Tensor):
            raise ValueError(f"{what} holds other things than tensors by name: {ascii(name)[:100]}")
    claimed = sum(value.numel() * value.element_size() for value in tensors.values())
    if claimed > 2 * size:  # twice, as a tensor or two may be there under several names
        raise ValueError(
            f"the tensors claim {claimed:,} bytes, the file has {size:,}: it is damaged"
        )
