"""Networks and preconditioning against the official implementations' vectors, and Skip-Tuning's properties."""

import json
from pathlib import Path
from typing import Any

import edm_pickles
import oracle_adm
import pytest
import torch
from conftest import GOLDEN, fill, golden_json, golden_npz, relative_error
from torch import Tensor

from training.blocks.layers import GroupNorm
from training.checkpoint import load_network
from training.networks import SKIP_TARGETS, UNetBlock
from training.precond import PRECONDS, EDMPrecond, Precond, iDDPMPrecond

FACTS, ARRAYS = golden_json("edm_networks"), golden_npz("edm_networks")
SKIP_FACTS, SKIP_ARRAYS = golden_json("edm_skip_tuning"), golden_npz("edm_skip_tuning")
NETS = [name for name, fact in FACTS.items() if isinstance(fact, dict) and "kwargs" in fact]
SKIP_NETS = sorted({key.split("/")[0] for key in SKIP_ARRAYS})
WHERE = {"both": "full", "orig_only": "shortcut", "norm0_only": "norm_input"}
TINY: dict[str, Any] = {
    "model_type": "DhariwalUNet",
    "model_channels": 16,
    "channel_mult": [1, 4],
    "num_blocks": 1,
    "attn_resolutions": [4],
}


def build(name: str) -> Precond:
    return fill(PRECONDS[FACTS[name]["precond_class"]](**FACTS[name]["kwargs"])).eval()


def tensor(net: str, key: str) -> Tensor:
    return torch.from_numpy(ARRAYS[f"{net}/{key}"])


def labels_of(name: str) -> Tensor | None:
    dim = FACTS[name]["kwargs"]["label_dim"]
    return torch.eye(dim)[tensor(name, "class_idx")] if dim else None


def tolerance(name: str) -> float:
    return 5e-5 if name.startswith("vp_") else 1e-5


def tiny(**changes: Any) -> EDMPrecond:
    return fill(EDMPrecond(8, 3, 5, **(TINY | changes))).eval()


def inputs(batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn([batch, 3, 8, 8], generator=generator)
    return x, torch.tensor([0.1, 1.0, 20.0])[:batch], torch.eye(5)[torch.arange(batch)]


@pytest.mark.parametrize("name", NETS)
@torch.inference_mode()
def test_golden_networks(name: str) -> None:
    net, labels = build(name), labels_of(name)
    assert [[k, list(v.shape)] for k, v in net.state_dict().items()] == [
        [k, v[0]] for k, v in FACTS[name]["state_dict"].items()
    ]
    assert net.sigma_min == pytest.approx(FACTS[name]["sigma_min"], rel=1e-6)
    assert net.sigma_max == pytest.approx(float(FACTS[name]["sigma_max"]), rel=1e-6)
    raw: list[Tensor] = []
    watch = net.model.register_forward_hook(lambda _module, _args, output: raw.append(output))
    got = {
        "D": net(tensor(name, "x"), tensor(name, "sigma"), labels),
        "F": raw[0],  # with what D leaves out: the variances of iDDPM
        "D_scalar": net(tensor(name, "x_scalar"), tensor(name, "sigma_scalar"), labels),
    }
    if f"{name}/D_nolabel" in ARRAYS:
        got["D_nolabel"] = net(tensor(name, "x"), tensor(name, "sigma"))
    if f"{name}/D_aug" in ARRAYS:
        augment = tensor(name, "augment_labels")
        got["D_aug"] = net(tensor(name, "x"), tensor(name, "sigma"), labels, augment_labels=augment)
    watch.remove()
    for key, value in got.items():
        assert relative_error(value, ARRAYS[f"{name}/{key}"]) < tolerance(name), key


def skip_cases() -> list[tuple[str, str]]:
    return [tuple(key.split("/", 1)) for key in SKIP_ARRAYS if "/D_" in key]  # type: ignore[misc]


@pytest.mark.parametrize(("name", "key"), skip_cases())
@torch.inference_mode()
def test_golden_skip_tuning(name: str, key: str) -> None:
    net = build(name)
    arguments = (tensor(name, "x"), tensor(name, "sigma"), labels_of(name))
    if key == "D_rho1":
        got = net(*arguments)
    else:
        where, bottom, top = key.removeprefix("D_").rsplit("_", 2)
        k = net.num_skips
        rho = float(bottom) + (float(top) - float(bottom)) * torch.arange(k) / k
        got = net(*arguments, skip_scale=rho, skip_target=WHERE[where])
    assert relative_error(got, SKIP_ARRAYS[f"{name}/{key}"]) < tolerance(name)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("fullsize_edm_*.json")), ids=lambda p: p.stem)
