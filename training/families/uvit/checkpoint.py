"""U-ViT's published files: torch.save of the state_dict of a UViT; what builds the network follows from the shapes."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from torch_utils.weights import read_state_dict

_HEADS = {1152: 16}  # U-ViT-H; the others have 64 channels a head
IMAGE_CHANNELS = 3
_LARGE = 1024  # of latents, U-ViT-L was trained at continuous times, U-ViT-H at discrete ones
_CONTINUOUS = {"beta_schedule": "vp", "beta_start": 0.1, "beta_end": 20.0, "num_timesteps": 1000}


def is_uvit(head: bytes) -> bool:
    """Whether a file that begins so is a torch.save archive of a U-ViT's tensors.

    Args:
        head: its first bytes, 512 or more; the position embedding is looked for, in published files the first.
    """
    return head.startswith(b"PK\x03\x04") and b"data.pkl" in head and b"pos_embed" in head


def read_uvit(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Read a published U-ViT: what builds the network follows from the shapes.

    Three things are in no shape, and are those of the published files of that size: the number of heads, 16 for 1152
    channels, else one for each 64; the times, discrete for latents (but for those of U-ViT-L, 1024 channels), else
    continuous; and whether the last class is "no class", as in the networks of latents.

    Args:
        path: a torch.save archive of a state_dict, such as imagenet256_uvit_huge.pth or imagenet64_uvit_large.pth.
    Returns:
        "UViTPrecond" (of latents) or "UViTImagePrecond", constructor keywords and state_dict.
    Raises:
        ValueError: if the file is damaged, asks to execute something, or holds no such network.
    """
    tensors = read_state_dict(path)
    kwargs = uvit_arguments(tensors)
    name = "UViTImagePrecond" if kwargs["img_channels"] == IMAGE_CHANNELS else "UViTPrecond"
    return name, kwargs, {f"model.{name}": value for name, value in tensors.items()}


def assumed(kwargs: dict[str, Any]) -> dict[str, str]:
    """The arguments that `read_uvit` took from the published files of that size, as no shape tells them; in words."""
    times = "continuous" if kwargs.get("beta_schedule") == "vp" else "discrete"
    return {"num_heads": f"{kwargs['num_heads']} heads", "beta_schedule": f"{times} times"}


def uvit_arguments(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The constructor keywords of UViTPrecond, from the shapes of a state_dict."""

    def shape(name: str, ndim: int) -> list[int]:
        if name not in tensors or tensors[name].ndim != ndim:
            raise ValueError(
                f"the file is no state_dict of a U-ViT: no tensor {name} with {ndim} dimensions"
            )
        return list(tensors[name].shape)

    dim, channels, patch_size, _ = shape("patch_embed.proj.weight", 4)
    images = channels == IMAGE_CHANNELS
    label_dim = (
        shape("label_emb.weight", 2)[0] - (not images) if "label_emb.weight" in tensors else 0
    )
    patches = shape("pos_embed", 3)[1] - 1 - (label_dim > 0)
    if min(dim, channels, patch_size) < 1:
        raise ValueError(
            f"the U-ViT has {channels} channels in patches of {patch_size}, {dim} numbers each"
        )
    side = math.isqrt(max(patches, 0))
    hidden = shape("mid_block.mlp.fc1.weight", 2)[0]
    if side**2 != patches:
        raise ValueError(f"the U-ViT has {patches} patches, which make no square image")
    if dim not in _HEADS and dim % 64:
        raise ValueError(
            f"embed_dim is {dim}: the number of heads is known for 1152 and for multiples of 64 only"
        )
    return {
        "img_resolution": side * patch_size,
        "img_channels": channels,
        "label_dim": label_dim,
        "patch_size": patch_size,
        "embed_dim": dim,
        "depth": 2 * sum(name.endswith(".skip_linear.weight") for name in tensors),
        "num_heads": _HEADS.get(dim, dim // 64),
        "mlp_ratio": hidden // dim if hidden % dim == 0 else hidden / dim,
        "qkv_bias": "mid_block.attn.qkv.bias" in tensors,
        "mlp_time_embed": "time_embed.0.weight" in tensors,
        "conv": "final_layer.weight" in tensors,
    } | _times(images, dim)


def _times(images: bool, dim: int) -> dict[str, Any]:
    """The keywords of the noise levels, as far as they are not the defaults."""
    if images:
        return dict(_CONTINUOUS)
    return {**_CONTINUOUS, "rounding": "fractional"} if dim == _LARGE else {}
