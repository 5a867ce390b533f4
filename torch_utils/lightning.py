"""Reading PyTorch Lightning's checkpoints as data: the tensors of their "state_dict", and nothing else.

Such a file is a torch.save archive of a dict whose other entries (callbacks, optimizer states, hyperparameters) may
name any class. None is imported: whatever is no tensor, dict, list or literal becomes an `Inert`, which does nothing.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from torch_utils.pickle_globals import Named, exactly
from torch_utils.torch_files import TensorRules, UnwantedError, check_tensors, read_archive

_FIRST_KEYS = re.compile(
    rb"(X.\0\0\0|\x8c.)(state_dict|epoch|global_step|pytorch-lightning_version)", re.DOTALL
)


class Inert:
    """Stands for an object, class or function that is not needed; whatever is done with it has no effect."""


class _CheckpointRules(TensorRules):
    """Tensors, and `Inert` in place of everything else."""

    def named(self, module: str, name: str) -> Any:
        """A stand-in for what tensors need."""
        try:
            return super().named(module, name)
        except UnwantedError:
            return Inert()

    def called(self, function: Any, args: Any) -> Any:
        """A tensor or a dict, if such a stand-in is called."""
        return super().called(function, args) if type(function) is Named else Inert()

    def container(self, kind: type, target: Any) -> Any:
        """The contents of an `Inert` are thrown away."""
        return kind() if type(target) is Inert else exactly(kind, target)

    def key(self, value: Any) -> Any:
        """What is no plain key, such as the class of a callback, is a key of its own."""
        return value if type(value) in (str, int, float, bool, bytes, type(None)) else Inert()


def is_lightning(head: bytes) -> bool:
    """Whether a file that begins so is a torch.save archive of a Lightning checkpoint, or of a dict with a state_dict.

    Args:
        head: its first bytes, 512 or more.
    """
    return (
        head.startswith(b"PK\x03\x04")
        and b"data.pkl" in head
        and _FIRST_KEYS.search(head) is not None
    )


def read_lightning(path: Path) -> dict[str, Tensor]:
    """The tensors of a Lightning checkpoint's state_dict; nothing in the file is executed or imported.

    Reads torch.save's archives, which are zip files, but not what torch wrote before its version 1.6.

    Returns:
        Tensors by name, on the CPU; they read from the file when they are used.
    Raises:
        ValueError: if the file is damaged, or its state_dict holds other things than tensors by name.
    """
    contents = read_archive(path, _CheckpointRules)
    tensors = contents.get("state_dict") if isinstance(contents, dict) else None
    if not isinstance(tensors, dict):
        raise ValueError("the file is no Lightning checkpoint: it has no state_dict")
    check_tensors(tensors, path.stat().st_size, "the state_dict of the checkpoint")
    return tensors
