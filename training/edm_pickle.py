"""EDM's snapshot pickles: recorded constructor arguments and tensors, without the code they carry."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from dnnlib.download import OLD_TORCH
from torch_utils import safe_pickle
from torch_utils.safe_pickle import Recorded
from torch_utils.torch_files import check_tensors

LATENT_CHANNELS = 4  # of EDM2's networks at 512 pixels; an image has 1 or 3


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle of protocol 2 to 5, but for torch.save's old files."""
    return (
        len(head) > 2
        and head[0] == 0x80
        and head[1] in range(2, 6)
        and not head.startswith(OLD_TORCH)
    )


def read_snapshot(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Read the averaged network of a snapshot, the entry `ema`.

    Args:
        path: a pickle of a dict with the key `ema`; the layout: tests/golden/README.md, section 3.
    Returns:
        Class name in training/families/table.py, constructor keywords and state_dict of the outermost object.
    Raises:
        ValueError: if the file is truncated, asks to execute something, or holds no such network.
    """
    with open(path, "rb") as file:
        snapshot = safe_pickle.load(file)
    ema = snapshot.get("ema") if isinstance(snapshot, dict) else None
    if not isinstance(ema, Recorded):
        raise ValueError("the pickle is no EDM snapshot: it has no network under the key 'ema'")
    args, kwargs = ema.state.get("_init_args"), ema.state.get("_init_kwargs")
    if args != () or not isinstance(kwargs, dict):
        raise ValueError(
            "the pickle does not record its network's constructor arguments as keywords"
        )
    tensors = dict(_tensors(ema, "", set()))
    check_tensors(tensors, path.stat().st_size, "the network in the pickle")
    return _class_name(ema.class_name, kwargs), kwargs, tensors


def _class_name(published: str, kwargs: dict[str, Any]) -> str:
    """Ours: EDM2 calls its own class Precond, whether it makes images or latents."""
    if published != "Precond":
        return published
    latents = kwargs.get("img_channels") == LATENT_CHANNELS
    return "EDM2LatentPrecond" if latents else "EDM2Precond"


def _tensors(module: Recorded, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The state_dict of a recorded torch module, entry by entry."""
    if id(module) in seen:  # or a small file could unfold into an endless tree
        raise ValueError(f"the pickle uses one module twice: {prefix.rstrip('.')}")
    seen.add(id(module))
    transient = _part(module, "_non_persistent_buffers_set", set)
    for kind in ("_parameters", "_buffers"):
        for name, value in _part(module, kind, dict).items():
            if isinstance(value, Tensor) and name not in transient:
                yield f"{prefix}{name}", value
    for name, child in _part(module, "_modules", dict).items():
        if isinstance(child, Recorded):
            yield from _tensors(child, f"{prefix}{name}.", seen)


def _part(module: Recorded, name: str, kind: type) -> Any:
    value = module.state.get(name, kind())
    if not isinstance(value, kind):
        raise ValueError(
            f"the pickle is damaged: {name} of a {module.class_name} is a {type(value).__name__}"
        )
    return value
