"""LDM's published checkpoints: what Lightning saves of the class LatentDiffusion.

Reference: Rombach et al., 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
https://arxiv.org/abs/2112.10752
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_utils.lightning import read_lightning
from training.families.latent.decoder_files import decoder_arguments, decoder_parts
from training.families.latent.discrete import betas

_UNET, _EMBEDDER, _FIRST_STAGE = "model.diffusion_model.", "cond_stage_model.", "first_stage_model."
# Not needed: the noise schedule beyond its betas, and of the first stage what encodes or judges.
_LEFT_OUT = (
    "model_ema.", "logvar", "scale_factor", "betas", "alphas_cumprod", "sqrt_alphas_", "sqrt_one_minus_",
    "log_one_minus_", "sqrt_recip", "posterior_", "lvlb_weights",
    *(_FIRST_STAGE + part for part in ("encoder.", "quant_conv.", "loss.", "model_ema.")),
)  # fmt: skip
# Of the published networks of images of 256 pixels (LDM-4); the shapes do not tell it.
_LOWEST_RESOLUTION = 8
_HEAD_CHANNELS = 32  # of the published unconditional networks; those with classes have one head


def read_ldm(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Read a published latent diffusion model with its decoder: what builds it follows from the shapes.

    As in the published sampling script, averaged weights (`model_ema`) take the place of those of the U-Net where the
    file has them: unconditional ones do, cin256-v2 does not. Two things are in no shape: the resolution is such that
    the lowest level is 8x8, and attention has one head in a network with classes, else heads of 32 channels.

    Args:
        path: such as cin256-v2's model.ckpt, see `torch_utils.lightning.read_lightning`.
    Returns:
        "LDMPrecond", constructor keywords and state_dict.
    Raises:
        ValueError: if the file is damaged or holds no such network.
    """
    tensors = read_lightning(path)
    # Lightning's names of averaged weights are without their dots.
    averages = {
        n: "model_ema." + n.removeprefix("model.").replace(".", "")
        for n in tensors
        if n.startswith(_UNET)
    }
    if averages and all(average in tensors for average in averages.values()):
        tensors = tensors | {n: tensors[average] for n, average in averages.items()}
    kwargs = ldm_arguments(tensors)
    kept = {n: v for n, v in tensors.items() if not n.startswith(_LEFT_OUT)}
    return (
        "LDMPrecond",
        kwargs,
        {f"model.{n}" if n.startswith(_EMBEDDER) else n: v for n, v in kept.items()},
    )


def assumed(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The arguments that `read_ldm` took from the published files, as no shape tells them; in words for people."""
    side = kwargs["img_resolution"]
    attention = {"num_heads": "attention heads: {}", "num_head_channels": "{} channels a head"}
    heads = {
        name: words.format(kwargs[name]) for name, words in attention.items() if name in kwargs
    }
    return {"img_resolution": f"latents of {side} x {side}"} | heads


def ldm_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor keywords of LDMPrecond, from the tensors of a checkpoint."""
    channels, latent_channels = _shape(tensors, f"{_UNET}input_blocks.0.0.weight", 4)[:2]
    width = _shape(tensors, f"{_UNET}middle_block.0.in_layers.2.weight", 4)[0]
    if _shape(tensors, f"{_UNET}middle_block.0.emb_layers.1.weight", 2)[0] != width:
        raise ValueError(
            "an LDM with scale-shift norms (use_scale_shift_norm, as LSUN-churches') is not supported; those of "
            "ImageNet (cin256-v2), CelebA-HQ, FFHQ and LSUN-bedrooms have none"
        )

    levels = _levels(tensors, channels)
    kwargs: dict[str, Any] = {
        "img_resolution": _LOWEST_RESOLUTION << (len(levels["channel_mult"]) - 1), "img_channels": latent_channels,
        "label_dim": 0, "model_channels": channels,
    } | levels | _schedule(tensors) | _attention(tensors)  # fmt: skip

    decoder = decoder_parts(tensors, _FIRST_STAGE)
    scale = float(tensors["scale_factor"]) if "scale_factor" in tensors else 1.0
    return kwargs | {"first_stage": decoder_arguments(decoder, scale) if decoder else None}


def _shape(tensors: Mapping[str, Tensor], name: str, ndim: int) -> list[int]:
    if name not in tensors or tensors[name].ndim != ndim:
        raise ValueError(
            f"the file is no checkpoint of an LDM: no tensor {name} with {ndim} dimensions"
        )
    return list(tensors[name].shape)


def _unet_names(tensors: Mapping[str, Tensor], prefix: str) -> set[str]:
    """The names of the U-Net's tensors that begin with the prefix, without it."""
    prefix = _UNET + prefix
    return {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}


def _levels(tensors: Mapping[str, Tensor], channels: int) -> dict[str, Any]:
    """What the input blocks tell: widths, residual blocks a level, and where there is attention.

    Block 0 is the first convolution; then come a level's residual blocks and, but for the lowest level, what halves it.
    """
    names = _unet_names(tensors, "input_blocks.")
    count = len({name.split(".")[0] for name in names})
    found = [name.removesuffix(".0.op.weight") for name in names if name.endswith(".0.op.weight")]
    halving = sorted(int(number) for number in found if number.isdecimal())

    mult, attention, blocks, first = [], [], 0, 1
    for level, last in enumerate([*halving, count]):
        width = _shape(tensors, f"{_UNET}input_blocks.{first}.0.in_layers.2.weight", 4)[0]
        if channels == 0 or width % channels:
            raise ValueError(f"the LDM has levels of {width} channels, no multiple of {channels}")
        mult.append(width // channels)
        if any(name.startswith(f"{first}.1.") for name in names):
            attention.append(2**level)
        blocks, first = last - first, last + 1
    return {"channel_mult": mult, "num_res_blocks": blocks, "attention_resolutions": attention}


def _attention(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Heads, and of a network with classes what they enter by."""
    if f"{_EMBEDDER}embedding.weight" not in tensors:
        return {"num_head_channels": _HEAD_CHANNELS}

    classes, dim = _shape(tensors, f"{_EMBEDDER}embedding.weight", 2)
    if classes < 2:
        raise ValueError(f"the LDM has {classes} classes; at least one and 'no class' are needed")
    depth = len(
        {name.split(".")[0] for name in _unet_names(tensors, "middle_block.1.transformer_blocks.")}
    )
    return {
        "label_dim": classes - 1,
        "context_dim": dim,
        "num_heads": 1,
        "transformer_depth": depth,
    }


def _schedule(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What `NoiseTable` takes, of the betas in the file; a file without them has LDM-4's."""
    if "betas" not in tensors:
        return {}
    table = tensors["betas"].to(torch.float64).flatten()
    if len(table) < 2:
        raise ValueError(f"the noise schedule has {len(table)} times; at least 2 are needed")
    # They were rounded to float32.
    start, end = (float(f"{float(beta):.6g}") for beta in (table[0], table[-1]))
    if not torch.allclose(betas("scaled_linear", start, end, len(table)), table, rtol=1e-5, atol=0):
        raise ValueError(
            f"the betas of the noise schedule, from {start} to {end}, are not evenly spaced in their root"
        )
    return {"beta_start": start, "beta_end": end, "num_timesteps": len(table)}
