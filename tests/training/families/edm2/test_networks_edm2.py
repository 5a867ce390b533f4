"""EDM2's network against the official implementation's vectors, its published files, and Skip-Tuning's properties."""

import copy
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_json, golden_npz, relative_error
from standins_edm2 import FACTS, edm2_snapshot, fill_edm2, published
from torch import Tensor

from sampling.denoiser import bind
from sampling.onestep import heun
from sampling.samplers import sample
from sampling.sigmas import edm
from skip.studies.norms import skip_norms, slice_norms
from training.blocks.layers import Conv2d
from training.edm_pickle import read_snapshot
from training.families.edm2.layers import MPConv, mp_cat, mp_silu, mp_sum, normalized, resampled
from training.families.edm2.unet import EDM2Block, EDM2Precond

ARRAYS, PICKLES = golden_npz("edm2"), golden_npz("pickles_expected")
TINY: dict[str, Any] = {"img_resolution": 8, "img_channels": 3, "label_dim": 5, "model_channels": 8} | {
    "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "channels_per_head": 8, "logvar_channels": 4,
}  # fmt: skip


@cache
def golden_network() -> EDM2Precond:
    return published()


def array(key: str) -> Tensor:
    return torch.from_numpy(ARRAYS[key])


def golden_inputs() -> tuple[Tensor, Tensor, Tensor]:
    return array("x"), array("sigma"), torch.eye(10)[array("class_idx")]


def rho_of(name: str) -> Tensor:
    return torch.tensor(FACTS["rho"][name])


def tiny(**changes: Any) -> EDM2Precond:
    return fill_edm2(EDM2Precond(**TINY | changes)).eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn([3, 3, 8, 8], generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.1, 1.0, 20.0]), torch.eye(5)[:3]


# ---- reference vectors


@torch.inference_mode()
def test_golden_outputs() -> None:
    net, (x, sigma, labels) = golden_network(), golden_inputs()
    assert [[name, list(v.shape)] for name, v in net.state_dict().items()] == [
        [name, shape] for name, (shape, _) in FACTS["state_dict"].items()
    ]
    got = {
        "D": net(x, sigma, labels),
        "D_scalar": net(array("x_scalar"), array("sigma_scalar"), labels),
        "D_nolabel": net(x, sigma),
        "logvar": net.logvar(sigma),
    }
    for key, value in got.items():
        assert relative_error(value, ARRAYS[key]) < 1e-5, key


@pytest.mark.parametrize("name", list(FACTS["rho"]))
@torch.inference_mode()
def test_golden_skip_tuning(name: str) -> None:
    net, rho = golden_network(), rho_of(name)
    got = net(*golden_inputs(), skip_scale=rho)
    assert relative_error(got, ARRAYS[f"D_skip_{name}"]) < 1e-5
    assert relative_error(net(*golden_inputs()), ARRAYS[f"D_skip_{name}"]) > 1e-2


@torch.inference_mode()
def test_golden_norms_of_the_skips() -> None:
    assert golden_network().num_skips == FACTS["k"]
    assert (
        relative_error(skip_norms(golden_network(), *golden_inputs()).T, ARRAYS["prop_per_sample"])
        < 1e-5
    )


def test_slices_of_the_weights_as_they_are_used() -> None:
    net = golden_network()
    u, d = slice_norms(net)
    blocks = [net.unet.dec[name] for name in net.unet._skip_index]
    widths = [64, 64, 64, 64, 32, 32]  # of u; the skips have 64, 64, 32, 32, 32, 32
    for i, (block, width) in enumerate(zip(blocks, widths, strict=True)):
        weight = block.conv_res0.weight.detach().double()
        used = (
            weight
            / (1e-4 + weight.square().mean((1, 2, 3), keepdim=True).sqrt())
            / weight[0].numel() ** 0.5
        )
        assert float(u[i]) == pytest.approx(float(used[:, :width].norm()), rel=1e-6)
        assert float(d[i]) == pytest.approx(float(used[:, width:].norm()), rel=1e-6)


