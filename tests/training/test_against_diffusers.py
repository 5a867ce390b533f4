"""LDM's tensors in diffusers' modules, through diffusers' own conversion of the published names: an oracle for ours."""

from typing import Any

import pytest
import torch
from conftest import fill, relative_error
from standins_ldm import KL, TINY, VQ, ldm_tensors, vq_decoder

import skip
from training.autoencoder import KLDecoder, LatentDecoder
from training.networks_ldm import LDMUNet

diffusers = pytest.importorskip("diffusers", reason="needs the package diffusers: pip install diffusers")
conversion = pytest.importorskip("diffusers.loaders.single_file_utils")

UNET = {"sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": (32, 64), "layers_per_block": 1}
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "layers_per_block": 1,
}  # fmt: skip


def published(**settings: Any) -> dict[str, Any]:
    """A checkpoint in the published format, without averaged weights: diffusers would look for them all."""
    return {name: v for name, v in ldm_tensors(**settings).items() if not name.startswith("model_ema.")}


@torch.inference_mode()
def test_the_unet_with_classes_plain_and_skip_tuned() -> None:
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    theirs = diffusers.UNet2DConditionModel(
        down_block_types=down, up_block_types=up, cross_attention_dim=24, attention_head_dim=1, **UNET
    ).eval()
    theirs.load_state_dict(conversion.convert_ldm_unet_checkpoint(published(), dict(theirs.config)))
    ours = fill(LDMUNet(**TINY)).eval()
    x, times, context = torch.randn(2, 3, 16, 16), torch.tensor([500.0, 20.0]), torch.randn(2, 1, 24)
    assert relative_error(ours(x, times, context), theirs(x, times, context).sample) < 1e-5
    scale = skip.SkipScale(layers=(0.6, 0.8, 0.9, 1.1))
    with skip.apply(theirs, scale):
        tuned = theirs(x, times, context).sample
    assert relative_error(ours(x, times, context, scale(ours.num_skips, 1.0)), tuned) < 1e-5


@pytest.mark.parametrize("kind", ["VQ", "KL"])
@torch.inference_mode()
def test_the_decoders(kind: str) -> None:
    ours: LatentDecoder = vq_decoder() if kind == "VQ" else fill(KLDecoder(**KL)).eval()  # type: ignore[assignment]
    if kind == "VQ":
        theirs = diffusers.VQModel(
            block_out_channels=(32, 64), latent_channels=3, num_vq_embeddings=VQ["n_embed"], **AUTOENCODER
        )
    else:
        theirs = diffusers.AutoencoderKL(block_out_channels=(32, 32), latent_channels=4, **AUTOENCODER)
    state = ours.state_dict()
    converted = conversion.convert_ldm_vae_checkpoint(
        {f"first_stage_model.{name}": value for name, value in state.items()}, dict(theirs.config)
    )
    converted |= {name: value for name, value in state.items() if name.startswith("quantize.")}
    missing, unexpected = theirs.load_state_dict(converted, strict=False)
    assert not unexpected and all(name.startswith(("encoder.", "quant_conv.")) for name in missing)
    z = torch.randn(2, ours.embed_dim, 8, 8)
    assert relative_error(ours(z), theirs.eval().decode(z / ours.scale_factor).sample) < 1e-5
