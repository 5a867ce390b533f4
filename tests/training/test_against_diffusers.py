"""LDM's tensors in diffusers' modules, through diffusers' own conversion of the published names: an oracle for ours."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import fill, relative_error
from standins_ldm import KL, TINY, VQ, ldm_tensors, vq_decoder

import skip
from training.families.latent.autoencoder import KLDecoder, LatentDecoder, VQDecoder
from training.families.latent.decoder_files import read_decoder
from training.families.ldm.unet import LDMUNet

diffusers: Any = None
conversion: Any = None

UNET = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
}
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "layers_per_block": 1,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Imported with the first test: it takes seconds, and every worker collects every file."""
    global diffusers, conversion
    diffusers = pytest.importorskip(
        "diffusers", reason="needs the package diffusers: pip install diffusers"
    )
    conversion = pytest.importorskip("diffusers.loaders.single_file_utils")


def published(**settings: Any) -> dict[str, Any]:
    """A checkpoint in the published format, without averaged weights: diffusers would look for them all."""
    return {
        name: v for name, v in ldm_tensors(**settings).items() if not name.startswith("model_ema.")
    }


@torch.inference_mode()
def test_the_unet_with_classes_plain_and_skip_tuned() -> None:
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    theirs = diffusers.UNet2DConditionModel(
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=24,
        attention_head_dim=1,
        **UNET,
    ).eval()
    theirs.load_state_dict(conversion.convert_ldm_unet_checkpoint(published(), dict(theirs.config)))
    ours = fill(LDMUNet(**TINY)).eval()
    x = torch.randn(2, 3, 16, 16)
    times = torch.tensor([500.0, 20.0])
    context = torch.randn(2, 1, 24)
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
            block_out_channels=(32, 64),
            latent_channels=3,
            num_vq_embeddings=VQ["n_embed"],
            **AUTOENCODER,
        )
    else:
        theirs = diffusers.AutoencoderKL(
            block_out_channels=(32, 32), latent_channels=4, **AUTOENCODER
        )
    state = ours.state_dict()
    converted = conversion.convert_ldm_vae_checkpoint(
        {f"first_stage_model.{name}": value for name, value in state.items()}, dict(theirs.config)
    )
    converted |= {name: value for name, value in state.items() if name.startswith("quantize.")}
    missing, unexpected = theirs.load_state_dict(converted, strict=False)
    assert not unexpected and all(name.startswith(("encoder.", "quant_conv.")) for name in missing)
    z = torch.randn(2, ours.embed_dim, 8, 8)
    assert relative_error(ours(z), theirs.eval().decode(z / ours.scale_factor).sample) < 1e-5


@pytest.mark.parametrize("old", [False, True], ids=["to_q", "query"])
@torch.inference_mode()
def test_the_decoder_of_a_file_of_diffusers(old: bool, tmp_path: Path) -> None:
    """As Stable Diffusion's VAE is published: safetensors of an AutoencoderKL, encoder and all."""
    config = AUTOENCODER | {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
    }
    theirs = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 64), latent_channels=4, **config
    ).eval()
    state = fill(theirs).state_dict()
    if old:
        # Before diffusers 0.15.
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, before in names.items():
            state = {name.replace(f".{new}.", f".{before}."): v for name, v in state.items()}
    safetensors.torch.save_file(state, tmp_path / "vae.safetensors", {"format": "pt"})
    ours = read_decoder(tmp_path / "vae.safetensors", scale_factor=1.0)
    assert ours.factor == 4
    z = torch.randn(2, 4, 8, 8)
    assert relative_error(ours(z), theirs.decode(z).sample) < 1e-5

    # And with LDM's names.
    safetensors.torch.save_file(ours.state_dict(), tmp_path / "ldm.safetensors")
    assert torch.equal(read_decoder(tmp_path / "ldm.safetensors", scale_factor=1.0)(z), ours(z))

    del state["decoder.conv_in.bias"]
    safetensors.torch.save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match=r"1 missing .*decoder\.conv_in\.bias"):
        read_decoder(tmp_path / "damaged.safetensors")


@pytest.mark.parametrize("kind", ["VQ", "KL"])
@torch.inference_mode()
def test_decoders_with_attention_in_a_level(kind: str, tmp_path: Path) -> None:
    """As VQ-f8, VQ-f16 and KL-f16 have it, in the lowest level; the file tells it by its names."""
    sizes: dict[str, Any] = {
        "ch": 32,
        "ch_mult": [1, 1, 2],
        "attn_levels": [2],
        "num_res_blocks": 1,
    }
    made = (
        VQDecoder(**sizes, n_embed=64, z_channels=4, embed_dim=4)
        if kind == "VQ"
        else KLDecoder(**sizes)
    )
    torch.save(fill(made).state_dict(), tmp_path / "file.ckpt")
    ours = read_decoder(tmp_path / "file.ckpt")
    assert ours.init_kwargs == made.init_kwargs and ours.factor == 4
    ups = ("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D")
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ups,
        "layers_per_block": 1,
    }
    if kind == "VQ":
        theirs = diffusers.VQModel(
            block_out_channels=(32, 32, 64), latent_channels=4, num_vq_embeddings=64, **blocks
        )
    else:
        theirs = diffusers.AutoencoderKL(
            block_out_channels=(32, 32, 64), latent_channels=4, **blocks
        )
    state = ours.state_dict()
    attended = {name: value for name, value in state.items() if ".up.2.attn." in name}
    converted = conversion.convert_ldm_vae_checkpoint(
        {
            f"first_stage_model.{name}": value
            for name, value in state.items()
            if name not in attended
        },
        dict(theirs.config),
    )
    renamed = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    for name, value in attended.items():
        _, _, _, _, i, layer, part = name.split(".")
        matrix = value[:, :, 0, 0] if value.ndim == 4 else value
        converted[f"decoder.up_blocks.0.attentions.{i}.{renamed[layer]}.{part}"] = matrix
    converted |= {name: value for name, value in state.items() if name.startswith("quantize.")}
    missing, unexpected = theirs.load_state_dict(converted, strict=False)
    assert not unexpected and all(name.startswith(("encoder.", "quant_conv.")) for name in missing)
    z = torch.randn(2, 4, 4, 4)
    assert relative_error(ours(z), theirs.eval().decode(z / ours.scale_factor).sample) < 1e-5