@pytest.mark.parametrize(("run", "rho"), [("rho1", None), ("skip", "0.82_0.82")])
@torch.inference_mode()
def test_golden_sampler(run: str, rho: str | None) -> None:
    net = golden_network()
    denoise = bind(
        partial(net, skip_scale=rho_of(rho)) if rho else net,
        torch.eye(10)[array("sampler/class_idx")],
    )
    settings = FACTS["sampler"]
    nodes = edm(
        settings["num_steps"], settings["sigma_min"], settings["sigma_max"], settings["rho"]
    )
    images = sample(heun, denoise, array("sampler/noise"), nodes)
    assert relative_error(images, ARRAYS[f"sampler/{run}_float64"]) < 4e-5


def test_published_network_has_the_published_names_and_shapes() -> None:
    facts = golden_json("fullsize_edm2_img64_s")
    with torch.device("meta"):
        net = EDM2Precond(**facts["precond_kwargs"])
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == {
        k: v[0] for k, v in facts["state_dict"].items()
    }
    assert list(net.unet.dec) == facts["dec_blocks"]
    assert sum(p.numel() for p in net.parameters()) == facts["n_params"]
    assert net.num_skips == facts["n_concat"]


# ---- published files


def loaded(path: Path, data: bytes) -> EDM2Precond:
    path.write_bytes(data)
    class_name, kwargs, tensors = read_snapshot(path)
    assert class_name == "EDM2Precond"
    net = EDM2Precond(**kwargs)
    net.load_state_dict(tensors, strict=True)
    assert {v.dtype for v in net.state_dict().values()} == {torch.float32}
    return net.eval()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"D_fp16_weights_upcast_to_fp32_first": 1e-5, "D_from_fp16_weights": 5e-4}),
        ({"protocol": 2}, {"D_fp16_weights_upcast_to_fp32_first": 1e-5}),
        (
            {"location": "cuda:0", "latent_encoder": True},
            {"D_fp16_weights_upcast_to_fp32_first": 1e-5},
        ),
        ({"dtype": torch.float32}, {"D_from_fp32_weights": 1e-5}),
    ],
    ids=["proto4", "proto2", "cuda-latent", "float32"],
)
@torch.inference_mode()
def test_snapshots_give_the_official_outputs(
    settings: dict[str, Any], expected: dict[str, float], tmp_path: Path
) -> None:
    net = loaded(tmp_path / "snapshot.pkl", edm2_snapshot(golden_network(), **settings))
    assert net.init_kwargs == FACTS["kwargs"]
    x, sigma, class_idx = (
        torch.from_numpy(PICKLES[f"edm2/{key}"]) for key in ("x", "sigma", "class_idx")
    )
    D = net(x, sigma, torch.eye(10)[class_idx])
    for key, tolerance in expected.items():
        assert relative_error(D, PICKLES[f"edm2/{key}"]) < tolerance, key


# ---- Skip-Tuning


@torch.inference_mode()
def test_rho_one_is_bitwise_plain_and_another_rho_is_not() -> None:
    net, given = tiny(), inputs()
    plain = net(*given)
    assert torch.equal(net(*given, skip_scale=torch.ones(net.num_skips)), plain)
    for i in range(net.num_skips):
        rho = torch.ones(net.num_skips)
        rho[i] = 0.5
        assert relative_error(net(*given, skip_scale=rho), plain) > 1e-3
    assert net(*given, skip_scale=torch.zeros(net.num_skips)).isfinite().all()


@torch.inference_mode()
def test_coefficients_per_image_equal_one_image_at_a_time() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    rho = torch.rand([3, net.num_skips]) + 0.3
    together = net(x, sigma, labels, skip_scale=rho)
    for i in range(3):
        alone = net(x[i : i + 1], sigma[i], labels[i : i + 1], skip_scale=rho[i])
        assert relative_error(together[i : i + 1], alone) < 1e-5


def test_gradients_flow_into_every_coefficient() -> None:
    net, given = tiny(), inputs()
    rho = torch.full([net.num_skips], 0.8, requires_grad=True)
    net(*given, skip_scale=rho).square().sum().backward()
    assert rho.grad is not None and (rho.grad != 0).all()

    net.double().dtype = torch.float64  # finite differences need the digits

    def value(r: Tensor) -> float:
        with torch.inference_mode():
            return float(net(*given, skip_scale=r).double().square().sum())

    step = 1e-2 * torch.eye(net.num_skips)[-1]
    numeric = (value(rho.detach() + step) - value(rho.detach() - step)) / 2e-2
    assert float(rho.grad[-1]) == pytest.approx(numeric, rel=0.02)


