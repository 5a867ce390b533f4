"""U-ViT against the official implementation's vectors, Skip-Tuning's properties, and the published file format."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, fill, golden_json, golden_npz, relative_error
from standins_uvit import TINY, write_uvit
from torch import Tensor

from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.source import ImageSource
from skip.studies.norms import skip_norms, slice_norms
from skip.tuned import SkipTuned
from torch_utils.weights import check_names
from training.blocks.transformer import class_token
from training.checkpoint import load_network, save_network
from training.families.latent.autoencoder import KLDecoder
from training.families.latent.continuous import ContinuousTimes
from training.families.latent.decoder_files import read_decoder
from training.families.uvit.checkpoint import is_uvit, read_uvit, uvit_arguments
from training.families.uvit.network import UViT
from training.families.uvit.precond import UViTPrecond
from training.presets import Preset

FACTS, ARRAYS = golden_json("uvit")["nets"], golden_npz("uvit")


def golden(name: str) -> tuple[UViT, tuple[Any, ...]]:
    """A network of the reference vectors and its inputs."""
    kwargs = {k: v for k, v in FACTS[name]["kwargs"].items() if k != "use_checkpoint"}
    x, t = (torch.from_numpy(ARRAYS[f"{name}/{key}"]) for key in "xt")
    classes = kwargs["num_classes"] - 1
    labels = torch.eye(classes)[torch.from_numpy(ARRAYS[f"{name}/y"])] if classes > 0 else None
    return fill(UViT(**kwargs)).eval(), (x, t, labels)  # type: ignore[return-value]


def tiny(**changes: Any) -> UViTPrecond:
    kwargs = {"patch_size": 2, "embed_dim": 32, "depth": 6, "num_heads": 2, "conv": True}
    net = UViTPrecond(8, 4, 3, **(kwargs | changes))
    fill(net)
    return net.eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return 3 * torch.randn(3, 4, 8, 8), torch.tensor([0.05, 1.0, 10.0]), torch.eye(3)


@pytest.mark.parametrize("name", FACTS)
@torch.inference_mode()
def test_golden(name: str) -> None:
    net, arguments = golden(name)
    assert [[k, list(v.shape)] for k, v in net.state_dict().items()] == [
        [k, v[0]] for k, v in FACTS[name]["state_dict"].items()
    ]
    assert net.num_skips == FACTS[name]["k"]
    plain = net(*arguments)
    assert relative_error(plain, ARRAYS[f"{name}/out"]) < 1e-5
    for key, rho in FACTS[name]["rho"].items():
        bottom, top = map(float, key.split("_"))
        assert SkipScale(bottom, top).per_layer(net.num_skips).tolist() == pytest.approx(rho)
        tuned = net(*arguments, skip_scale=torch.tensor(rho))
        assert relative_error(tuned, ARRAYS[f"{name}/out_skip_{key}"]) < 1e-5
        assert relative_error(tuned, plain) > 1e-3


@pytest.mark.parametrize("name", FACTS)
def test_golden_norms_of_the_skips(name: str) -> None:
    net, arguments = golden(name)
    assert relative_error(skip_norms(net, *arguments).T, ARRAYS[f"{name}/prop_per_sample"]) < 1e-5


def test_slices_of_the_weights() -> None:
    net = tiny()
    u, d = slice_norms(net)
    weights = [block.skip_linear.weight.double() for block in net.model.out_blocks]
    torch.testing.assert_close(
        u, torch.stack([weight[:, :32].norm() for weight in weights]), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        d, torch.stack([weight[:, 32:].norm() for weight in weights]), rtol=1e-12, atol=0
    )


@torch.inference_mode()
def test_the_denoiser_is_the_golden_network_at_the_right_time() -> None:
    facts = FACTS["latent_cond"]["kwargs"]
    raw, (x, _t, labels) = golden("latent_cond")
    names = ("patch_size", "embed_dim", "depth", "num_heads", "conv")
    net = UViTPrecond(16, 4, 10, **{name: facts[name] for name in names}).eval()
    net.model.load_state_dict(raw.state_dict(), strict=True)
    times = torch.tensor([1000.0, 437.25, 1.0])
    abar = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    # Three quarters of time 437 (index 436), one of time 438.
    abar_t = torch.stack([abar[999], abar[436] ** 0.75 * abar[437] ** 0.25, abar[0]]).reshape(
        -1, 1, 1, 1
    )
    sigma = ((1 - abar_t) / abar_t).sqrt()
    noisy = (x / abar_t.sqrt()).float()
    noise = torch.from_numpy(ARRAYS["latent_cond/out"])
    assert torch.allclose(net.table.timestep(sigma.flatten()), times.double(), rtol=0, atol=1e-6)
    assert relative_error((noisy - net(noisy, sigma.flatten(), labels)) / sigma, noise) < 1e-4
    assert net.sigma_max == pytest.approx(float(sigma[0])) and net.sigma_min == pytest.approx(
        float(sigma[2])
    )


def test_published_names_and_shapes() -> None:
    facts = golden_json("fullsize_imagenet256_uvit_huge")
    kwargs = {k: v for k, v in facts["nnet_kwargs"].items() if k != "use_checkpoint"}
    with torch.device("meta"):
        net = UViT(**kwargs)
        denoiser = UViTPrecond(32, 4, 1000, conv=False)  # the defaults are its sizes
    for model in (net, denoiser.model):
        assert {k: list(v.shape) for k, v in model.state_dict().items()} == {
            k: v[0] for k, v in facts["state_dict"].items()
        }
    assert sum(p.numel() for p in net.parameters()) == facts["n_params"]
    assert net.num_skips == denoiser.num_skips == facts["n_out_blocks"] == 14
    assert list(facts["z_shape"]) == [
        denoiser.img_channels,
        denoiser.img_resolution,
        denoiser.img_resolution,
    ]


@torch.inference_mode()
def test_rho_one_is_bitwise_plain_and_other_rho_is_not() -> None:
    net, arguments = tiny(), inputs()
    plain = net(*arguments)
    assert plain.shape == arguments[0].shape and plain.dtype == torch.float32
    assert torch.equal(net(*arguments, skip_scale=torch.ones(3)), plain)
    assert torch.equal(SkipTuned(net, SkipScale())(*arguments), plain)
    for i in range(3):
        rho = torch.ones(3)
        rho[i] = 0.8
        assert relative_error(net(*arguments, skip_scale=rho), plain) > 1e-4
    assert torch.equal(
        SkipTuned(net, SkipScale(0.7, 1.0))(*arguments),
        net(*arguments, skip_scale=torch.tensor([0.7, 0.8, 0.9])),
    )


@torch.inference_mode()
def test_the_deepest_skip_comes_first_and_last_in_the_map() -> None:
    net, arguments = tiny(), inputs()
    tuned = net(*arguments, skip_scale=torch.tensor([0.6, 1.0, 1.0]))
    for name, weight in net.model.named_parameters():
        if name == "out_blocks.0.skip_linear.weight":  # its columns: running tokens, then the skip
            weight[:, 32:] *= 0.6
    assert relative_error(net(*arguments), tuned) < 1e-5


@torch.inference_mode()
def test_coefficients_per_image_equal_one_image_at_a_time() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    rho = torch.rand([3, 3]) + 0.3
    together = net(x, sigma, labels, skip_scale=rho)
    for i in range(3):
        alone = net(x[i : i + 1], sigma[i], labels[i : i + 1], skip_scale=rho[i])
        assert relative_error(together[i : i + 1], alone) < 1e-5


def test_gradients_flow_into_every_coefficient() -> None:
    net, arguments = tiny(), inputs()
    rho = torch.full([3], 0.8, requires_grad=True)
    net(*arguments, skip_scale=rho).square().sum().backward()
    assert rho.grad is not None and (rho.grad != 0).all()

    net.double()
    net.dtype = torch.float64  # finite differences need the digits

    @torch.inference_mode()
    def value(r: Tensor) -> float:
        return float(net(*arguments, skip_scale=r).double().square().sum())

    step = torch.tensor([0.0, 0.0, 1e-2])
    numeric = (value(rho.detach() + step) - value(rho.detach() - step)) / 2e-2
    assert float(rho.grad[-1]) == pytest.approx(numeric, rel=0.02)


@torch.inference_mode()
def test_no_label_is_the_last_class() -> None:
    net, (x, sigma, _labels) = tiny(), inputs()
    token = net.model.label_emb.weight
    nothing = net(x, sigma)
    assert torch.equal(net(x, sigma, torch.zeros(3, 3)), nothing)
    for label in range(3):
        assert relative_error(net(x, sigma, torch.eye(3)[[label] * 3]), nothing) > 1e-4
        token[label] = token[3]
        assert relative_error(net(x, sigma, torch.eye(3)[[label] * 3]), nothing) < 1e-5
    assert torch.equal(net.model(x, sigma, None), net.model(x, sigma, torch.zeros(1, 3)))


@torch.inference_mode()
def test_half_precision_is_close_and_returns_float32() -> None:
    net, arguments = tiny(), inputs()
    expected = net(*arguments, skip_scale=torch.full([3], 0.8))
    got = tiny().set_dtype(torch.bfloat16)(*arguments, skip_scale=torch.full([3], 0.8))
    assert got.dtype == torch.float32
    assert 0 < relative_error(got, expected) < 0.05


def test_inference_on_every_processor_agrees_with_training() -> None:
    """In inference the products of wide networks may go to another library."""
    net, (x, sigma, labels) = tiny(embed_dim=128), inputs()
    expected = net(x, sigma, labels)
    with torch.inference_mode():
        assert relative_error(net(x, sigma, labels), expected) < 1e-5
        assert relative_error(net.channels_last()(x, sigma, labels), expected) < 1e-5


def test_nonsense_is_refused() -> None:
    net, arguments = tiny(), inputs()
    for shape in [(), (1,), (3, 1), (2, 3), (4,)]:
        with pytest.raises(ValueError, match="3 long skips"):
            net(*arguments, skip_scale=torch.ones(shape))
    with pytest.raises(ValueError, match="'shortcut'"):
        net(*arguments, skip_scale=torch.ones(3), skip_target="shortcut")
    with pytest.raises(ValueError, match="9 pixels"):
        UViT(img_size=9, patch_size=2)
    with pytest.raises(ValueError, match="divisible by num_heads"):
        UViT(img_size=8, embed_dim=32, num_heads=3)


# ---- the published file format


VARIANTS: dict[str, dict[str, Any]] = {
    "label": {},
    "unconditional": {"num_classes": -1, "conv": True, "qkv_bias": True, "mlp_time_embed": True},
    "patches": {
        "patch_size": 4,
        "img_size": 16,
        "embed_dim": 128,
        "num_heads": 2,
        "mlp_ratio": 2.5,
        "depth": 2,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_a_file_tells_its_network(tmp_path: Path, variant: str) -> None:
    path = tmp_path / "uvit.pth"
    raw = write_uvit(path, **VARIANTS[variant])
    assert is_uvit(path.read_bytes()[:512])
    class_name, kwargs, tensors = read_uvit(path)
    assert class_name == "UViTPrecond"
    net = UViTPrecond(**kwargs).eval()
    check_names(net.state_dict(), tensors)
    net.load_state_dict(tensors, strict=True)
    # What a safetensors file keeps of it.
    assert UViTPrecond(**net.init_kwargs).init_kwargs == net.init_kwargs
    settings = TINY | VARIANTS[variant]
    labels = torch.eye(3)[[2, 0]] if settings["num_classes"] > 0 else None
    x, sigma = torch.randn(2, 4, settings["img_size"], settings["img_size"]), torch.tensor(3.0)
    expected = x - 3 * raw(x / 10**0.5, net.table.timestep(sigma).float()[None], labels)
    assert relative_error(net(x, sigma, labels), expected) < 1e-5
    assert len(SamplerSettings(steps=5).nodes(net)) == 5


def test_the_published_file_has_the_published_arguments() -> None:
    facts = golden_json("fullsize_imagenet256_uvit_huge")
    published = facts["nnet_kwargs"]
    got = uvit_arguments(
        {
            name: torch.empty(shape, device="meta")
            for name, (shape, _) in facts["state_dict"].items()
        }
    )
    assert got.pop("label_dim") == published["num_classes"] - 1
    assert (
        got.pop("img_resolution") == published["img_size"]
        and got.pop("img_channels") == published["in_chans"]
    )
    assert got == {name: published[name] for name in got}


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo never > /dev/null",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pos_embed": Evil()}, "system"),
        ({"pos_embed": [1, 2]}, "other things"),
        ({"pos_embed": torch.zeros(1, 17, 64)}, "patch_embed.proj.weight"),
        (torch.zeros(3), "other things"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "file.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        read_uvit(path)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "uvit.pth"
    write_uvit(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="truncated or damaged") as caught:
        read_uvit(path)
    assert "\n" not in str(caught.value)


def test_networks_whose_files_do_not_tell_enough_are_refused(tmp_path: Path) -> None:
    write_uvit(tmp_path / "uvit.pth", embed_dim=48)
    with pytest.raises(ValueError, match="number of heads"):
        read_uvit(tmp_path / "uvit.pth")


# ---- continuous times, which the published networks of images have, and of latents those of 1024 channels


def vp_sigma(t: Tensor) -> Tensor:
    """Of the variance-preserving process whose rate rises from 0.1 to 20; the rate's integral is a trapezium."""
    return (t * (0.1 + 0.1 + 19.9 * t) / 2).expm1().sqrt()


