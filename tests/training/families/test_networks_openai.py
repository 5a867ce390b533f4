"""OpenAI's consistency models against the official implementation's vectors, and their files as others write them."""

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import golden_json, golden_npz, relative_error
from oracle_openai import Oracle
from standins_openai import TINY, shapes, weights, written
from torch import Tensor

from sampling.consistency import consistency
from sampling.denoiser import bind
from sampling.onestep import heun
from sampling.samplers import sample
from sampling.sigmas import edm
from skip.studies.norms import skip_norms
from torch_utils.weights import check_names
from training.checkpoint import load_network, save_network
from training.families.openai import ConsistencyPrecond, convert, is_openai, read_openai
from training.families.table import FAMILIES
from training.precond import EDMPrecond, Precond

FACTS, ARRAYS = golden_json("consistency_model"), golden_npz("consistency_model")
FULLSIZE = golden_json("fullsize_cd_imagenet64")
TOLERANCE = 1e-5  # the README allows 1e-4


@cache
def published(**changes: Any) -> ConsistencyPrecond:
    """The network of the golden vectors; its heads have 32 channels."""
    # The tests that follow share it, and one of them wants gradients.
    with torch.inference_mode(False):
        kwargs, tensors = convert(
            weights({name: shape for name, (shape, _) in FACTS["state_dict"].items()})
        )
        return built(kwargs | {"channels_per_head": 32} | changes, tensors)


