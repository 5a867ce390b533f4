"""Writes snapshot pickles with the byte structure of EDM's, told in tests/golden/README.md, section 3.

EDM's own classes are not here: the pickler below emits the names of their globals without having the things.
"""

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from torch_utils import safe_pickle

MODULE_SRC = "raise AssertionError('the source inside of a checkpoint was executed')\n"
BUFFERS = ("resample_filter", "freqs", "u")
HOOKS = ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks")


@dataclass(frozen=True)
class Global:
    """A global to be named in the pickle; it need not exist."""

    module: str
    name: str


@dataclass(eq=False)
class Made:
    """An object made by REDUCE (or NEWOBJ) of a global on `args`, then BUILD with `state`."""

    function: Global
    args: tuple[Any, ...] = ()
    state: Any = None
    newobj: bool = False


class Pickler(pickle._Pickler):
    """Python's own pickler, which also writes Global and Made."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_named(self, value: Global) -> None:
        if self.proto >= 4:
            self.save(value.module)
            self.save(value.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_made(self, value: Made) -> None:
        self.save(value.function)
        self.save(value.args)
        self.write(pickle.NEWOBJ if value.newobj else pickle.REDUCE)
        self.memoize(value)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    dispatch[Global] = save_named
    dispatch[Made] = save_made


def dumps(value: Any, protocol: int = 4) -> bytes:
    """Pickle a tree of plain data, Global and Made."""
    file = io.BytesIO()
    Pickler(file, protocol=protocol).dump(value)
    return file.getvalue()


# One Global object a name, so that the pickle names each once and remembers it, as EDM's do.
PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
MODULE_DICT = Global("torch.nn.modules.container", "ModuleDict")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
STORAGE = Global("torch.storage", "_load_from_bytes")
DTYPE = Global("numpy", "dtype")
NDARRAY = Global("numpy", "ndarray")


def storage_bytes(flat: torch.Tensor, location: str = "cpu") -> bytes:
    """A legacy torch.save stream of one storage, tagged as saved from `location`."""
    file = io.BytesIO()
    torch.save(flat._typed_storage(), file, _use_new_zipfile_serialization=False)
    tag = b"X" + len(location).to_bytes(4, "little") + location.encode()
    return file.getvalue().replace(b"X\x03\x00\x00\x00cpu", tag, 1)


def tensor(value: torch.Tensor, location: str = "cpu") -> Made:
    """A bare tensor, as buffers are written."""
    storage = Made(STORAGE, (storage_bytes(value.flatten(), location),))
    return Made(TENSOR, (storage, 0, tuple(value.shape), value.stride(), False, OrderedDict()))


def parameter(value: torch.Tensor, location: str = "cpu") -> Made:
    """An nn.Parameter."""
    return Made(PARAMETER, (tensor(value.detach(), location), True, OrderedDict()))


def numpy_scalar(value: float, core: str = "numpy.core") -> Made:
    """A numpy float64; `core` is "numpy.core" before numpy 2 and "numpy._core" from then on."""
    dtype = Made(DTYPE, ("f8", False, True), state=(3, "<", None, None, None, -1, -1, 0))
    return Made(Global(f"{core}.multiarray", "scalar"), (dtype, np.float64(value).tobytes()))


def numpy_array(value: np.ndarray, core: str = "numpy.core") -> Made:
    """A numpy float32 array."""
    dtype = Made(DTYPE, ("f4", False, True), state=(3, "<", None, None, None, -1, -1, 0))
    state = (1, value.shape, dtype, False, value.tobytes())
    return Made(Global(f"{core}.multiarray", "_reconstruct"), (NDARRAY, (0,), b"b"), state=state)


def persistent(class_name: str, state: dict[str, Any]) -> Made:
    """An object of a class that EDM decorates as persistent."""
    meta = {
        "type": "class",
        "version": 6,
        "module_src": MODULE_SRC,
        "class_name": class_name,
        "state": state,
    }
    return Made(PERSISTENT, (meta,))


def module_state(tensors: dict[str, torch.Tensor], location: str, core: str) -> dict[str, Any]:
    """The `__dict__` of a torch module whose state_dict is `tensors`."""
    state: dict[str, Any] = {"training": False, "_parameters": {}, "_buffers": {}}
    state["_non_persistent_buffers_set"] = set()
    state |= {hook: OrderedDict() for hook in HOOKS}
    state["_modules"] = {}
    children: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            children.setdefault(first, {})[rest] = value
        elif first in BUFFERS:
            state["_buffers"][first] = tensor(value, location)
        else:
            state["_parameters"][first] = parameter(value, location)
    for name, inside in children.items():
        child = module_state(inside, location, core)
        if name in ("enc", "dec"):
            made = Made(MODULE_DICT, state=child, newobj=True)
        else:
            child["skip_scale"] = numpy_scalar(0.5**0.5, core)
            child["_buffers"].setdefault("resample_filter", None)
            made = persistent(
                "SomeLayer", child | {"_init_args": (), "_init_kwargs": {"out_channels": 3}}
            )
        state["_modules"][name] = made
    return state


def edm_snapshot(
    class_name: str,
    init_kwargs: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    protocol: int = 4,
    location: str = "cpu",
    core: str = "numpy.core",
) -> bytes:
    """A snapshot as EDM's training loop writes it, of a network with the given state_dict.

    Args:
        class_name: of the outermost object, such as "EDMPrecond".
        init_kwargs: its constructor arguments.
        tensors: its state_dict.
        protocol: of the pickle, 2 or 4.
        location: where the tensors claim to have been when they were saved.
        core: the module name of numpy's scalars, "numpy.core" or "numpy._core".
    """
    ema = module_state(tensors, location, core) | {
        "sigma_data": 0.5,
        "_init_args": (),
        "_init_kwargs": init_kwargs,
    }
    loss = {"P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5, "_init_args": (), "_init_kwargs": {}}
    snapshot = {
        "ema": persistent(class_name, ema),
        "loss_fn": persistent("EDMLoss", loss),
        "augment_pipe": None,
        "dataset_kwargs": {"path": "dataset.zip", "resolution": 16},
    }
    return dumps(snapshot, protocol)


def generator_snapshot(
    class_name: str,
    init_kwargs: dict[str, Any],
    ema: dict[str, torch.Tensor],
    score: dict[str, torch.Tensor],
) -> bytes:
    """A snapshot as Diff-Instruct's training writes it: the generator, and the score network Sg beside it.

    Args:
        class_name, init_kwargs: as `edm_snapshot`, of both.
        ema, score: the two state_dicts.
    """
    arguments = {"_init_args": (), "_init_kwargs": init_kwargs}
    networks = [
        persistent(class_name, module_state(t, "cuda:0", "numpy.core") | arguments)
        for t in (score, ema)
    ]
    data_set = {"path": "dataset.zip", "resolution": 16}
    return dumps(
        {"Sg": networks[0], "ema": networks[1], "augment_pipe": None, "dataset_kwargs": data_set}
    )


def small_snapshot(**settings: Any) -> bytes:
    """A snapshot of a few numbers, for tests that need no network."""
    tensors = {
        "model.enc.8x8_conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "model.enc.8x8_conv.bias": torch.tensor([1.0, -2.0]),
        "model.freqs": torch.tensor([0.5, 0.25]),
    }
    return edm_snapshot("EDMPrecond", {"img_resolution": 8}, tensors, **settings)


def loads(data: bytes) -> Any:
    """What the safe loader makes of `data`."""
    return safe_pickle.load(io.BytesIO(data))


def refusal(data: bytes) -> str:
    """The message with which the safe loader refuses `data`: always a ValueError of one line."""
    with pytest.raises(safe_pickle.UnsafePickleError) as caught:
        loads(data)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, pickle.UnpicklingError)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 400
    return message