def test_published_networks_have_the_published_names_and_shapes(path: Path) -> None:
    facts = json.loads(path.read_text())
    kwargs = dict(facts["network_kwargs"])
    with torch.device("meta"):
        net = PRECONDS[kwargs.pop("class_name").rsplit(".", 1)[-1]](**kwargs)
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == {
        k: v[0] for k, v in facts["state_dict"].items()
    }
    assert sum(p.numel() for p in net.parameters()) == facts["n_params"]
    assert net.num_skips == facts["n_concat"]


@torch.inference_mode()
def test_oracle_agrees() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    weights = dict(net.state_dict())
    rho = torch.linspace(0.5, 1.2, net.num_skips)
    assert (
        relative_error(net(x, sigma, labels), oracle_adm.denoise(weights, x, sigma, labels)) < 1e-5
    )
    tuned = net(x, sigma, labels, skip_scale=rho)
    assert relative_error(tuned, oracle_adm.denoise(weights, x, sigma, labels, rho)) < 1e-5
    assert relative_error(tuned, net(x, sigma, labels)) > 1e-3


@pytest.mark.parametrize("target", SKIP_TARGETS)
@pytest.mark.parametrize("name", ["edm_adm", "edm_ncsnpp"])
@torch.inference_mode()
def test_rho_one_is_bitwise_plain(name: str, target: str) -> None:
    net, x, sigma = build(name), tensor(name, "x"), tensor(name, "sigma")
    ones = torch.ones(net.num_skips)
    assert torch.equal(net(x, sigma, skip_scale=ones, skip_target=target), net(x, sigma))


@pytest.mark.parametrize("target", SKIP_TARGETS)
@torch.inference_mode()
def test_coefficients_per_image_equal_one_image_at_a_time(target: str) -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    rho = torch.rand([3, net.num_skips]) + 0.3
    together = net(x, sigma, labels, skip_scale=rho, skip_target=target)
    for i in range(3):
        alone = net(
            x[i : i + 1], sigma[i], labels[i : i + 1], skip_scale=rho[i], skip_target=target
        )
        assert relative_error(together[i : i + 1], alone) < 1e-5


@pytest.mark.parametrize("target", SKIP_TARGETS)
def test_gradients_flow_into_every_coefficient(target: str) -> None:
    net, (x, sigma, labels) = (
        fill(EDMPrecond(8, 3, 5, **(TINY | {"channel_mult": [1, 5]}))).eval(),
        inputs(),
    )
    rho = torch.full([net.num_skips], 0.8, requires_grad=True)
    net(x, sigma, labels, skip_scale=rho, skip_target=target).square().sum().backward()
    assert rho.grad is not None and (rho.grad != 0).all()

    net.double()
    net.dtype = torch.float64  # finite differences need the digits

    def value(r: Tensor) -> float:
        with torch.inference_mode():
            return float(
                net(x, sigma, labels, skip_scale=r, skip_target=target).double().square().sum()
            )

    step = 1e-2 * torch.eye(net.num_skips)[-1]
    numeric = (value(rho.detach() + step) - value(rho.detach() - step)) / 2e-2
    assert float(rho.grad[-1]) == pytest.approx(numeric, rel=0.02)