def built(kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> ConsistencyPrecond:
    net = ConsistencyPrecond(**kwargs)
    check_names(net.state_dict(), tensors)
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def read(path: Path) -> ConsistencyPrecond:
    name, kwargs, tensors = read_openai(path)
    assert name == "ConsistencyPrecond"
    return built(kwargs, tensors)


def array(key: str) -> Tensor:
    return torch.from_numpy(ARRAYS[key])


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return array("x"), array("sigma"), torch.eye(10)[array("y")]


# ---- the network


@torch.inference_mode()
def test_the_raw_network_is_our_dhariwal_unet() -> None:
    got = published().model(array("raw/x"), array("raw/timesteps"), inputs()[2])
    assert relative_error(got, ARRAYS["raw/out"]) < TOLERANCE


@torch.inference_mode()
def test_the_oracle_agrees_with_the_official_network() -> None:
    state = weights({name: shape for name, (shape, _) in FACTS["state_dict"].items()})
    blocks = published().init_kwargs["num_blocks"]
    got = Oracle(state, blocks, head_channels=32)(
        array("raw/x"), array("raw/timesteps"), array("y")
    )
    assert relative_error(got, ARRAYS["raw/out"]) < TOLERANCE


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("mult", [(1, 2), (1, 1, 2)])
@torch.inference_mode()
def test_networks_of_lsun_have_no_scale_shift_norm(
    scale_shift: bool, mult: tuple[int, ...], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {
        "classes": 0,
        "mult": mult,
        "attention": (len(mult) - 1,),
        "scale_shift": scale_shift,
    }
    path = written(tmp_path, "cd_bedroom256_lpips.pt", **changes)
    net = load_network(path)
    assert net.init_kwargs.get("adaptive_scale", True) == scale_shift and net.label_dim == 0
    x, sigma = torch.randn(2, 3, net.img_resolution, net.img_resolution), torch.tensor([0.5, 40.0])
    c_skip, c_out, c_in, c_noise = net.scalings(sigma.reshape(-1, 1, 1, 1))
    raw = Oracle(torch.load(path), blocks=1)(c_in * x, c_noise.flatten())
    assert relative_error(net(x, sigma), c_skip * x + c_out * raw) < TOLERANCE
    save_network(net, tmp_path / "net.safetensors")
    assert torch.equal(load_network(tmp_path / "net.safetensors")(x, sigma), net(x, sigma))


@torch.inference_mode()
def test_both_preconditionings() -> None:
    assert relative_error(published()(*inputs()), ARRAYS["distilled/denoised"]) < TOLERANCE
    plain = published(sigma_min=0.0)
    assert relative_error(plain(*inputs()), ARRAYS["edm/denoised"]) < TOLERANCE
    # They can be told.
    assert relative_error(ARRAYS["edm/denoised"], ARRAYS["distilled/denoised"]) > 3 * TOLERANCE


@pytest.mark.parametrize("name", FACTS["rho"])
@torch.inference_mode()
def test_golden_skip_tuning(name: str) -> None:
    net, (bottom, top) = published(), map(float, name.split("_"))
    k = net.num_skips
    assert k == FACTS["k"]
    rho = bottom + (top - bottom) / k * torch.arange(k)
    assert rho.tolist() == pytest.approx(FACTS["rho"][name])
    got = net(*inputs(), skip_scale=rho)
    assert relative_error(got, ARRAYS[f"distilled/denoised_skip_{name}"]) < TOLERANCE


def test_golden_skip_norms() -> None:
    assert (
        relative_error(skip_norms(published(), *inputs()).T, ARRAYS["distilled/prop_per_sample"])
        < 1e-5
    )


def test_coefficients_by_hand() -> None:
    net = published(sigma_min=0.1)
    c_skip, c_out, c_in, c_noise = net.scalings(torch.tensor(1.3, dtype=torch.float64))
    assert float(c_skip) == pytest.approx(0.25 / (1.2**2 + 0.25))
    assert float(c_out) == pytest.approx(1.2 * 0.5 / (1.3**2 + 0.25) ** 0.5)
    assert float(c_in) == pytest.approx((1.3**2 + 0.25) ** -0.5)
    assert float(c_noise) == pytest.approx(65.59106611687277)  # 250 ln 1.3
    edms = EDMPrecond.scalings(net, torch.tensor(1.3))
    for ours, theirs in zip(
        published(sigma_min=0.0).scalings(torch.tensor(1.3))[:3], edms[:3], strict=True
    ):
        assert float(ours) == pytest.approx(float(theirs))


@torch.inference_mode()
def test_the_lowest_level_is_the_image_itself() -> None:
    x = inputs()[0]
    assert torch.equal(published()(x, 0.002, inputs()[2]), x)


@torch.inference_mode()
def test_rho_one_is_bitwise_plain_and_rows_are_images() -> None:
    net, arguments = published(), inputs()
    ones = torch.ones(net.num_skips)
    assert torch.equal(net(*arguments, skip_scale=ones), net(*arguments))
    rho = torch.rand([3, net.num_skips]) + 0.3
    together = net(*arguments, skip_scale=rho)
    x, sigma, labels = arguments
    for i in range(3):
        alone = net(x[i : i + 1], sigma[i], labels[i : i + 1], skip_scale=rho[i])
        assert relative_error(together[i : i + 1], alone) < 1e-5
    assert relative_error(together, net(*arguments)) > 1e-3


def test_gradients_flow_into_every_coefficient() -> None:
    rho = torch.full([published().num_skips], 0.8, requires_grad=True)
    published()(*inputs(), skip_scale=rho).square().sum().backward()
    assert rho.grad is not None and (rho.grad != 0).all()


def test_channels_that_cannot_be_split_are_refused() -> None:
    kwargs: dict[str, Any] = {"num_blocks": 1, "attn_resolutions": [8]}
    with pytest.raises(ValueError, match="16 channels are no multiple of 32"):
        ConsistencyPrecond(16, 3, model_channels=16, channel_mult=[1, 4], **kwargs)
    with pytest.raises(ValueError, match="64 channels are no multiple of 48"):
        ConsistencyPrecond(
            16, 3, model_channels=32, channel_mult=[1, 2], channels_per_head=48, **kwargs
        )
    with pytest.raises(ValueError, match="a ConsistencyPrecond has a DhariwalUNet"):
        ConsistencyPrecond(16, 3, model_type="SongUNet")


# ---- sampling as published


def noises() -> list[Tensor]:
    return [array(f"sample/noise{i}") for i in range(3)]


@torch.inference_mode()
def test_one_step() -> None:
    nodes = torch.tensor([80.0], dtype=torch.float64)
    got = sample(consistency, bind(published(), inputs()[2]), noises()[0], nodes)
    assert relative_error(got, ARRAYS["sample/onestep"]) < TOLERANCE


@pytest.mark.parametrize("ending", ["zero", "sigma_min"])
@torch.inference_mode()
def test_several_steps(ending: Any) -> None:
    """The published sampler visits its last level without denoising there: it only adds noise, of scale 0."""
    first, *others = noises()
    levels = edm(FACTS["multistep"]["steps"], 0.002, 80.0)[FACTS["multistep"]["ts"]]
    draws = iter(others)
    solver = partial(consistency, randn_like=lambda x: next(draws).to(x))
    got = sample(
        solver,
        bind(published(), inputs()[2]),
        first,
        levels[:2] if ending == "zero" else levels,
        ending,
    )
    assert relative_error(got, ARRAYS["sample/multistep"]) < TOLERANCE


@torch.inference_mode()
def test_the_diffusion_model_on_the_ode() -> None:
    denoise = bind(published(sigma_min=0.0), inputs()[2])
    got = sample(
        heun, lambda x, sigma: denoise(x, sigma).clamp(-1, 1), noises()[0], edm(5, 0.002, 80.0)
    )
    # The published sampler's state is float32.
    assert relative_error(got, ARRAYS["sample/edm_heun5"]) < 1e-4


# ---- the file


def test_the_stand_ins_are_laid_out_as_published() -> None:
    mult, classes = FULLSIZE["unet_attrs"]["channel_mult"], FULLSIZE["unet_attrs"]["num_classes"]
    assert shapes(192, mult, 3, (1, 2, 3), classes) == {
        k: v[0] for k, v in FULLSIZE["state_dict"].items()
    }
    small = shapes(32, (1, 2), 2, (1,), 10)
    assert list(small.items()) == [(k, v[0]) for k, v in FACTS["state_dict"].items()]


def test_published_networks_have_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        kwargs, tensors = convert(
            {name: torch.empty(shape) for name, (shape, _) in FULLSIZE["state_dict"].items()}
        )
        net = ConsistencyPrecond(**kwargs)
    check_names(net.state_dict(), tensors)
    assert kwargs == {
        "img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_type": "DhariwalUNet",
        "model_channels": 192, "channel_mult": [1, 2, 3, 4], "channel_mult_emb": 4, "num_blocks": 3,
        "attn_resolutions": [32, 16, 8], "dropout": 0.0, "channels_per_head": 64,
    }  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == FULLSIZE["n_params"]
    assert net.num_skips == FULLSIZE["n_output_blocks"] == 16
    heads = {
        m.num_heads * 64 == m.out_channels for m in net.modules() if getattr(m, "num_heads", 0)
    }
    assert heads == {True}


@pytest.mark.parametrize(
    "name, levels",
    [
        ("cd_imagenet64_l2.pt", (0.002, 80.0)), ("0a1b2c3d-cd_imagenet64_lpips.pt", (0.002, 80.0)),
        ("ct_imagenet64.pt", (0.002, 80.0)), ("0edm2c3d-edm_imagenet64_ema.pt", (0.0, float("inf"))),
        ("3cd4e5f6-edm_imagenet64_ema.pt", (0.0, float("inf"))),
    ],
)  # fmt: skip
def test_the_name_tells_the_kind(tmp_path: Path, name: str, levels: tuple[float, float]) -> None:
    net = read(written(tmp_path, name))
    assert (net.sigma_min, net.sigma_max) == levels


def test_a_name_that_does_not_tell_the_kind_is_refused(tmp_path: Path) -> None:
    for name in ("model.pt", "edm_to_cd.pt", "3cd4e5f6-model.pt", "cdx.pt"):
        path = written(tmp_path, name)
        with pytest.raises(ValueError, match="begin it with cd_, ct_ or edm_"):
            read_openai(path)
    assert read_openai(path.rename(tmp_path / "edm_a.pt"))[1]["sigma_min"] == 0
    assert (
        read_openai((tmp_path / "edm_a.pt").rename(tmp_path / "ct_a.pt"))[1]["sigma_min"] == 0.002
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 0}, {"mult": (2,), "attention": (0,)}, {"attention": ()},
        {"blocks": 2, "mult": (1, 1, 2), "attention": (2,)},
        {"image_channels": 1, "mult": (2, 1, 4), "attention": (0, 2)},
    ],
)  # fmt: skip
@torch.inference_mode()
def test_other_sizes(tmp_path: Path, changes: dict[str, Any]) -> None:
    sizes = TINY | {"image_channels": 3} | changes
    net = read(written(tmp_path, **changes))
    channels, side = sizes["image_channels"], 8 << (len(sizes["mult"]) - 1)
    assert (net.img_channels, net.img_resolution, net.label_dim) == (
        channels,
        side,
        sizes["classes"],
    )
    assert net.num_skips == len(sizes["mult"]) * (sizes["blocks"] + 1)
    labels = torch.eye(net.label_dim)[:2] if net.label_dim else None
    assert net(torch.randn(2, channels, side, side), 80.0, labels).shape == (
        2,
        channels,
        side,
        side,
    )


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    whole, half = weights(shapes(**TINY)), tmp_path / "cd_half.pt"
    torch.save({name: value.half() for name, value in whole.items()}, half)
    net = read(half)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert torch.equal(net.model.out_conv.weight, whole["out.2.weight"].half().float())


