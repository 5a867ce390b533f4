"""The names that diffusers gives the tensors of a KL autoencoder's decoder, and those that LDM gives them."""

import re
from collections.abc import Mapping

from torch import Tensor

# diffusers' module -> LDM's, in the decoder; a level's number counts from its other end.
_PLACES = {
    r"mid_block\.resnets\.(\d)": lambda found, levels: f"mid.block_{int(found[1]) + 1}",
    r"mid_block\.attentions\.0": lambda found, levels: "mid.attn_1",
    r"up_blocks\.(\d+)\.resnets\.(\d+)": lambda found, levels: (
        f"up.{levels - 1 - int(found[1])}.block.{found[2]}"
    ),
    r"up_blocks\.(\d+)\.upsamplers\.0": lambda found, levels: (
        f"up.{levels - 1 - int(found[1])}.upsample"
    ),
}
_LAYERS = {
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "group_norm": "norm",
    # Since diffusers 0.15, and before.
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}


def is_diffusers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether an autoencoder's tensors have diffusers' names."""
    return any(name.startswith("decoder.up_blocks.") for name in tensors)


def ldm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of diffusers' AutoencoderKL that decode, under LDM's names; the others are left out.

    Matrices of the attention over pixels become convolutions of 1x1.

    Args:
        tensors: of the whole autoencoder, or of its decoder.
    """
    numbers = [re.match(r"decoder\.up_blocks\.(\d+)\.", name) for name in tensors]
    levels = 1 + max((int(found[1]) for found in numbers if found), default=0)
    renamed = {}
    for name, value in tensors.items():
        if name.startswith("post_quant_conv."):
            renamed[name] = value
        if name.startswith("decoder."):
            renamed[f"decoder.{_renamed(name.removeprefix('decoder.'), levels)}"] = (
                value[:, :, None, None] if value.ndim == 2 else value
            )
    return renamed


def _renamed(name: str, levels: int) -> str:
    for pattern, place in _PLACES.items():
        found = re.match(pattern, name)
        if found:
            name = place(found, levels) + name[found.end() :]
            break
    module, _, kind = name.rpartition(".")
    for theirs, ours in _LAYERS.items():
        if module == theirs or module.endswith(f".{theirs}"):
            return f"{module.removesuffix(theirs)}{ours}.{kind}"
    return name
