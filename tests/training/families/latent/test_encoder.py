"""The encoder against diffusers' AutoencoderKL, and what is drawn from its answer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fill, relative_error
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from training.families.latent.decoder_files import (
    load_autoencoder,
    read_decoder,
    save_autoencoder,
)
from training.families.latent.encoder import HIGHEST, LOWEST, Gaussians, KLAutoencoder

SMALL: dict[str, Any] = {
    "ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "out_ch": 3, "z_channels": 4, "embed_dim": 4,
}  # fmt: skip
# Our names, which are the published ones, and diffusers'.
RENAMED = {
    "norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut",
}  # fmt: skip
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def theirs(name: str, levels: int) -> str:
    """The name that diffusers has for one of our tensors."""
    parts = name.split(".")
    if parts[0] not in ("encoder", "decoder"):
        return name
    tower, kind = parts[:2]
    if kind in ("conv_in", "conv_out"):
        return name
    if kind == "norm_out":
        return f"{tower}.conv_norm_out.{parts[2]}"
    if kind == "mid":
        where = parts[2]
        if where == "attn_1":
            return f"{tower}.mid_block.attentions.0.{ATTENTION[parts[3]]}.{parts[4]}"
        return f"{tower}.mid_block.resnets.{int(where[-1]) - 1}.{RENAMED[parts[3]]}.{parts[4]}"

    level = int(parts[2]) if kind == "down" else levels - 1 - int(parts[2])
    if parts[3] == "block":
        return f"{tower}.{kind}_blocks.{level}.resnets.{parts[4]}.{RENAMED[parts[5]]}.{parts[6]}"
    return f"{tower}.{kind}_blocks.{level}.{parts[3]}rs.0.conv.{parts[5]}"


def judged(ours: KLAutoencoder) -> Any:
    """diffusers' autoencoder with our weights."""
    models = pytest.importorskip("diffusers.models")
    levels = len(SMALL["ch_mult"])
    judge = models.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1, norm_num_groups=32,
        block_out_channels=[32 * mult for mult in SMALL["ch_mult"]],
        down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
    )  # fmt: skip
    wanted = judge.state_dict()
    given = {}
    for name, value in ours.state_dict().items():
        other = theirs(name, levels)
        given[other] = value.reshape(wanted[other].shape)
    judge.load_state_dict(given)
    return judge.eval()


@torch.inference_mode()
def test_latents_and_images_are_those_of_diffusers() -> None:
    ours = fill(KLAutoencoder(**SMALL)).eval()
    judge = judged(ours)
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = judge.encode(images).latent_dist
    found = ours.encode(images)
    assert relative_error(found.mean, expected.mean) < 1e-5
    assert relative_error(found.logvar, expected.logvar) < 1e-5
    assert relative_error(ours.decode(found.mean), judge.decode(found.mean).sample) < 1e-5


def test_the_divergence_is_torchs() -> None:
    mean, logvar = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(1)).unbind()
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(Gaussians(mean, logvar).divergence(), expected, rtol=1e-5)


def test_a_draw_is_the_mean_and_so_many_deviations() -> None:
    latents = Gaussians(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 2.0]).log() * 2)
    assert latents.sample(torch.tensor([3.0, 0.5])).tolist() == pytest.approx([1.0, -1.0])


@torch.inference_mode()
def test_log_variances_stay_where_exp_is_finite() -> None:
    net = fill(KLAutoencoder(**SMALL)).eval()
    torch.nn.init.constant_(net.quant_conv.bias, 1e6)  # type: ignore[arg-type]
    assert float(net.encode(torch.zeros(1, 3, 8, 8)).logvar.max()) == HIGHEST
    torch.nn.init.constant_(net.quant_conv.bias, -1e6)  # type: ignore[arg-type]
    assert float(net.encode(torch.zeros(1, 3, 8, 8)).logvar.min()) == LOWEST


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images of 18x16 pixels: .* multiples of 4"):
        KLAutoencoder(**SMALL).encode(torch.zeros(1, 3, 16, 18))


@pytest.mark.parametrize("changes", [{}, {"norm_groups": None, "ch": 16, "attn_levels": [2]}])
def test_a_stored_autoencoder_comes_back_and_decodes(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    net = fill(KLAutoencoder(**SMALL | changes)).eval()
    net.rescale(0.25)
    save_autoencoder(net, tmp_path / "kl.safetensors", data="clothes")
    back, decoder = (f(tmp_path / "kl.safetensors") for f in (load_autoencoder, read_decoder))
    z = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    expected: Tensor = net(z)
    assert torch.equal(back(z), expected) and torch.equal(decoder(z), expected)
    assert torch.equal(expected, net.decode(z / 0.25))
    assert not any(name.startswith("encoder") for name in decoder.state_dict())
    assert "norm_groups" in changes or "norm_groups" not in decoder.init_kwargs


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04 torch")
    with pytest.raises(ValueError, match=r"a\.pth is no autoencoder of this project"):
        load_autoencoder(tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"holds a EDMPrecond, no KLAutoencoder"):
        load_autoencoder(Path("assets/demo/network.safetensors"))