@torch.inference_mode()
def test_our_own_format_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "ConsistencyPrecond", ConsistencyPrecond)
    save_network(published(), tmp_path / "cd.safetensors")
    loaded: Precond = load_network(tmp_path / "cd.safetensors")
    assert loaded.init_kwargs == published().init_kwargs and loaded.sigma_min == 0.002
    assert torch.equal(loaded(*inputs()), published()(*inputs()))


def test_the_first_bytes_tell_the_format(tmp_path: Path) -> None:
    def recognised(content: Any, **settings: Any) -> bool:
        torch.save(content, tmp_path / "file", **settings)
        with open(tmp_path / "file", "rb") as file:
            return is_openai(file.read(512))

    tiny = weights(shapes(**TINY))
    assert recognised(tiny) and recognised(OrderedDict(tiny))
    assert not recognised({f"model.diffusion_model.{i}": torch.ones(1) for i in range(3)})
    assert not recognised(tiny, _use_new_zipfile_serialization=False)
    assert not is_openai(b"")


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_other_files_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cd_other.pt"

    def reading(content: Any) -> str:
        torch.save(content, path)
        return refusal(lambda: read_openai(path))

    assert "wants to run posix.mkdir" in reading({"a": Runs()})
    assert not Path("ran").exists()
    assert "wants to run torch.nn.modules.linear.Linear" in reading({"net": torch.nn.Linear(1, 1)})
    for content in ({"state_dict": {"a": torch.ones(1)}}, [torch.ones(1)], {1: torch.ones(1)}):
        assert "no state_dict" in reading(content)
    path.write_bytes(path.read_bytes()[:600])
    assert "truncated or damaged" in refusal(lambda: read_openai(path))