def continuous(path: Path, **changes: Any) -> tuple[Any, UViT]:
    raw = write_uvit(path, **changes)
    net = load_network(path)
    assert net.init_kwargs["beta_schedule"] == "vp" and net.round_sigma(1.234) == 1.234
    return net, raw


def test_what_the_file_does_not_tell_is_said_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "imagenet64_uvit_large.pth"
    net, _ = continuous(path, in_chans=3, null_class=False)
    checkpoint = ImageSource(network=str(path)).load("cpu").checkpoint
    assert "heads" in net.assumed and checkpoint["assumed"] == net.assumed
    assert net.assumed in capsys.readouterr().err


def test_heads_that_the_file_does_not_tell_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_uvit(tmp_path / "uvit.pth", num_heads=4)
    entry = {"path": str(tmp_path / "uvit.pth"), "licence": "ours"}
    presets = {
        "plain": Preset("plain", **entry),
        "mine": Preset("mine", **entry, num_heads=4),
        "wide": Preset("wide", **entry, head_channels=16),
    }
    for module in ("training.presets", "skip.options"):
        monkeypatch.setattr(f"{module}.load_presets", lambda: presets)
    plain, mine = load_network("plain"), load_network("mine")
    said = [line for line in capsys.readouterr().err.splitlines() if "heads" in line]
    assert (plain.init_kwargs["num_heads"], mine.init_kwargs["num_heads"]) == (1, 4)
    # Of the plain one.
    assert len(said) == 1 and "1 heads, discrete times; other heads: num_heads" in said[0]
    assert "heads" not in mine.assumed and "discrete times" in mine.assumed

    x, t, labels = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 500.0]), torch.eye(3)[:2]
    with torch.inference_mode():
        assert torch.equal(mine.model(x, t, labels), raw(x, t, labels))
        assert not torch.allclose(plain.model(x, t, labels), raw(x, t, labels))
    records = [ImageSource(network=name).load("cpu").record for name in ("plain", "mine")]
    assert records[1] == records[0] | {"num_heads": 4}
    with pytest.raises(
        ValueError, match=r"gives head_channels, which U-ViT's \.pth does not take: give num_heads"
    ):
        load_network("wide")
    with pytest.raises(ValueError, match="its num_heads is 0; it must be at least 1"):
        Preset("none", **entry, num_heads=0)
    with pytest.raises(ValueError, match="give one of them"):
        Preset("both", **entry, num_heads=1, head_channels=64)