@torch.inference_mode()
def test_block_scales_the_skip_before_the_weighted_concatenation() -> None:
    block = EDM2Block(24, 8, 16, flavor="dec", concat_balance=0.3)
    block.emb_gain.fill_(0.7)
    u, d, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    joined = block(u, emb, d, torch.tensor(0.7))
    assert relative_error(joined, block(mp_cat(u, 0.7 * d, 0.3), emb)) < 1e-5
    assert relative_error(joined, block(mp_cat(u, d, 0.3), emb)) > 1e-3


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 4), (4, 4)])
def test_skip_scale_of_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    net = tiny()
    assert net.num_skips == 4
    with pytest.raises(ValueError, match="4 long skips"):
        net(*inputs(), skip_scale=torch.ones(shape))


def test_what_does_not_fit_is_refused() -> None:
    net = tiny()
    with pytest.raises(ValueError, match=r"'norm_input' needs blocks with a norm.*use 'full'"):
        net(*inputs(), skip_scale=torch.ones(4), skip_target="norm_input")
    with pytest.raises(ValueError, match="no augment_labels"):
        net(*inputs(), augment_labels=torch.zeros(3, 9))
    with pytest.raises(ValueError, match="cannot have 3 heads"):
        tiny(model_channels=16, channel_mult=[1, 5], channels_per_head=24)
    with pytest.raises(ValueError, match="filter has 100 taps"):
        tiny(resample_filter=[1] * 100)


def test_attention_needs_as_many_channels_as_a_head_has() -> None:
    """As in the published code: a block of fewer channels has no head, and so no attention."""
    net = tiny(channels_per_head=64)
    assert not any("attn" in name for name in net.state_dict())
    assert any("attn" in name for name in tiny().state_dict())
    assert net(*inputs()).shape == (3, 3, 8, 8)


# ---- the layers


def test_operations_keep_magnitudes() -> None:
    z = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    assert float(torch.trapezoid(mp_silu(z).square() * density, z)) == pytest.approx(1, abs=2e-3)
    # a and b are orthogonal, with entries of magnitude one
    a, b = torch.ones(1, 2, 2, 2), torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    for t in (0.2, 0.5, 0.9):
        total = mp_sum(a, b, t)
        assert float(total.square().mean()) == pytest.approx(1)
        assert float((total * b).mean() / (total * a).mean()) == pytest.approx(t / (1 - t))
        wide = torch.ones(1, 6, 2, 2)
        joined = mp_cat(a, wide, t)
        assert float(joined.square().mean()) == pytest.approx(1)
        parts = joined.split([2, 6], dim=1)
        assert float(parts[1].norm() / parts[0].norm()) == pytest.approx(t / (1 - t))
    x = torch.randn(2, 5, 3, 3)
    assert (
        relative_error(normalized(x, dim=1), x / (1e-4 + x.square().mean(1, keepdim=True).sqrt()))
        < 1e-6
    )


@torch.inference_mode()
def test_the_length_of_a_stored_weight_does_not_matter() -> None:
    conv, x = MPConv(6, 5, 3), torch.randn(4, 6, 8, 8)
    before = conv(x)
    length = conv.weight.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    # Eps is 1e-4.
    assert relative_error(before, F.conv2d(x, conv.weight / length, padding=1)) < 1e-3
    with torch.no_grad():
        conv.weight.mul_(3)
    assert 0 < relative_error(conv(x), before) < 1e-3


def test_a_changed_weight_is_seen() -> None:
    net, other = tiny(), tiny()
    for value in other.state_dict().values():
        value.add_(0.1 * torch.randn_like(value))
    with torch.no_grad():
        first, expected = net(*inputs()), other(*inputs())
        net.load_state_dict(other.state_dict())
        assert torch.equal(net(*inputs()), expected) and not torch.equal(first, expected)
        assert torch.equal(copy.deepcopy(net)(*inputs()), expected)


@torch.no_grad()
def test_large_convolutions_in_channels_last_memory() -> None:
    conv, x = MPConv(128, 130, 3), torch.randn(2, 128, 32, 32)
    conv.to(memory_format=torch.channels_last)
    weight = normalized(conv.weight.double(), dim=(1, 2, 3)) / math.sqrt(128 * 9)
    assert relative_error(conv(x), F.conv2d(x.double(), weight, padding=1)) < 2e-5


