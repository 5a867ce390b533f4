"""EDM2's networks of latents: told from those of images, and decoded as EDM2 does."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fill
from standins_edm2 import edm2_snapshot, fill_edm2
from standins_ldm import KL, write_kl

from sampling.generate import to_uint8
from training.checkpoint import load_network, save_network
from training.families.edm2.latents import EDM2LatentPrecond
from training.families.edm2.unet import EDM2Precond
from training.families.latent.autoencoder import KLDecoder

TINY: dict[str, Any] = {"img_resolution": 8, "img_channels": 4, "label_dim": 5, "model_channels": 8} | {
    "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "channels_per_head": 8, "logvar_channels": 4,
}  # fmt: skip


def decoder(**changes: Any) -> KLDecoder:
    made = fill(KLDecoder(**KL | changes)).eval()
    assert isinstance(made, KLDecoder)
    return made


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """As EDM2 publishes it, where the class is called Precond whatever it makes."""
    path = tmp_path / "edm2-img512.pkl"
    path.write_bytes(edm2_snapshot(fill_edm2(EDM2Precond(**TINY)), latent_encoder=True))
    return path


def test_four_channels_are_latents(snapshot: Path) -> None:
    net = load_network(snapshot)
    assert type(net) is EDM2LatentPrecond
    assert (net.img_channels, net.img_resolution, net.label_dim) == (4, 8, 5)
    with pytest.raises(ValueError, match="its file holds no decoder: give that of its autoencoder"):
        net.decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="holds no decoder"):
        net.image_channels  # noqa: B018  # a property
    with pytest.raises(ValueError, match="EDM2's latents have 4 channels, the network 3"):
        EDM2LatentPrecond(**TINY | {"img_channels": 3})


@pytest.mark.parametrize("scale_factor", [0.18215, 1.0])
@torch.inference_mode()
def test_images_are_those_of_edm2(scale_factor: float) -> None:
    """Its decoder: (x - bias) / scale, then clamp(0, 1), times 255, cut off; scale = 0.5 / std, bias = -mean scale."""
    net = EDM2LatentPrecond(**TINY)
    kl = decoder(scale_factor=scale_factor)
    torch.nn.init.constant_(kl.decoder.conv_out.bias, 0.5)  # images about the middle of [0, 1]
    net.attach(kl)
    x = 0.5 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    std, mean = torch.tensor([4.17, 4.62, 3.71, 3.28]), torch.tensor([5.81, 3.25, 0.12, -2.15])
    scale = 0.5 / std
    bias = -mean * scale
    raw = (x - bias[:, None, None]) / scale[:, None, None]
    image = kl.decoder(kl.post_quant_conv(raw))
    expected = image.clamp(0, 1).mul(255)

    got = to_uint8(net.decode(x)).float()
    assert (net.image_channels, net.image_resolution) == (3, 16) and got.shape == image.shape
    assert got.std() > 20 and (expected > 0).any() and (expected < 255).any()
    # Where rounding does not decide.
    sure = (expected - expected.round()).abs() > 1e-2
    assert sure.float().mean() > 0.5
    assert torch.equal(got[sure], expected.to(torch.uint8).float()[sure])


@torch.inference_mode()
def test_stored_with_its_decoder(snapshot: Path, tmp_path: Path) -> None:
    kl = write_kl(tmp_path / "kl.pth")
    net = load_network(snapshot, autoencoder=tmp_path / "kl.pth")
    save_network(net, tmp_path / "whole.safetensors")
    again = load_network(tmp_path / "whole.safetensors")
    x = torch.randn(1, 4, 8, 8)
    assert type(again) is EDM2LatentPrecond and torch.equal(again.decode(x), net.decode(x))
    assert math.isclose(kl.scale_factor, 0.18215)


def test_a_decoder_runs_in_the_precision_of_its_network_on_a_gpu_only(snapshot: Path) -> None:
    net = load_network(snapshot)
    assert isinstance(net, EDM2LatentPrecond)
    net.attach(decoder())
    assert net.set_dtype(torch.bfloat16).compute_dtype(torch.device("cpu")) == torch.bfloat16
    assert net.first_stage_model is not None and net.first_stage_model.dtype == torch.float32
