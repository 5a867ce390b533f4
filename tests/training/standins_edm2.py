"""Stand-ins for EDM2's snapshot pickles: the published byte structure, tiny content.

The structure is told in tests/golden/README.md, section 3.
"""

import io
import pickle
import zlib
from collections import OrderedDict
from typing import Any

import edm_pickles
import numpy as np
import torch
from conftest import fill, golden_json
from edm_pickles import Global, Made

from training.families.edm2.unet import EDM2Precond

FACTS = golden_json("edm2")
EASY_DICT = Global("dnnlib.util", "EasyDict")


class EasyDict(dict[str, Any]):
    """A dict that is pickled as NVIDIA's subclass of dict: NEWOBJ, then SETITEMS."""


class Pickler(edm_pickles.Pickler):
    """Also writes EasyDict."""

    dispatch = dict(edm_pickles.Pickler.dispatch)  # noqa: RUF012

    def save_easy_dict(self, value: EasyDict) -> None:
        self.save(EASY_DICT)
        self.save(())
        self.write(pickle.NEWOBJ)
        self.memoize(value)
        self._batch_setitems(value.items())

    dispatch[EasyDict] = save_easy_dict


def fill_edm2(net: EDM2Precond) -> EDM2Precond:
    """The deterministic weights of the reference vectors, whose frequencies and phases follow a rule of EDM2's own."""
    fill(net)
    for name, value in net.named_buffers():
        rng = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
        if name.endswith("phases"):
            drawn = 2 * np.pi * rng.uniform(size=value.shape)
        else:
            drawn = (
                2 * np.pi * rng.standard_normal(value.shape).astype(np.float32).astype(np.float64)
            )
        value.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return net


def published(**changes: Any) -> EDM2Precond:
    """The network of the reference vectors, with its weights."""
    return fill_edm2(EDM2Precond(**FACTS["kwargs"] | changes)).eval()


def _module(class_name: str, tensors: dict[str, torch.Tensor], location: str) -> Made:
    """A persistent module (or a ModuleDict) of the given state_dict; the class names are told by the places."""
    state: dict[str, Any] = {
        "training": False,
        "_parameters": {},
        "_buffers": {},
        "_non_persistent_buffers_set": set(),
    }
    state |= {hook: OrderedDict() for hook in edm_pickles.HOOKS} | {"_modules": {}}
    children: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            children.setdefault(first, {})[rest] = value
        elif first in ("freqs", "phases"):
            state["_buffers"][first] = edm_pickles.tensor(value, location)
        else:
            state["_parameters"][first] = edm_pickles.parameter(value, location)
    for name, inside in children.items():
        known = {"unet": "UNet", "enc": "ModuleDict", "dec": "ModuleDict"}
        kind = "MPFourier" if "fourier" in name else "MPConv" if "weight" in inside else "Block"
        state["_modules"][name] = _module(known.get(name, kind), inside, location)
    if class_name == "ModuleDict":
        return Made(edm_pickles.MODULE_DICT, state=state, newobj=True)
    return edm_pickles.persistent(class_name, {"_init_args": (), "_init_kwargs": {}} | state)


def edm2_snapshot(
    net: EDM2Precond,
    dtype: torch.dtype = torch.float16,
    protocol: int = 4,
    location: str = "cpu",
    latent_encoder: bool = False,
) -> bytes:
    """A snapshot as EDM2 publishes it.

    Args:
        net: the network to store.
        dtype: of the stored numbers; float16 in the published files.
        protocol: of the pickle, 2 or 4.
        location: where the tensors claim to have been when they were saved.
        latent_encoder: with the encoder of the latent models, which holds numpy arrays, instead of the images' one.
    """
    tensors = {name: value.to(dtype) for name, value in net.state_dict().items()}
    ema = _module("Precond", tensors, location)
    ema.args[0]["state"]["_init_kwargs"] = EasyDict(net.init_kwargs)
    state: dict[str, Any] = {"_init_args": (), "_init_kwargs": EasyDict()}
    if latent_encoder:
        arrays = {
            name: edm_pickles.numpy_array(np.ones(4, np.float32), "numpy._core")
            for name in ("scale", "bias")
        }
        encoder = edm_pickles.persistent("StabilityVAEEncoder", state | arrays | {"_vae": None})
    else:
        encoder = edm_pickles.persistent("StandardRGBEncoder", state)
    loss = edm_pickles.persistent(
        "EDM2Loss", state | {"P_mean": -0.4, "P_std": 1.0, "sigma_data": 0.5}
    )
    data = EasyDict(path="dataset.zip", use_labels=True)
    file = io.BytesIO()
    Pickler(file, protocol=protocol).dump(
        EasyDict(encoder=encoder, dataset_kwargs=data, loss_fn=loss, ema=ema)
    )
    return file.getvalue()