@torch.inference_mode()
def test_images_at_continuous_times(tmp_path: Path) -> None:
    net, raw = continuous(tmp_path / "imagenet64_uvit_large.pth", in_chans=3, null_class=False)
    assert (net.label_dim, net.image_channels, net.image_resolution) == (4, 3, 8)
    t = torch.tensor([1e-4, 0.3, 1.0], dtype=torch.float64)
    sigma = vp_sigma(t)
    assert (net.sigma_min, net.sigma_max) == (
        pytest.approx(float(sigma[0])),
        pytest.approx(float(sigma[2])),
    )
    assert torch.allclose(net.table.timestep(sigma), 999 * t, rtol=1e-9)
    x, labels = torch.randn(3, 3, 8, 8) * sigma[:, None, None, None].float(), torch.eye(4)[:3]
    level = sigma[:, None, None, None].float()
    expected = x - level * raw(x / (1 + level**2).sqrt(), 999 * t.float(), labels)
    assert relative_error(net(x, sigma, labels), expected) < 1e-5
    # There is no "no class": a label is its own row of the embedding.
    assert torch.equal(
        class_token(raw.label_emb, labels, null_class=False)[:, 0], raw.label_emb.weight[:3]
    )
    with pytest.raises(ValueError, match="give labels"):
        raw(x, t.float(), None)
    assert torch.allclose(
        net.sigma_grids["timesteps"](3), vp_sigma(torch.tensor([1, 0.50005, 1e-4]).double())
    )
    assert "ddim" not in net.sigma_grids
    save_network(net, tmp_path / "net.safetensors")
    assert torch.equal(
        load_network(tmp_path / "net.safetensors")(x, sigma, labels), net(x, sigma, labels)
    )