@torch.inference_mode()
def test_attention_of_several_heads() -> None:
    block = EDM2Block(12, 12, 4, attention=True, channels_per_head=4, res_balance=0.0)
    x, emb = torch.randn(2, 12, 2, 3), torch.randn(2, 4)
    x = normalized(x, dim=1)
    assert block.num_heads == 3 and block.attn_qkv is not None and block.attn_proj is not None
    mixed = torch.empty_like(x)
    qkv = block.attn_qkv(normalized(x, dim=1)).reshape(2, 3, 4, 3, 6)  # channels (head, d, q|k|v)
    for n in range(2):
        for head in range(3):
            q, k, v = (
                part / (1e-4 + part.square().mean(0).sqrt()) for part in qkv[n, head].unbind(1)
            )  # (d, HW)
            weights = (q.T @ k / 2).softmax(dim=1)
            mixed[n, 4 * head : 4 * head + 4] = (v @ weights.T).reshape(4, 2, 3)
    expected = mp_sum(normalized(x, dim=1), block.attn_proj(mixed), 0.3)
    assert relative_error(block(x, emb), expected) < 1e-5


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_resampling_is_that_of_edm(taps: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 8, 8)
    for mode in ("up", "down"):
        conv = Conv2d(3, 3, 0, up=mode == "up", down=mode == "down", resample_filter=taps)
        assert relative_error(resampled(x, mode, taps), conv(x)) < 1e-6
    assert resampled(x, "keep", taps) is x


@torch.inference_mode()
def test_activations_are_clipped() -> None:
    block = EDM2Block(4, 4, 4, flavor="dec")
    x = 1e4 * torch.randn(1, 4, 2, 2)
    emb = torch.randn(1, 4)
    assert float(block(x, emb).abs().max()) == 256
    block.clip_act = None
    assert float(block(x, emb).abs().max()) > 1000


# ---- the rest of the contract


@torch.inference_mode()
def test_classes_matter_where_there_are_any() -> None:
    x, sigma, labels = inputs()
    net = tiny()
    assert relative_error(net(x, sigma, labels), net(x, sigma)) > 1e-3
    unconditional = tiny(label_dim=0)
    assert unconditional.unet.emb_label is None
    assert torch.equal(unconditional(x, sigma, labels), unconditional(x, sigma))


@torch.inference_mode()
def test_half_precision_is_close_and_returns_float32() -> None:
    expected, half = tiny()(*inputs()), tiny().set_dtype(torch.bfloat16)
    got = half(*inputs())
    assert got.dtype == torch.float32 and half.compute_dtype(torch.device("cpu")) == torch.bfloat16
    assert 0 < relative_error(got, expected) < 0.05
    assert torch.equal(half(*inputs(), force_fp32=True), expected)  # the weights stay float32


@torch.no_grad()
def test_memory_format_does_not_matter() -> None:
    moved = tiny().channels_last()
    assert moved.model.enc["8x8_conv"].weight.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(moved(*inputs()), tiny()(*inputs())) < 1e-5


def test_training_reaches_every_parameter_and_normalises_the_weights() -> None:
    net = tiny(dropout=0.1).train()
    x, sigma, labels = inputs()
    (net(x, sigma, labels).square().mean() + net.logvar(sigma).sum()).backward()
    assert all(param.grad is not None and param.grad.abs().sum() > 0 for param in net.parameters())
    weight = net.unet.out_conv.weight
    # Eps is 1e-4 of a tenth.
    assert torch.allclose(weight.square().mean((1, 2, 3)), torch.ones(3), atol=5e-3)


def test_new_networks_begin_at_the_preconditioning_alone() -> None:
    net, (x, sigma, _) = EDM2Precond(**TINY), inputs()
    # out_gain is 0.
    assert torch.equal(net(x, sigma), net.scalings(sigma.reshape(-1, 1, 1, 1)).c_skip * x)
    assert (net.sigma_min, net.sigma_max, net.img_channels, net.label_dim) == (0, math.inf, 3, 5)
    assert net.round_sigma(1.5) == 1.5


@pytest.mark.gpu
@torch.inference_mode()
def test_same_on_a_gpu() -> None:
    net, (x, sigma, labels) = tiny(), inputs()
    expected = net(x, sigma, labels)
    assert relative_error(net.cuda()(x.cuda(), sigma.cuda(), labels.cuda()).cpu(), expected) < 1e-3
