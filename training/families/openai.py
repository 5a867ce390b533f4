"""OpenAI's consistency models, and the EDM that they were distilled from, as weights of our DhariwalUNet.

The published files are bare state dicts (torch.save) of the ADM U-Net under OpenAI's names. The network is the one of
EDM's ImageNet-64 but for the order of the qkv channels, the factor of the noise label, and 32 groups in every norm.

Reference: Song et al., 2023, "Consistency Models", https://arxiv.org/abs/2303.01469
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_utils.weights import read_state_dict
from training.blocks.tower import Tower, levels_of
from training.blocks.unet_block import UNetBlock
from training.families.consistency import EDMConsistencyPrecond
from training.precond import Scalings

GROUPS = 32
# What D was trained to be, which no file tells but its name: the level where D(x) = x, and the highest level.
KINDS = {"cd": (0.002, 80.0), "ct": (0.002, 80.0), "edm": (0.0, math.inf)}
_LOWEST_RESOLUTION = 8  # of the published networks; the shapes do not tell it
_LANDMARKS = {
    f"{layer}.weight"
    for layer in (
        "time_embed.0",
        "input_blocks.0.0",
        "middle_block.0.emb_layers.1",
        "middle_block.1.qkv",
        "out.2",
    )
}
_BLOCK = {
    "in_layers.0": "norm0", "in_layers.2": "conv0", "emb_layers.1": "affine",
    "out_layers.0": "norm1", "out_layers.3": "conv1", "skip_connection": "skip",
}  # fmt: skip
_ATTENTION = {"norm": "norm2", "qkv": "qkv", "proj_out": "proj"}
_ENDS = {
    "time_embed.0": "map_layer0", "time_embed.2": "map_layer1", "label_emb": "map_label",
    "out.0": "out_norm", "out.2": "out_conv",
}  # fmt: skip


class ConsistencyPrecond(EDMConsistencyPrecond):
    """Preconditioning of consistency models: EDM's, moved so that D(x; sigma_min) = x.

    c_skip = s^2 / ((sigma - e)^2 + s^2),  c_out = (sigma - e) s / sqrt(sigma^2 + s^2),
    c_in = 1 / sqrt(sigma^2 + s^2),  c_noise = 250 ln(sigma + 1e-44), where s = sigma_data and e = sigma_min.

    With sigma_min = 0 it is EDM's but for c_noise, and so that of OpenAI's diffusion model edm_imagenet64_ema.

    Reference: Song et al., 2023, Appendix C, https://arxiv.org/abs/2303.01469

    Args:
        sigma_min: e, the noise level of the images that D gives; the lowest that D may be asked for.
        sigma_max: the highest.
        sigma_data: standard deviation of the data.
        channels_per_head: of the self-attention.
        model_type: "DhariwalUNet", the only one; its channels are multiples of 32.
        Others: see `training.precond.Precond`.
    Raises:
        ValueError: if the channels cannot be split into groups and heads.
    """

    has_no_class = False  # OpenAI's U-Net asserts that a class-conditional network gets its classes

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        channels_per_head: int = 64,
        model_type: str = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        if model_type != "DhariwalUNet":
            raise ValueError(
                f"unknown model_type {model_type!r}; a ConsistencyPrecond has a DhariwalUNet"
            )
        super().__init__(
            img_resolution, img_channels, label_dim, use_fp16, sigma_min, sigma_max, sigma_data, model_type,
            channels_per_head=channels_per_head, norm_groups=GROUPS, **model_kwargs,
        )  # fmt: skip
        for block in self.model.modules():
            if isinstance(block, UNetBlock) and block.num_heads:
                _check_divisible(
                    block.out_channels, channels_per_head, "the channels of an attention head"
                )

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        return super().scalings(sigma)._replace(c_noise=250 * (sigma + 1e-44).log())


def is_openai(head: bytes) -> bool:
    """Whether a file that begins so is a torch.save archive of an OpenAI U-Net's tensors.

    Args:
        head: its first bytes, 512 or more; a tensor that all of them have is looked for, in published files the first.
    """
    return (
        head.startswith(b"PK\x03\x04") and b"/data.pkl" in head and b"time_embed.0.weight" in head
    )


def read_openai(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Read a published consistency model, or the diffusion model that it was distilled from.

    Args:
        path: a torch.save file of a bare state dict; only tensors are accepted. Its name begins with its kind: "cd"
            (consistency distillation), "ct" (consistency training) or "edm", as in cd_imagenet64_lpips.pt.
    Returns:
        "ConsistencyPrecond", its keywords and its state_dict.
    Raises:
        ValueError: if the file is damaged or holds something else, or its name does not tell the kind.
    """
    kwargs, tensors = convert(read_state_dict(path))
    sigma_min, sigma_max = KINDS[_kind(path.name)]
    return "ConsistencyPrecond", kwargs | {"sigma_min": sigma_min, "sigma_max": sigma_max}, tensors


