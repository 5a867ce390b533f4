"""Tiny checkpoints in the format of LDM's published ones: what Lightning saves of a LatentDiffusion."""

import sys
import types
from pathlib import Path
from typing import Any

import torch
from conftest import fill
from torch import Tensor, nn

from training.families.latent.autoencoder import KLDecoder, LatentDecoder, VQDecoder
from training.families.latent.discrete import betas
from training.families.ldm.unet import ClassEmbedder, LDMUNet

TINY: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1,
    "attention_resolutions": [2], "num_heads": 1, "context_dim": 24,
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "num_heads": None,
    "num_head_channels": 32,
    "context_dim": None,
    "classes": None,
}
VQ: dict[str, Any] = {"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "n_embed": 64}
NOT_NEEDED = [
    "model_ema.decay", "model_ema.diffusion_modelout2weight",
    "first_stage_model.encoder.conv_in.weight", "first_stage_model.quant_conv.weight",
    "first_stage_model.loss.discriminator.main.0.weight", "first_stage_model.model_ema.decay",
]  # fmt: skip
KL: dict[str, Any] = {"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}


def vq_decoder(**changes: Any) -> LatentDecoder:
    """A tiny decoder with a codebook that reaches as far as latents do."""
    decoder = fill(VQDecoder(**(VQ | changes)))
    assert isinstance(decoder, VQDecoder)
    return decoder.eval()


def ldm_tensors(
    classes: int | None = 10, decoder: LatentDecoder | None = None, **changes: Any
) -> dict[str, Tensor]:
    """The state_dict of a tiny LatentDiffusion, with what a published file has besides the network.

    Args:
        classes: with the last, "no class"; None for an unconditional network.
        decoder: of its first stage.
        changes: to TINY.
    """
    unet = fill(LDMUNet(**(TINY | changes)))
    parts: dict[str, nn.Module] = {
        "model.diffusion_model": unet,
        "first_stage_model": decoder or vq_decoder(),
    }
    if classes is not None:
        parts["cond_stage_model"] = fill(ClassEmbedder(classes, (TINY | changes)["context_dim"]))
    schedule = betas("scaled_linear", 0.0015, 0.0195, 1000)
    tensors = {"betas": schedule.float(), "alphas_cumprod": (1 - schedule).cumprod(0).float()}
    for prefix, module in parts.items():
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    garbage = torch.full([3], torch.nan)
    return tensors | dict.fromkeys(NOT_NEEDED, garbage)


def lightning_class() -> type:
    """The class of Lightning's checkpoint callback, as far as a pickle can name it."""
    return type(
        "ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"}
    )


def write_lightning(path: Path, tensors: dict[str, Tensor], **entries: Any) -> None:
    """Save as Lightning does: the class of a callback is a key, and a state_dict has attributes."""
    state = nn.Module().state_dict()  # an OrderedDict with _metadata
    state.update(tensors)
    callback = lightning_class()
    module = types.ModuleType(callback.__module__)
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    contents = {
        "epoch": 177, "global_step": 178000, "pytorch-lightning_version": "1.4.2", "state_dict": state,
        "callbacks": {callback: {"monitor": "val/loss", "best_model_score": torch.tensor(0.1), "object": callback()}},
        "optimizer_states": [{"state": {0: {"step": 5, "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [],
    } | entries  # fmt: skip
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", callback.__module__]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(
        {name: module if name == callback.__module__ else types.ModuleType(name) for name in names}
    )
    try:
        torch.save(contents, path)
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def write_ldm(path: Path, **settings: Any) -> dict[str, Tensor]:
    """Save a tiny LDM; settings as `ldm_tensors`."""
    tensors = ldm_tensors(**settings)
    write_lightning(path, tensors)
    return tensors


def write_kl(path: Path, **changes: Any) -> LatentDecoder:
    """Save a tiny KL autoencoder as U-ViT's authors do: torch.save of its state_dict; its encoder is left out."""
    decoder = fill(KLDecoder(**(KL | changes)))
    assert isinstance(decoder, KLDecoder)
    torch.save({"encoder.conv_in.weight": torch.zeros(3), **decoder.state_dict()}, path)
    return decoder.eval()