@torch.inference_mode()
def test_latents_at_continuous_times() -> None:
    shapes = {
        "pos_embed": (1, 258, 1024), "patch_embed.proj.weight": (1024, 4, 2, 2), "label_emb.weight": (1001, 1024),
        "mid_block.mlp.fc1.weight": (4096, 1024),
    }  # fmt: skip
    large = uvit_arguments(
        {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    )
    assert (large["label_dim"], large["num_heads"], large["img_resolution"]) == (1000, 16, 32)
    times = {
        name: large[name]
        for name in ("beta_schedule", "beta_start", "beta_end", "num_timesteps", "rounding")
    }
    net, t = tiny(**times), torch.tensor([0.7])
    level = vp_sigma(t)[:, None, None, None]
    x = torch.randn(1, 4, 8, 8) * level
    expected = x - level * net.model(x / (1 + level**2).sqrt(), 999 * t, None)
    assert relative_error(net(x, level.flatten()), expected) < 1e-5


def test_nonsense_of_continuous_times_is_refused() -> None:
    for settings, words in (
        ({"beta_start": 20.0, "beta_end": 0.1}, "0 < beta_start < beta_end"),
        ({"num_timesteps": 1}, "num_timesteps is 1"),
    ):
        with pytest.raises(ValueError, match=words):
            ContinuousTimes(**{"beta_start": 0.1, "beta_end": 20.0} | settings)
    with pytest.raises(ValueError, match="1 nodes"):
        ContinuousTimes(0.1, 20.0).uniform_sigmas(1)
    with pytest.raises(ValueError, match="no levels to round to"):
        tiny(beta_schedule="vp", beta_start=0.1, beta_end=20.0, rounding="nearest")


def test_patches_of_no_square_are_refused(tmp_path: Path) -> None:
    state = dict(write_uvit(tmp_path / "uvit.pth").state_dict())
    torch.save(state | {"pos_embed": torch.zeros(1, 17, 64)}, tmp_path / "uvit.pth")
    with pytest.raises(ValueError, match="15 patches"):
        read_uvit(tmp_path / "uvit.pth")


@pytest.mark.parametrize("shape", [(0, 4, 2, 2), (64, 0, 2, 2), (64, 4, 0, 0)])
def test_patches_of_nothing_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    state = dict(write_uvit(tmp_path / "uvit.pth").state_dict())
    torch.save(state | {"patch_embed.proj.weight": torch.zeros(shape)}, tmp_path / "uvit.pth")
    with pytest.raises(ValueError, match="channels in patches of"):
        read_uvit(tmp_path / "uvit.pth")


def test_other_archives_are_not_taken_for_a_uvit(tmp_path: Path) -> None:
    torch.save({"time_embed.0.weight": torch.zeros(3)}, tmp_path / "other.pt")
    np.savez(tmp_path / "pos_embed.npz", pos_embed=np.zeros(3))
    for name in ("other.pt", "pos_embed.npz"):
        assert not is_uvit((tmp_path / name).read_bytes()[:512])
    assert not is_uvit((GOLDEN / "uvit.json").read_bytes()[:512])


# ---- the KL decoder


def kl_kwargs(facts: dict[str, Any]) -> dict[str, Any]:
    names = ("ch", "ch_mult", "num_res_blocks", "out_ch", "z_channels")
    return {name: facts["ddconfig"][name] for name in names} | {"embed_dim": facts["embed_dim"]}


def decoder_shapes(facts: dict[str, Any]) -> dict[str, list[int]]:
    return {
        k: v[0]
        for k, v in facts["state_dict"].items()
        if k.startswith(("decoder.", "post_quant_conv."))
    }


@torch.inference_mode()
def test_golden_kl_decoder() -> None:
    facts = golden_json("uvit")["autoencoder"]
    net = fill(KLDecoder(**kl_kwargs(facts), scale_factor=facts["scale_factor"])).eval()
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == decoder_shapes(facts)
    image = net(torch.from_numpy(ARRAYS["autoencoder/z"]))
    assert relative_error(image, ARRAYS["autoencoder/decode"]) < 1e-5


@torch.inference_mode()
def test_golden_kl_decoder_of_ldm() -> None:
    facts, arrays = golden_json("ldm")["kl"]["kwargs"], golden_npz("ldm")
    net = fill(KLDecoder(**kl_kwargs(facts), scale_factor=1.0)).eval()
    assert relative_error(net(torch.from_numpy(arrays["kl/z"])), arrays["kl/decode"]) < 1e-5


def test_the_published_autoencoder_fits() -> None:
    facts = golden_json("fullsize_imagenet256_uvit_huge")["autoencoder"]
    with torch.device("meta"):
        net = KLDecoder()  # the defaults are its sizes
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == decoder_shapes(facts)
    assert net.scale_factor == facts["scale_factor"]


@torch.inference_mode()
def test_an_autoencoder_file_gives_its_decoder(tmp_path: Path) -> None:
    facts = golden_json("uvit")["autoencoder"]
    state = fill(KLDecoder(**kl_kwargs(facts))).state_dict()
    torch.save(
        {"encoder.conv_in.weight": torch.zeros(3), **state}, tmp_path / "autoencoder_kl_ema.pth"
    )
    net = read_decoder(tmp_path / "autoencoder_kl_ema.pth")
    assert (
        relative_error(net(torch.from_numpy(ARRAYS["autoencoder/z"])), ARRAYS["autoencoder/decode"])
        < 1e-5
    )
    del state["decoder.mid.attn_1.q.bias"]
    torch.save(state, tmp_path / "damaged.pth")
    write_uvit(tmp_path / "uvit.pth")
    for name, message in {
        "damaged.pth": "decoder.mid.attn_1.q.bias",
        "uvit.pth": "no state_dict of a KL",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_decoder(tmp_path / name)