@torch.inference_mode()
def test_coefficients_may_be_plain_numbers() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    expected = net(x, sigma, labels, skip_scale=torch.tensor([0.5, 0.75, 1.0, 0.0]))
    assert torch.equal(net(x, sigma, labels, skip_scale=[0.5, 0.75, 1.0, 0.0]), expected)
    with pytest.raises(ValueError, match=r"shape \(\); this network has 4 long skips"):
        net(x, sigma, labels, skip_scale=0.5)


@torch.inference_mode()
def test_zero_cuts_the_skips() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    assert net(x, sigma, labels, skip_scale=torch.zeros(net.num_skips)).isfinite().all()


def test_block_puts_the_scaled_skip_last() -> None:
    block = fill(UNetBlock(in_channels=24, out_channels=8, emb_channels=16)).eval()
    u, d, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    joined = block(u, emb, d, torch.tensor(0.7))
    assert torch.equal(joined, block(torch.cat([u, 0.7 * d], dim=1), emb))
    assert torch.equal(joined, block(u, emb, d, 0.7)) and torch.equal(
        joined, block(u, emb, d, torch.full([2], 0.7))
    )


def test_norm_output_scales_what_the_norm_gives() -> None:
    block = fill(UNetBlock(in_channels=24, out_channels=8, emb_channels=16)).eval()
    u, d, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    tuned = block(u, emb, d, torch.tensor(0.7), "norm_output")
    with torch.no_grad():  # scaling norm0's affine on the skip's channels is the same thing
        block.norm0.weight[16:] *= 0.7
        block.norm0.bias[16:] *= 0.7
    assert relative_error(tuned, block(u, emb, d)) < 1e-5


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 4), (4, 4)])
def test_skip_scale_of_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    assert net.num_skips == 4
    with pytest.raises(ValueError, match="4 long skips"):
        net(x, sigma, labels, skip_scale=torch.ones(shape))


def test_unknown_names_are_refused() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    with pytest.raises(ValueError, match="full, shortcut, norm_input, norm_output"):
        net(x, sigma, labels, skip_scale=torch.ones(4), skip_target="both")
    with pytest.raises(ValueError, match="full, shortcut, norm_input, norm_output"):
        UNetBlock(24, 8, 16)(
            torch.ones(1, 16, 4, 4), torch.ones(1, 16), torch.ones(1, 8, 4, 4), 0.5, "both"
        )
    with pytest.raises(ValueError, match="DhariwalUNet, SongUNet"):
        EDMPrecond(8, 3, model_type="UNet")
    with pytest.raises(ValueError, match="standard, skip, residual"):
        EDMPrecond(8, 3, model_type="SongUNet", encoder_type="plain")
    with pytest.raises(ValueError, match="3 levels, but images of side 6 cannot be halved 2 times"):
        EDMPrecond(6, 3, **(TINY | {"channel_mult": [1, 1, 1]}))
    with pytest.raises(ValueError, match="2 channels do not divide into"):
        EDMPrecond(8, 3, **(TINY | {"model_channels": 2, "attn_resolutions": []}))


@torch.inference_mode()
def test_half_precision_is_close_and_returns_float32() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    expected = net(x, sigma, labels)
    half = tiny().set_dtype(torch.bfloat16)
    got = half(x, sigma, labels)
    assert got.dtype == torch.float32
    assert 0 < relative_error(got, expected) < 0.05
    assert relative_error(half(x, sigma, labels, force_fp32=True), expected) < 0.05


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@torch.inference_mode()
def test_memory_format_does_not_matter(memory_format: torch.memory_format) -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    moved = tiny().to(memory_format=memory_format)
    assert (
        relative_error(
            moved(x.to(memory_format=memory_format), sigma, labels), net(x, sigma, labels)
        )
        < 1e-5
    )