def test_other_networks_are_refused_in_one_line() -> None:
    tiny = weights(shapes(**TINY))

    def converting(**changes: Tensor) -> str:
        return refusal(
            lambda: convert(
                tiny | {name.replace("__", "."): value for name, value in changes.items()}
            )
        )

    def without(old: str, new: str | None = None) -> str:
        found = {
            k.replace(old, new or old): v for k, v in tiny.items() if new or not k.startswith(old)
        }
        return refusal(lambda: convert(found))

    assert "not those of an OpenAI U-Net: there is no middle_block.1.qkv.weight" in without(
        "middle_block.1.qkv"
    )
    assert "no residual block input_blocks.3.0" in without("input_blocks.3.0")
    assert "4 output blocks are not the same number" in without(
        "output_blocks.1.2.", "output_blocks.2.1."
    )
    assert "one that learns its variance" in converting(out__2__weight=torch.zeros(6, 32, 3, 3))
    assert "not 1x1 convolutions" in converting(
        middle_block__1__qkv__weight=torch.zeros(192, 64, 1)
    )
    resampler = torch.zeros(32, 32, 3, 3)
    assert "1 tensors have no place in a DhariwalUNet: input" in converting(
        input_blocks__2__0__op__weight=resampler
    )
    assert "80 channels are no multiple of 32" in converting(
        input_blocks__3__0__in_layers__2__weight=torch.zeros(80, 32, 3, 3)
    )
    for name, shape in (
        ("out__2__weight", []), ("time_embed__0__weight", [0, 0]), ("middle_block__1__qkv__weight", [64, 64, 1, 1]),
    ):  # fmt: skip
        assert "shapes are not those of an OpenAI U-Net (" in converting(
            **{name: torch.zeros(shape)}
        )


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tiny = weights(shapes(**TINY))
    del tiny["output_blocks.1.0.out_layers.3.bias"]
    torch.save(tiny, tmp_path / "cd_less.pt")
    with pytest.raises(ValueError, match=r"1 missing \(model.dec.8x8_block1.conv1.bias\)"):
        read(tmp_path / "cd_less.pt")
