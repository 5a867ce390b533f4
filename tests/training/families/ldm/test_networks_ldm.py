"""LDM against the official implementation's vectors, Skip-Tuning's properties, and the published checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fill, golden_json, golden_npz, relative_error
from standins_ldm import (
    NOT_NEEDED,
    PLAIN,
    TINY,
    ldm_tensors,
    vq_decoder,
    write_kl,
    write_ldm,
    write_lightning,
)
from torch import Tensor

from skip.scale import SkipScale
from skip.studies.norms import skip_norms
from skip.tuned import SkipTuned
from torch_utils.weights import check_names
from training.checkpoint import load_network, save_network
from training.families.latent.autoencoder import KLDecoder
from training.families.ldm.checkpoint import ldm_arguments, read_ldm
from training.families.ldm.unet import ClassEmbedder, LDMPrecond, LDMUNet
from training.presets import Preset

FACTS, ARRAYS = golden_json("ldm"), golden_npz("ldm")
PUBLISHED = golden_json("fullsize_ldm_cin256_v2")


def unet_kwargs(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in facts.items()
        if name not in ("image_size", "use_spatial_transformer")
    }


def golden(name: str) -> tuple[LDMUNet, tuple[Any, ...]]:
    """A network of the reference vectors and its inputs."""
    net = fill(LDMUNet(**unet_kwargs(FACTS["unets"][name]["kwargs"])))
    x, t = (torch.from_numpy(ARRAYS[f"{name}/{key}"]) for key in "xt")
    return net.eval(), (x, t, torch.from_numpy(ARRAYS["cin/context"]) if name == "cin" else None)  # type: ignore[return-value]


def tiny(**changes: Any) -> LDMPrecond:
    kwargs = {
        key: value for key, value in TINY.items() if key not in ("in_channels", "out_channels")
    }
    net = LDMPrecond(16, 3, 3, **(kwargs | changes))
    fill(net)
    return net.eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return 3 * torch.randn(3, 3, 16, 16), torch.tensor([0.05, 1.0, 10.0]), torch.eye(3)


@pytest.mark.parametrize("name", FACTS["unets"])
@pytest.mark.parametrize("grad", [True, False])
def test_golden(name: str, grad: bool) -> None:
    net, arguments = golden(name)
    assert [[k, list(v.shape)] for k, v in net.state_dict().items()] == [
        [k, v[0]] for k, v in FACTS["unets"][name]["state_dict"].items()
    ]
    assert net.num_skips == FACTS["skip"][name]["k"]
    with torch.set_grad_enabled(grad):
        plain = net(*arguments)
        assert relative_error(plain, ARRAYS[f"{name}/eps"]) < 1e-5
        for key, rho in FACTS["skip"][name]["rho"].items():
            bottom, top = map(float, key.split("_"))
            assert SkipScale(bottom, top).per_layer(net.num_skips).tolist() == pytest.approx(rho)
            tuned = net(*arguments, skip_scale=torch.tensor(rho))
            assert relative_error(tuned, ARRAYS[f"{name}/eps_skip_{key}"]) < 1e-5
            assert relative_error(tuned, plain) > 1e-3


@pytest.mark.parametrize("name", FACTS["unets"])
def test_golden_norms_of_the_skips(name: str) -> None:
    net, arguments = golden(name)
    assert relative_error(skip_norms(net, *arguments).T, ARRAYS[f"{name}/prop_per_sample"]) < 1e-5


def test_golden_context() -> None:
    facts = FACTS["class_embedder"]
    embedder = fill(ClassEmbedder(facts["n_classes"], facts["embed_dim"]))
    # The last class is a row of zeros.
    labels = torch.eye(11)[torch.from_numpy(ARRAYS["cin/y"])][:, :-1]
    assert labels[-1].sum() == 0
    assert relative_error(embedder(labels), ARRAYS["cin/context"]) < 1e-7


@torch.inference_mode()
def test_the_denoiser_is_the_golden_network_at_the_right_time() -> None:
    raw, (x, t, _context) = golden("cin")
    kwargs = unet_kwargs(FACTS["unets"]["cin"]["kwargs"])
    channels = kwargs.pop("in_channels"), kwargs.pop("out_channels")
    net = LDMPrecond(16, channels[0], 10, **kwargs).eval()
    net.model.diffusion_model.load_state_dict(raw.state_dict(), strict=True)
    net.model.cond_stage_model.load_state_dict(
        fill(ClassEmbedder(11, 24)).state_dict(), strict=True
    )
    abar = torch.from_numpy(ARRAYS["schedule/alphas_cumprod"]).double()[t].reshape(-1, 1, 1, 1)
    sigma = ((1 - abar) / abar).sqrt()
    labels = torch.eye(11)[torch.from_numpy(ARRAYS["cin/y"])][:, :-1]
    noisy = (x / abar.sqrt()).float()
    assert net.table.timestep(sigma.flatten()).tolist() == t.tolist()
    noise = (noisy - net(noisy, sigma.flatten(), labels)) / sigma
    # The subtraction of D from x costs digits where sigma is low.
    assert relative_error(noise, ARRAYS["cin/eps"]) < 1e-4


def test_published_names_and_shapes() -> None:
    config = PUBLISHED["config"]
    with torch.device("meta"):
        net = LDMUNet(**unet_kwargs(config["unet_config"]["params"]))
        classes = config["cond_stage_config"]["params"]
        embedder = ClassEmbedder(classes["n_classes"], classes["embed_dim"])
        defaults = LDMPrecond(64, 3, 1000, num_heads=1, context_dim=512)
    for module in (net, defaults.model.diffusion_model):
        assert [[k, list(v.shape)] for k, v in module.state_dict().items()] == [
            [k, v[0]] for k, v in PUBLISHED["unet"]["state_dict"].items()
        ]
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED["unet"]["n_params"]
    assert net.num_skips == PUBLISHED["unet"]["n_output_blocks"] == 12
    assert {k: [list(v.shape), "float32"] for k, v in embedder.state_dict().items()} == PUBLISHED[
        "cond_stage"
    ]["state_dict"]


def test_the_published_file_has_the_published_arguments_and_loads_strictly() -> None:
    config, tensors = PUBLISHED["config"], {}
    for part, prefix in PUBLISHED["prefixes"].items():
        for name, (shape, _dtype) in PUBLISHED[part]["state_dict"].items():
            tensors[prefix + name] = torch.empty(shape, device="meta")
    kwargs = ldm_arguments(tensors)
    published = config["unet_config"]["params"]
    for name in (
        "model_channels",
        "num_res_blocks",
        "channel_mult",
        "num_heads",
        "context_dim",
        "transformer_depth",
    ):
        assert kwargs[name] == published[name], name
    assert sorted(kwargs["attention_resolutions"]) == sorted(published["attention_resolutions"])
    assert (
        kwargs["img_resolution"] == config["image_size"]
        and kwargs["img_channels"] == config["channels"]
    )
    assert kwargs["label_dim"] + 1 == config["cond_stage_config"]["params"]["n_classes"]
    with torch.device("meta"):
        net = LDMPrecond(**kwargs)
    assert net.image_resolution == 256 and net.image_channels == 3
    beta = config["linear_start"], config["linear_end"], config["timesteps"]
    assert (
        tuple(net.init_kwargs[name] for name in ("beta_start", "beta_end", "num_timesteps")) == beta
    )
    mine = {
        name.replace("model.cond_stage_model", "cond_stage_model"): v
        for name, v in net.state_dict().items()
    }
    encoder = {
        name
        for name in tensors
        if name.startswith(("first_stage_model.encoder", "first_stage_model.quant_"))
    }
    check_names(mine, {name: value for name, value in tensors.items() if name not in encoder})
    assert encoder and len(mine) + len(encoder) == len(tensors)


# ---- Skip-Tuning


@torch.inference_mode()
def test_rho_one_is_bitwise_plain_and_other_rho_is_not() -> None:
    net, arguments = tiny(), inputs()
    plain = net(*arguments)
    assert plain.shape == arguments[0].shape and plain.dtype == torch.float32
    assert torch.equal(net(*arguments, skip_scale=torch.ones(4)), plain)
    assert torch.equal(SkipTuned(net, SkipScale())(*arguments), plain)
    for i in range(4):
        rho = torch.ones(4)
        rho[i] = 0.8
        assert relative_error(net(*arguments, skip_scale=rho), plain) > 1e-4


@torch.inference_mode()
def test_the_deepest_skip_comes_first_and_last_in_the_concat() -> None:
    """Scaling what the shortcut sees of a skip is scaling the columns of its weight that read the skip."""
    net, arguments = tiny(), inputs()
    tuned = net(*arguments, skip_scale=torch.tensor([0.6, 1.0, 1.0, 1.0]), skip_target="shortcut")
    weight = net.model.diffusion_model.output_blocks[0][0].skip_connection.weight
    assert weight.shape[:2] == (64, 128)
    weight[:, 64:] *= 0.6
    assert relative_error(net(*arguments), tuned) < 1e-5


@torch.inference_mode()
def test_every_target_is_of_its_own() -> None:
    net, arguments, rho = tiny(), inputs(), torch.tensor([0.6, 0.7, 0.8, 0.9])
    targets = ("full", "shortcut", "norm_input", "norm_output")
    found = [net(*arguments), *(net(*arguments, rho, target) for target in targets)]
    for i, one in enumerate(found):
        assert all(relative_error(one, other) > 1e-3 for other in found[:i])
    with pytest.raises(ValueError, match="'output'"):
        net(*arguments, rho, "output")


@torch.inference_mode()
def test_coefficients_per_image_equal_one_image_at_a_time() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    rho = torch.rand([3, 4]) + 0.3
    together = net(x, sigma, labels, skip_scale=rho)
    for i in range(3):
        alone = net(x[i : i + 1], sigma[i], labels[i : i + 1], skip_scale=rho[i])
        assert relative_error(together[i : i + 1], alone) < 1e-5


@torch.inference_mode()
def test_no_label_is_the_last_class() -> None:
    net, (x, sigma, _labels) = tiny(), inputs()
    token = net.model.cond_stage_model.embedding.weight
    nothing = net(x, sigma)
    assert relative_error(net(x, sigma, torch.zeros(3, 3)), nothing) < 1e-5
    for label in range(3):
        assert relative_error(net(x, sigma, torch.eye(3)[[label] * 3]), nothing) > 1e-2
        token[label] = token[3]
        assert relative_error(net(x, sigma, torch.eye(3)[[label] * 3]), nothing) < 1e-5


@torch.inference_mode()
def test_half_precision_is_close_and_returns_float32() -> None:
    net, arguments = tiny(), inputs()
    expected = net(*arguments, skip_scale=torch.full([4], 0.8))
    half = tiny().set_dtype(torch.bfloat16)
    assert half.model.diffusion_model.middle_block[1].proj_in.weight.dtype == torch.bfloat16
    got = half(*arguments, skip_scale=torch.full([4], 0.8))
    assert got.dtype == torch.float32
    assert 0 < relative_error(got, expected) < 0.05


@pytest.mark.parametrize(
    "changes", [{}, {"context_dim": None, "num_heads": None, "num_head_channels": 64}]
)
def test_inference_on_every_processor_agrees_with_training(changes: dict[str, Any]) -> None:
    """In inference the products of wide networks may go to another library."""
    kwargs = {"model_channels": 128, "attention_resolutions": [1, 2]} | changes
    net = (
        tiny(**kwargs)
        if changes == {}
        else fill(LDMPrecond(16, 3, 0, channel_mult=[1, 2], **kwargs)).eval()
    )
    x, sigma, labels = inputs()
    expected = net(x, sigma, labels)
    with torch.inference_mode():
        assert relative_error(net(x, sigma, labels), expected) < 1e-5
        assert relative_error(net.channels_last()(x, sigma, labels), expected) < 1e-5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_head_channels": 32}, "either num_heads or"),
        ({"num_heads": None}, "either num_heads or"),
        ({"num_heads": 3}, "3 attention heads"),
        ({"context_dim": None}, "context_dim None"),
        ({"first_stage": {"class": "Decoder"}}, "unknown decoder 'Decoder'"),
        (
            {"first_stage": {"class": "VQDecoder", "embed_dim": 5, "ch": 32}},
            "latents of 5 channels",
        ),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


# ---- the published file format


@pytest.mark.parametrize(
    "settings",
    [
        {},
        PLAIN,
        {"transformer_depth": 2, "channel_mult": [1, 2, 3], "attention_resolutions": [1, 4]},
    ],
    ids=["classes", "unconditional", "levels"],
)
@torch.inference_mode()
def test_a_file_tells_its_network(tmp_path: Path, settings: dict[str, Any]) -> None:
    tensors = write_ldm(tmp_path / "model.ckpt", **settings)
    net = load_network(tmp_path / "model.ckpt")
    assert type(net) is LDMPrecond and not net.training
    # What a safetensors file keeps of it.
    assert LDMPrecond(**net.init_kwargs).init_kwargs == net.init_kwargs
    for name, value in net.state_dict().items():
        assert torch.equal(
            value, tensors[name.replace("model.cond_stage_model", "cond_stage_model")]
        ), name
    assert not any(name in NOT_NEEDED for name in net.state_dict())
    assert net.img_resolution == (32 if "channel_mult" in settings else 16)
    unet, sigma = net.model.diffusion_model, torch.tensor(3.0)
    sigma = net.round_sigma(sigma)
    x = torch.randn(2, 3, net.img_resolution, net.img_resolution)
    context = (
        None if settings is PLAIN else net.model.cond_stage_model.embedding.weight[[-1, 2]][:, None]
    )
    labels = None if settings is PLAIN else torch.eye(9)[[0, 2]] * torch.tensor([[0.0], [1.0]])
    expected = x - sigma * unet(x / (1 + sigma**2).sqrt(), net.table.timestep(sigma)[None], context)
    assert relative_error(net(x, sigma, labels), expected) < 1e-5


@pytest.mark.parametrize("settings", [{}, PLAIN], ids=["classes", "unconditional"])
@pytest.mark.parametrize(
    ("told", "keyword", "value"),
    [("num_heads", "num_heads", 2), ("head_channels", "num_head_channels", 16)],
)
def test_heads_take_the_place_of_those_assumed(
    tmp_path: Path,
    settings: dict[str, Any],
    told: str,
    keyword: str,
    value: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_ldm(tmp_path / "model.ckpt", **settings)
    preset = Preset("mine", licence="ours", path=str(tmp_path / "model.ckpt"), **{told: value})  # type: ignore[arg-type]
    monkeypatch.setattr("training.presets.load_presets", lambda: {"mine": preset})
    net = load_network("mine")
    heads = {
        name: net.init_kwargs[name]
        for name in ("num_heads", "num_head_channels")
        if name in net.init_kwargs
    }
    assert heads == {keyword: value} and net.assumed == "latents of 16 x 16"


def test_averaged_weights_are_preferred_where_the_file_has_them_all(tmp_path: Path) -> None:
    tensors = ldm_tensors(**PLAIN)
    unet = {n: v for n, v in tensors.items() if n.startswith("model.diffusion_model.")}
    averages = {
        f"model_ema.{n.removeprefix('model.').replace('.', '')}": v + 1 for n, v in unet.items()
    }
    for extra, change in ((averages, 1), (dict(list(averages.items())[1:]), 0)):
        write_lightning(tmp_path / "model.ckpt", tensors | extra)
        loaded = load_network(tmp_path / "model.ckpt").state_dict()
        assert all(torch.equal(loaded[name], value + change) for name, value in unet.items())


@torch.inference_mode()
def test_latents_are_decoded_and_the_decoder_is_stored_with_the_network(tmp_path: Path) -> None:
    write_ldm(tmp_path / "model.ckpt")
    net = load_network(tmp_path / "model.ckpt")
    assert (net.image_channels, net.image_resolution) == (3, 32)
    latents = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    images = net.decode(latents)
    assert images.shape == (3, 3, 32, 32) and images.dtype == torch.float32
    assert relative_error(images, vq_decoder()(latents.float())) < 1e-5
    assert torch.equal(net.decode(latents[1:2]), images[1:2])
    save_network(net, tmp_path / "again.safetensors")
    assert torch.equal(load_network(tmp_path / "again.safetensors").decode(latents), images)
    assert relative_error(net.channels_last().decode(latents), images) < 1e-5


@torch.inference_mode()
def test_a_kl_first_stage_has_its_scale_in_the_file(tmp_path: Path) -> None:
    decoder = fill(KLDecoder(32, [1, 1], 1, embed_dim=3)).eval()
    assert isinstance(decoder, KLDecoder)
    tensors = ldm_tensors(decoder=decoder) | {"scale_factor": torch.tensor(0.5)}
    write_lightning(tmp_path / "model.ckpt", tensors)
    net, z = load_network(tmp_path / "model.ckpt"), torch.randn(1, 3, 16, 16)
    decoder.scale_factor = 0.5
    assert relative_error(net.decode(z), decoder(z)) < 1e-5


@torch.inference_mode()
def test_an_autoencoder_takes_the_place_of_that_in_the_file(tmp_path: Path) -> None:
    without = {
        name: v for name, v in ldm_tensors().items() if not name.startswith("first_stage_model.")
    }
    write_lightning(tmp_path / "model.ckpt", without)
    net, z = load_network(tmp_path / "model.ckpt"), torch.randn(1, 3, 16, 16)
    for ask in (lambda: net.decode(z), lambda: net.image_channels, lambda: net.image_resolution):
        with pytest.raises(ValueError, match="--autoencoder=PATH"):
            ask()
    decoder = vq_decoder(n_embed=7)
    write_lightning(
        tmp_path / "vq.ckpt", dict(decoder.state_dict()) | {"loss.weight": torch.ones(2)}
    )
    net = load_network(tmp_path / "model.ckpt", autoencoder=tmp_path / "vq.ckpt")
    assert relative_error(net.decode(z), decoder(z)) < 1e-5
    write_kl(tmp_path / "kl.pth")
    with pytest.raises(
        ValueError, match=r"kl\.pth: the autoencoder has latents of 4 channels, the network of 3"
    ):
        load_network(tmp_path / "model.ckpt", autoencoder=tmp_path / "kl.pth")


def broken(name: str) -> dict[str, Tensor]:
    tensors = ldm_tensors()
    head, tail = "model.diffusion_model.", "first_stage_model."
    if name == "other":
        return {"encoder.weight": torch.ones(2, 2)}
    if name == "missing":
        del tensors[f"{head}middle_block.1.transformer_blocks.0.attn2.to_k.weight"]
    if name == "unexpected":
        tensors[f"{head}label_emb.weight"] = torch.ones(4)
    if name == "shape":
        tensors[f"{head}out.2.weight"] = torch.ones(3, 32, 1, 1)
    if name == "decoder":
        del tensors[f"{tail}decoder.conv_out.weight"]
    if name == "schedule":
        tensors["betas"] = torch.linspace(0.0015, 0.0195, 1000)
    if name == "short":
        tensors["betas"] = tensors["betas"][:1]
    if name == "classless":
        tensors["cond_stage_model.embedding.weight"] = torch.ones(0, 24)
    if name == "width":
        tensors[f"{head}input_blocks.3.0.in_layers.2.weight"] = torch.ones(33, 32, 3, 3)
    return tensors


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "no tensor model.diffusion_model.input_blocks.0.0.weight"),
        (
            "missing",
            r"1 missing \(model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight",
        ),
        ("unexpected", r"1 unexpected \(model.diffusion_model.label_emb.weight\)"),
        ("shape", r"out.2.weight \[3, 32, 1, 1\] for \[3, 32, 3, 3\]"),
        ("decoder", "KL or VQ autoencoder"),
        ("schedule", "not evenly spaced in their root"),
        ("short", "1 times"),
        ("classless", "0 classes"),
        ("width", "33 channels"),
    ],
)
def test_files_that_hold_something_else_are_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    write_lightning(tmp_path / "model.ckpt", broken(name))
    with pytest.raises(ValueError, match=message) as caught:
        load_network(tmp_path / "model.ckpt")
    assert "\n" not in str(caught.value) and "model.ckpt" in str(caught.value)


def test_a_schedule_of_its_own_is_read_from_the_file(tmp_path: Path) -> None:
    table = torch.linspace(0.001**0.5, 0.02**0.5, 500, dtype=torch.float64) ** 2
    write_lightning(tmp_path / "model.ckpt", ldm_tensors() | {"betas": table.float()})
    _name, kwargs, _tensors = read_ldm(tmp_path / "model.ckpt")
    assert (kwargs["beta_start"], kwargs["beta_end"], kwargs["num_timesteps"]) == (0.001, 0.02, 500)


def test_scale_shift_norms_are_refused_by_name(tmp_path: Path) -> None:
    tensors = ldm_tensors(**PLAIN)
    name = "model.diffusion_model.middle_block.0.emb_layers.1.weight"
    tensors[name] = torch.cat([tensors[name]] * 2)
    write_lightning(tmp_path / "model.ckpt", tensors)
    with pytest.raises(ValueError, match=r"scale-shift norms .*LSUN-churches.* is not supported"):
        load_network(tmp_path / "model.ckpt")