def test_training_step_reaches_every_parameter() -> None:
    net = EDMPrecond(8, 3, 5, augment_dim=4, **TINY, label_dropout=0.1).train()
    x, sigma, labels = inputs()
    for _ in range(3):  # the zero-initialised layers open one after the other
        net(x, sigma, labels, augment_labels=torch.randn(3, 4)).square().mean().backward()
        with torch.no_grad():
            for param in net.parameters():
                param += 0.01 * torch.randn_like(param)
    assert all(param.grad is not None and param.grad.abs().sum() > 0 for param in net.parameters())


def test_iddpm_levels() -> None:
    facts, arrays = golden_json("precond_facts"), golden_npz("precond_facts")
    net = iDDPMPrecond(
        8, 3, model_type="SongUNet", model_channels=16, channel_mult=[1], num_blocks=1
    )
    assert torch.allclose(net.u, torch.from_numpy(arrays["iddpm_u"]), rtol=2e-6, atol=0)
    query = torch.from_numpy(arrays["iddpm_query_sigma"])
    exact = torch.from_numpy(arrays["iddpm_round_index_exact_argmin"])
    assert int((net.level_index(query).reshape(-1) != exact.reshape(-1)).sum()) == 0
    assert torch.equal(
        net.round_sigma(query), net.u[exact.reshape(-1)].to(query.dtype).reshape(query.shape)
    )
    assert facts["iddpm"]["M"] == net.M


def test_vp_times() -> None:
    arrays = golden_npz("precond_facts")
    net = PRECONDS["VPPrecond"](
        8, 3, model_channels=16, channel_mult=[1], num_blocks=1, attn_resolutions=[]
    )
    t = torch.from_numpy(arrays["vp_t"])
    assert relative_error(net.sigma(t), arrays["vp_sigma_of_t"]) < 1e-6
    assert (
        relative_error(
            net.sigma_inv(torch.from_numpy(arrays["vp_sigma_of_t"])), arrays["vp_sigma_inv"]
        )
        < 1e-5
    )


@pytest.mark.gpu
@torch.inference_mode()
def test_same_on_a_gpu() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    expected = net(x, sigma, labels)
    got = net.cuda()(x.cuda(), sigma.cuda(), labels.cuda()).cpu()
    assert relative_error(got, expected) < 1e-3


@pytest.mark.parametrize("channels", [1, 33])
def test_channels_that_make_no_groups_are_named(channels: int) -> None:
    with pytest.raises(ValueError, match=f"^{channels} channels do not divide into"):
        GroupNorm(channels)


@pytest.mark.parametrize("channels", [32, 40])
def test_attention_at_fewer_channels_than_a_head_has_is_no_attention(
    channels: int, tmp_path: Path
) -> None:
    """As in EDM, whose number of heads is channels // 64: with 0 of them the block has no layers for it."""
    settings: dict[str, Any] = {
        "img_resolution": 8,
        "img_channels": 1,
        "model_channels": channels,
        "num_blocks": 1,
    }
    net = EDMPrecond(**settings, channel_mult=[1, 2], attn_resolutions=[8, 4])
    found = {name.split(".")[2] for name in net.state_dict() if ".qkv." in name}
    assert found == {
        f"{side}x{side}_{block}" for side, block in ((4, "block0"), (4, "in0"), (4, "block1"))
    }
    attended = {
        name: block for name, block in net.model.enc.items() if isinstance(block, UNetBlock)
    }
    plain = UNetBlock(channels, channels, 4 * channels)
    assert attended["8x8_block0"].state_dict().keys() == plain.state_dict().keys()
    path = tmp_path / "network.pkl"
    path.write_bytes(
        edm_pickles.edm_snapshot("EDMPrecond", net.init_kwargs, fill(net).state_dict())
    )
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.5, 3.0])
    with torch.inference_mode():
        assert torch.equal(load_network(path)(x, sigma), net.eval()(x, sigma))
    with pytest.raises(ValueError, match="160 channels cannot have 3 heads"):
        UNetBlock(32, 160, 32, attention=True, channels_per_head=50)
