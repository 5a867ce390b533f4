"""Reading PyTorch Lightning's checkpoints as data: the tensors of their "state_dict", and nothing else.

Such a file is a torch.save archive of a dict whose other entries (callbacks, optimizer states, hyperparameters) may
name any class. None is imported: whatever is no tensor, dict, list or literal becomes an `Inert`, which does nothing.
"""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_utils.pickle_globals import GLOBALS, Named, Storage, UnsafePickleError, exactly
from torch_utils.safe_pickle import Rules, load

_FIRST_KEYS = re.compile(rb"(X.\0\0\0|\x8c.)(state_dict|epoch|global_step|pytorch-lightning_version)", re.DOTALL)
_CALLED = ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")
_DTYPES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip


class Inert:
    """Stands for an object, class or function that is not needed; whatever is done with it has no effect."""


class _CheckpointRules(Rules):
    """Tensors, and `Inert` in place of everything else."""

    def __init__(self, archive: "_Archive") -> None:
        self.archive = archive

    def named(self, module: str, name: str) -> Any:
        """A stand-in for what tensors need."""
        full = f"{module}.{name}"
        return Named(full) if full in _CALLED or full in _DTYPES else Inert()

    def called(self, function: Any, args: Any) -> Any:
        """A tensor or a dict, if such a stand-in is called."""
        if type(function) is Named and function.name in _CALLED:
            return GLOBALS[function.name](*exactly(tuple, args))
        return Inert()

    def set_state(self, target: Any, state: Any) -> None:
        """Nothing: a state_dict has attributes, but no use for them here."""

    def container(self, kind: type, target: Any) -> Any:
        """The contents of an `Inert` are thrown away."""
        return kind() if type(target) is Inert else exactly(kind, target)

    def key(self, value: Any) -> Any:
        """What is no plain key, such as the class of a callback, is a key of its own."""
        return value if type(value) in (str, int, float, bool, bytes, type(None)) else Inert()

    def stored(self, reference: Any) -> Any:
        """The numbers of a tensor: ("storage", its class, its file in the archive, device, count)."""
        _tag, kind, key, _device, _count = exactly(tuple, reference)
        return Storage(self.archive.member(f"data/{exactly(str, key)}", _DTYPES[exactly(Named, kind).name]))


class _Archive:
    """The files inside of a torch.save archive, mapped rather than read."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as file:
            self.members = {info.filename: info for info in file.infolist()}
        (pickle,) = (name for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1)
        self.root = pickle.removesuffix("data.pkl")
        self.bytes = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)

    def member(self, name: str, dtype: torch.dtype = torch.uint8) -> Tensor:
        """The numbers in a file, one-dimensional."""
        info = self.members[self.root + name]
        header = self.bytes[info.header_offset :][:30].tolist()
        start = info.header_offset + 30 + header[26] + 256 * header[27] + header[28] + 256 * header[29]
        if info.compress_type != zipfile.ZIP_STORED or start + info.file_size > len(self.bytes):
            raise UnsafePickleError(f"its file {name} is compressed or cut short")
        data = self.bytes[start : start + info.file_size]
        # torch aligns its files; others may have written this one.
        return (data if start % dtype.itemsize == 0 else data.clone()).view(dtype)


def is_lightning(head: bytes) -> bool:
    """Whether a file that begins so is a torch.save archive of a Lightning checkpoint, or of a dict with a state_dict.

    Args:
        head: its first bytes, 512 or more.
    """
    return head.startswith(b"PK\x03\x04") and b"data.pkl" in head and _FIRST_KEYS.search(head) is not None


def read_lightning(path: Path) -> dict[str, Tensor]:
    """The tensors of a Lightning checkpoint's state_dict; nothing in the file is executed or imported.

    Reads torch.save's archives, which are zip files, but not what torch wrote before its version 1.6.

    Returns:
        Tensors by name, on the CPU; they read from the file when they are used.
    Raises:
        ValueError: if the file is damaged, or its state_dict holds other things than tensors by name.
    """
    try:
        archive = _Archive(path)
        contents = load(io.BytesIO(archive.member("data.pkl").numpy().tobytes()), _CheckpointRules(archive))
    except Exception as error:  # what is wrong with a file can show in any way
        raise ValueError(f"the checkpoint is truncated or damaged ({' '.join(str(error).split())[:200]})") from error
    tensors = contents.get("state_dict") if isinstance(contents, dict) else None
    if not isinstance(tensors, dict):
        raise ValueError("the file is no Lightning checkpoint: it has no state_dict")
    for name, value in tensors.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            shown = ascii(name)[:100] if isinstance(name, str) else "a key that is no text"
            raise ValueError(f"the state_dict of the checkpoint holds other things than tensors by name: {shown}")
    return tensors