def assumed(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The arguments that `read_openai` took from the published files, as no shape tells them; in words for people."""
    heads = f"{kwargs['channels_per_head']} channels a head"
    return {"img_resolution": f"{kwargs['img_resolution']} pixels", "channels_per_head": heads}


def convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """From OpenAI's names and orders of channels to ours.

    Neither the resolution nor the number of heads shows in the shapes. Here the lowest level is 8x8 and a head has 64
    channels, as in the published networks of ImageNet-64 and of LSUN at 256 pixels; change the keywords for another.

    Args:
        state: the tensors of an OpenAI U-Net with resblock_updown, with use_scale_shift_norm (ImageNet-64) or without
            (LSUN).
    Returns:
        Keywords of `ConsistencyPrecond` without the noise levels, and its state_dict in float32.
    Raises:
        ValueError: if the tensors are not those of such a network.
    """
    missing = sorted(_LANDMARKS.difference(state))
    if missing:
        raise ValueError(
            f"the tensors are not those of an OpenAI U-Net: there is no {', '.join(missing)}"
        )

    try:
        return _converted(state)
    except (ArithmeticError, IndexError, RuntimeError) as error:
        # Sizes of 0, too few dimensions, qkv not in three.
        raise ValueError(
            f"the shapes are not those of an OpenAI U-Net ({' '.join(str(error).split())[:200]})"
        ) from error


def _converted(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    kwargs = _infer(state)
    side = kwargs["img_resolution"]
    layers, tensors = _ENDS | {"input_blocks.0.0": f"enc.{side}x{side}_conv"}, {}

    for theirs, attention, ours in _blocks(kwargs):
        layers |= {f"{theirs}.{old}": f"{ours}.{new}" for old, new in _BLOCK.items()}
        layers |= {
            f"{attention}.{old}": f"{ours}.{new}" for old, new in _ATTENTION.items() if attention
        }
        if ours.endswith(("_down", "_up")):
            for layer in ("conv0", "skip"):
                tensors[f"model.{ours}.{layer}.resample_filter"] = torch.full([1, 1, 2, 2], 0.25)

    unknown = [name for name in state if name.rpartition(".")[0] not in layers]
    if unknown:
        raise ValueError(
            f"{len(unknown)} tensors have no place in a DhariwalUNet: {', '.join(unknown[:3])}"
        )

    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        tensors[f"model.{layers[layer]}.{kind}"] = _reordered(layer, value.to(torch.float32))
    return kwargs, tensors


def _reordered(layer: str, value: Tensor) -> Tensor:
    if layer == "label_emb":
        return value.T.contiguous()  # (classes, C) -> (C, classes)
    if layer.endswith(".qkv"):
        # (q|k|v, head, d) -> (head, d, q|k|v).
        return value.unflatten(0, (3, -1)).transpose(0, 1).reshape(value.shape)
    return value


def _infer(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What names and shapes tell of the network."""
    _check_supported(state)
    emb_channels, channels = state["time_embed.0.weight"].shape
    width = state["middle_block.1.qkv.weight"].shape[1]
    # 2 for scale and shift, 1 for shift alone.
    modulated = len(state["middle_block.0.emb_layers.1.weight"]) // width

    levels, per_level = _decoder_levels(state)
    mult, attended = [], []
    for level in range(levels):
        width, attends = _level(state, 1 + per_level * level, per_level * levels)
        _check_divisible(width, channels, "the channels of the first level")
        mult.append(width // channels)
        if attends:
            attended.append(_LOWEST_RESOLUTION << (levels - 1 - level))

    kwargs = {
        "img_resolution": _LOWEST_RESOLUTION << (levels - 1), "img_channels": state["input_blocks.0.0.weight"].shape[1],
        "label_dim": state["label_emb.weight"].shape[0] if "label_emb.weight" in state else 0,
        "model_type": "DhariwalUNet", "model_channels": channels, "channel_mult": mult,
        "channel_mult_emb": emb_channels // channels, "num_blocks": per_level - 1, "attn_resolutions": attended,
        "dropout": 0.0, "channels_per_head": 64,
    }  # fmt: skip
    if modulated == 1:
        kwargs["adaptive_scale"] = False
    return kwargs


def _check_supported(state: Mapping[str, Tensor]) -> None:
    """Refuse guided-diffusion's networks, whose tensors have the same names."""
    out_channels = state["out.2.weight"].shape[0]
    img_channels = state["input_blocks.0.0.weight"].shape[1]
    if out_channels != img_channels:
        raise ValueError(
            f"the network has {out_channels} output channels for images of {img_channels}: one that learns "
            "its variance (guided-diffusion) is not supported"
        )
    if any(name.endswith(".qkv.weight") and value.ndim != 4 for name, value in state.items()):
        raise ValueError(
            "the qkv weights are not 1x1 convolutions, as those of consistency models are"
        )


def _decoder_levels(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many levels the network has, and how many output blocks in each of them."""
    count = len({name.split(".")[1] for name in state if name.startswith("output_blocks.")})

    # The last output block of a level, but for the highest, goes up: after its attention, if it has one.
    second = "output_blocks.{}.1.in_layers.0.weight", "output_blocks.{}.2.in_layers.0.weight"
    ups = [i for i in range(count) if second[0].format(i) in state or second[1].format(i) in state]
    levels, per_level = len(ups) + 1, ups[0] + 1 if ups else count
    if (
        ups != [per_level * (level + 1) - 1 for level in range(levels - 1)]
        or count != per_level * levels
    ):
        raise ValueError(
            f"the network's {count} output blocks are not the same number at each of {levels} levels"
        )
    return levels, per_level


def _level(state: Mapping[str, Tensor], index: int, count: int) -> tuple[int, bool]:
    """The channels of the level that begins with this input block, and whether it has attention.

    Args:
        state: see `convert`.
        index: of the input block.
        count: of the output blocks.
    Raises:
        ValueError: if there is no such block.
    """
    block = f"input_blocks.{index}"
    if f"{block}.0.in_layers.2.weight" not in state:
        raise ValueError(
            f"there is no residual block {block}.0, though {count} output blocks need one"
        )
    return state[f"{block}.0.in_layers.2.weight"].shape[0], f"{block}.1.qkv.weight" in state


def _blocks(kwargs: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str]]:
    """Of every residual block: OpenAI's name, that of the attention after it (None without), and ours."""
    side, levels = kwargs["img_resolution"], len(kwargs["channel_mult"])
    attended = levels_of(kwargs["attn_resolutions"], side, levels)
    tower = Tower(0, 0, [0] * levels, kwargs["num_blocks"], attended)  # the names need no channels
    for index, place in enumerate(tower.encoder()):
        block = f"input_blocks.{index}"
        if place.name != "conv":
            yield f"{block}.0", f"{block}.1" if place.attention else None, f"enc.{place.at(side)}"

    index, layers = -1, 0
    for place in tower.decoder():
        ours = f"dec.{place.at(side)}"
        if place.name == "in0":
            yield "middle_block.0", "middle_block.1", ours
        elif place.name == "in1":
            yield "middle_block.2", None, ours
        elif place.name == "up":  # in OpenAI's network the end of the block before it
            yield f"output_blocks.{index}.{layers}", None, ours
        else:
            index, layers = index + 1, 1 + place.attention
            block = f"output_blocks.{index}"
            yield f"{block}.0", f"{block}.1" if place.attention else None, ours


def _kind(name: str) -> str:
    """The key of KINDS that a file name says."""
    # Not in the digest of a URL.
    found = {word for word in re.split(r"[^a-z0-9]+", name.lower()) if word in KINDS}
    if len({KINDS[word] for word in found}) != 1:
        raise ValueError(
            "the file name does not tell whether this is a consistency model or a diffusion model: "
            "begin it with cd_, ct_ or edm_, as the published names do"
        )
    return found.pop()


def _check_divisible(channels: int, divisor: int, why: str) -> None:
    if channels % divisor:
        raise ValueError(f"{channels} channels are no multiple of {divisor}: {why}")
