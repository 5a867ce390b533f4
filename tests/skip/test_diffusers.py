"""skip.apply on tiny random diffusers U-Nets, against forward passes whose skips are multiplied by hand."""

import copy
import functools
import io
import pickle
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import relative_error
from tiny_network import tiny_network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import skip
from skip.diffusers import remove, sigma_from_scheduler
from skip.scale import SkipScale
from training.families.latent.discrete import NoiseTable

diffusers: Any = None

ROOT = Path(__file__).resolve().parents[2]
TINY = {"sample_size": 8, "norm_num_groups": 2, "layers_per_block": 1, "attention_head_dim": 4}
RAMP = SkipScale(0.6, 1.1)
K_BLOCKS = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownBlock2D", "KDownBlock2D"),
    "up_block_types": ("UpBlock2D", "KUpBlock2D"),
}


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Imported with the first test: it takes seconds, and every worker collects every file."""
    global diffusers
    diffusers = pytest.importorskip(
        "diffusers", reason="needs the package diffusers: pip install diffusers"
    )


def pixel_unet(**other: Any) -> Any:
    """A UNet2DModel of two resolutions and four skips."""
    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    config = TINY | {"block_out_channels": (4, 8), "down_block_types": down, "up_block_types": up}
    return diffusers.UNet2DModel(**config | other).eval()


def text_unet(**other: Any) -> Any:
    """A UNet2DConditionModel of two resolutions and four skips, blocks as in SD 1.5."""
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    config = TINY | {"block_out_channels": (4, 8), "down_block_types": down, "up_block_types": up}
    return diffusers.UNet2DConditionModel(**config | {"cross_attention_dim": 6} | other).eval()


def sdxl_unet() -> Any:
    """Blocks, transformer depths and added embeddings as in SDXL: nothing but convolutions at the top resolution."""
    return text_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(4, 8, 8),
        transformer_layers_per_block=(1, 1, 2),
        layers_per_block=2,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=29,
    )


def ncsnpp_unet() -> Any:
    """The blocks of NCSN++, with an image path of their own beside the skips."""
    down, up = ("SkipDownBlock2D", "AttnSkipDownBlock2D"), ("AttnSkipUpBlock2D", "SkipUpBlock2D")
    return pixel_unet(down_block_types=down, up_block_types=up, block_out_channels=(32, 32))


def kandinsky_unet() -> Any:
    """Blocks as in Kandinsky 2."""
    down = ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D")
    up = ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D")
    mid = "UNetMidBlock2DSimpleCrossAttn"
    return text_unet(down_block_types=down, up_block_types=up, mid_block_type=mid)


def inputs(unet: Any, batch: int = 2) -> dict[str, Any]:
    """Arguments of a forward pass."""
    x = torch.randn(batch, unet.config.in_channels, 8, 8, dtype=unet.dtype)
    given: dict[str, Any] = {"sample": x, "timestep": torch.tensor(500)}
    if "cross_attention_dim" in unet.config:
        given["encoder_hidden_states"] = torch.randn(batch, 3, 6, dtype=unet.dtype)
    if unet.config.get("addition_embed_type"):
        texts, times = torch.randn(batch, 5, dtype=unet.dtype), torch.arange(6.0).repeat(batch, 1)
        given["added_cond_kwargs"] = {"text_embeds": texts, "time_ids": times}
    return given


class Offload:
    """What accelerate's sequential offload does to a module: weights on meta, there only while a layer runs."""

    def __init__(self, unet: Any) -> None:
        self.layers = [m for m in unet.modules() if m is unet or m._parameters or m._buffers]
        for layer in self.layers:
            weights = dict(layer.named_parameters(recurse=False))
            old = layer.forward
            vars(layer)["_hf_hook"], vars(layer)["_old_forward"] = self, old
            layer.forward = functools.update_wrapper(
                functools.partial(self.forward, layer, weights), old
            )
            self.hide(layer, weights)

    @staticmethod
    def hide(layer: Any, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            layer._parameters[name] = torch.nn.Parameter(weight.to("meta"), requires_grad=False)

    def forward(self, layer: Any, weights: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        layer._parameters.update(weights)
        try:
            return layer._old_forward(*args, **kwargs)
        finally:
            self.hide(layer, weights)

    def remove(self) -> None:
        """Leave the layers' forward as it was; the weights stay where they are, as with accelerate."""
        for layer in self.layers:
            layer.forward = vars(layer).pop("_old_forward")
            del vars(layer)["_hf_hook"]


def accelerated(unet: Any) -> Any:
    """The same by accelerate itself."""
    accelerate = pytest.importorskip("accelerate", reason="needs the package accelerate")
    accelerate.cpu_offload(unet, execution_device=torch.device("cpu"))


TIMED: dict[str, Any] = {"sigma_of_timestep": lambda t: t.double() + 1}


@pytest.mark.parametrize("offload", [Offload, accelerated])
@pytest.mark.parametrize(
    ("scale", "more"),
    [(RAMP, {}), (SkipScale(0.6, 1.1, window=(0, 1e9)), TIMED), (SkipScale(), {})],
    ids=["constant", "timed", "plain"],
)
def test_layers_that_are_offloaded_one_by_one(
    offload: Any, scale: SkipScale, more: dict[str, Any]
) -> None:
    """In any order with skip.apply; and what is removed leaves the plain U-Net, offloaded."""
    unets = [text_unet()]
    unets += [copy.deepcopy(unets[0]) for _ in range(2)]
    plain_net, before, after = unets
    given = inputs(plain_net)
    with torch.no_grad():
        plain = plain_net(**given).sample
        with skip.apply(plain_net, scale, **more):
            tuned = plain_net(**given).sample

        offload(before)
        assert next(before.parameters()).device.type == "meta"
        applied = [skip.apply(before, scale, **more), skip.apply(after, scale, **more)]
        offload(after)
        for unet, one in zip((before, after), applied, strict=True):
            for _ in range(2):
                assert torch.equal(unet(**given).sample, tuned)
            one.remove()
            assert torch.equal(unet(**given).sample, plain)
            with skip.apply(unet, scale, **more):
                assert torch.equal(unet(**given).sample, tuned)
            assert torch.equal(unet(**given).sample, plain)
    assert torch.equal(plain, tuned) == scale.is_identity


@pytest.mark.parametrize(
    "more",
    [{}, {"scale": SkipScale(0.6, 1.1, window=(0, 1e9)), **TIMED}],
    ids=["constant", "timed"],
)
def test_offloading_that_ends_first(more: dict[str, Any]) -> None:
    """Its hooks come off while the U-Net is tuned: remove() still leaves what was there before both."""
    unet = text_unet()
    weights = {name: weight.clone() for name, weight in unet.state_dict().items()}
    given = inputs(unet)
    with torch.no_grad():
        plain = unet(**given).sample
        offload = Offload(unet)
        applied = skip.apply(unet, **{"scale": RAMP} | more)
        offload.remove()
        unet.load_state_dict(weights, assign=True)
        assert not torch.equal(unet(**given).sample, plain)
        applied.remove()
        assert torch.equal(unet(**given).sample, plain)


def by_hand(unet: Any, rho: Tensor, given: dict[str, Any]) -> Tensor:
    """The U-Net written out, with skips multiplied by rho [k] where they enter."""
    x, context = given["sample"], given.get("encoder_hidden_states")
    emb = unet.time_embedding(unet.time_proj(given["timestep"].expand(len(x))).to(unet.dtype))
    if "added_cond_kwargs" in given:
        added = given["added_cond_kwargs"]
        emb = emb + unet.get_aug_embed(
            emb=emb, encoder_hidden_states=context, added_cond_kwargs=added
        )

    def attend(module: Any, h: Tensor) -> Tensor:
        return (
            module(h)
            if context is None
            else module(h, encoder_hidden_states=context, return_dict=False)[0]
        )

    h = unet.conv_in(x)
    skips = [h]
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", [None] * len(block.resnets))
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            h = resnet(h, emb)
            h = h if attention is None else attend(attention, h)
            skips.append(h)
        for downsample in block.downsamplers or []:
            h = downsample(h)
            skips.append(h)
    h = unet.mid_block.resnets[0](h, emb)
    for attention, resnet in zip(
        unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True
    ):
        h = resnet(attend(attention, h), emb)
    factors = list(rho.to(unet.dtype))
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", [None] * len(block.resnets))
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            h = resnet(torch.cat([h, factors.pop(0) * skips.pop()], dim=1), emb)
            h = h if attention is None else attend(attention, h)
        for upsample in block.upsamplers or []:
            h = upsample(h)
    assert not factors
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("make", "num_skips"), [(pixel_unet, 4), (text_unet, 4), (sdxl_unet, 9)])
@torch.inference_mode()
def test_skips_are_multiplied_where_they_enter(
    make: Any, num_skips: int, dtype: torch.dtype
) -> None:
    unet = make().to(dtype)
    # As with batched guidance: two images, each without and with its condition.
    given = inputs(unet, batch=4)
    plain = unet(**given).sample
    assert torch.equal(plain, by_hand(unet, torch.ones(num_skips), given))
    layers = tuple(0.5 + 0.1 * i for i in range(num_skips))
    for scale in (
        RAMP,
        SkipScale(layers=layers),
        SkipScale(layers=(0.2, *[1.0] * (num_skips - 1))),
    ):
        with skip.apply(unet, scale) as applied:
            assert applied.num_skips == num_skips
            tuned = unet(**given).sample
        assert tuned.dtype == dtype
        assert torch.equal(tuned, by_hand(unet, scale.per_layer(num_skips).float(), given))
        assert relative_error(tuned, plain) > 1e-3
    assert torch.equal(unet(**given).sample, plain)


@pytest.mark.parametrize("make", [pixel_unet, text_unet, ncsnpp_unet, kandinsky_unet])
@torch.inference_mode()
def test_the_last_channels_of_each_resnet_are_scaled(make: Any) -> None:
    unet = make()
    given = inputs(unet)
    with skip.apply(unet, RAMP):
        tuned = unet(**given).sample
    # Channels of the skips, as the encoder makes them.
    widths: list[int] = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        block.register_forward_hook(
            lambda _, args, output: widths.extend(d.shape[1] for d in output[1])
        )
    factors = iter(RAMP.per_layer(4).tolist())

    def scale_last_channels(resnet: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        h = args[0].clone()
        h[:, h.shape[1] - widths.pop() :] *= next(factors)
        return (h, *args[1:])

    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.register_forward_pre_hook(scale_last_channels)
    assert torch.equal(tuned, unet(**given).sample)
    assert not widths


@torch.inference_mode()
def test_rho_follows_the_timestep_per_image() -> None:
    unet, scheduler = text_unet(), diffusers.DDIMScheduler()
    a = scheduler.alphas_cumprod.double()
    sigma = ((1 - a) / a).sqrt()
    scale = SkipScale(0.5, 0.9, time="increasing", window=(0.0, float(sigma[800])))
    steps = torch.tensor([10, 400, 801])
    given = inputs(unet, batch=3)
    one_by_one = [
        by_hand(
            unet,
            scale(4, sigma[t]),
            given | {"sample": x[None], "timestep": t, "encoder_hidden_states": c[None]},
        )
        for t, x, c in zip(steps, given["sample"], given["encoder_hidden_states"], strict=True)
    ]
    with skip.apply(unet, scale, scheduler):
        together = unet(**given | {"timestep": steps}).sample
        single = unet(given["sample"][:1], steps[0], given["encoder_hidden_states"][:1]).sample
        number = unet(given["sample"][:1], 10, given["encoder_hidden_states"][:1]).sample
        with pytest.raises(RuntimeError, match=r"call unet\(...\)"):
            unet.forward(**given)
    assert relative_error(together, torch.cat(one_by_one)) < 1e-5
    assert torch.equal(single, one_by_one[0])
    assert torch.equal(number, single)
    with skip.apply(unet, scale, sigma_of_timestep=lambda t: sigma[t]):
        assert torch.equal(unet(**given | {"timestep": steps}).sample, together)


@torch.inference_mode()
def test_rho_is_linear_in_the_timestep() -> None:
    unet, scheduler = (
        text_unet(),
        diffusers.DDIMScheduler(beta_schedule="scaled_linear", num_train_timesteps=101),
    )
    scale = SkipScale(layers=(0.2, 0.4, 0.6, 0.8), time="increasing", axis="time")
    steps = torch.tensor([0, 25, 100])
    rho = torch.tensor([[0.2, 0.4, 0.6, 0.8], [0.4, 0.55, 0.7, 0.85], [1.0] * 4])
    given = inputs(unet, batch=3)
    one_by_one = []
    for number in range(3):
        one = {
            name: value[number : number + 1] if isinstance(value, Tensor) and value.ndim else value
            for name, value in given.items()
        }
        one_by_one.append(by_hand(unet, rho[number], one | {"timestep": steps[number]}))
    with skip.apply(unet, scale, scheduler):
        together = unet(**given | {"timestep": steps}).sample
    assert relative_error(together, torch.cat(one_by_one)) < 1e-5

    for how in ({"sigma_of_timestep": lambda t: t + 1.0}, {}):
        with pytest.raises(ValueError, match=r"pass scheduler=pipe.scheduler"):
            skip.apply(unet, scale, **how)  # type: ignore[arg-type]


def test_the_timesteps_of_a_scheduler_are_those_of_our_own_table() -> None:
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    table = NoiseTable()
    steps = torch.arange(0, 1000, 37)
    time = table.relative_time(sigma_from_scheduler(scheduler)(steps))
    assert time.tolist() == pytest.approx((steps.double() / 999).tolist())


def test_sigma_of_a_timestep() -> None:
    scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear")
    sigma = sigma_from_scheduler(scheduler)
    expected = torch.cumprod(1 - scheduler.betas.double(), 0).reciprocal().sub(1).sqrt()
    # alphas_cumprod is float32.
    assert torch.allclose(sigma(torch.arange(1000)), expected, rtol=1e-4)
    halfway = sigma(torch.tensor(300.5))
    assert halfway.item() == pytest.approx((expected[300] * expected[301]).sqrt().item(), rel=1e-4)
    assert (
        sigma(torch.tensor([[-3.0], [2000.0]])).tolist()
        == sigma(torch.tensor([[0], [999]])).tolist()
    )
    zero_snr = diffusers.DDIMScheduler(rescale_betas_zero_snr=True)
    assert sigma_from_scheduler(zero_snr)(torch.tensor([998, 999])).isfinite().all()


@torch.inference_mode()
def test_a_pipeline_is_tuned_and_untuned() -> None:
    unet, scheduler = pixel_unet(), diffusers.DDIMScheduler(clip_sample=False)
    pipe = diffusers.DDIMPipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)

    def images() -> Tensor:
        random = torch.Generator().manual_seed(5)
        return torch.from_numpy(
            pipe(batch_size=2, generator=random, num_inference_steps=3, output_type="np").images
        )

    def sampled_by_hand(rho: Tensor) -> Tensor:
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
        scheduler.set_timesteps(3)
        for t in scheduler.timesteps:
            x = scheduler.step(by_hand(unet, rho, {"sample": x, "timestep": t}), t, x).prev_sample
        return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    state = {name: value.clone() for name, value in unet.state_dict().items()}
    plain = images()
    assert torch.equal(plain, sampled_by_hand(torch.ones(4)))
    with skip.apply(unet, SkipScale()):
        assert torch.equal(images(), plain)
    handle = skip.apply(unet, RAMP)
    tuned = images()
    assert torch.equal(tuned, sampled_by_hand(RAMP.per_layer(4).float()))
    assert not torch.equal(tuned, plain)
    assert unet.state_dict().keys() == state.keys()
    handle.remove()
    assert torch.equal(images(), plain)
    assert all(torch.equal(value, state[name]) for name, value in unet.state_dict().items())


def test_nothing_stays_behind() -> None:
    unet = pixel_unet()
    before = [{**vars(module)} for module in unet.modules()]
    for scale in (SkipScale(), RAMP, SkipScale(0.8, window=(0.1, 1.0))):
        handle = skip.apply(unet, scale, diffusers.DDIMScheduler())
        with pytest.raises(ValueError, match="Skip-Tuned already"):
            skip.apply(unet, RAMP)
        handle.remove()
        handle.remove()
        with pytest.raises(RuntimeError, match="was removed"), handle:
            pass
        assert [vars(module) for module in unet.modules()] == before
    with pytest.raises(ZeroDivisionError), skip.apply(unet, RAMP):
        raise ZeroDivisionError
    old, new = handle, skip.apply(unet, RAMP)
    old.remove()  # another's handle
    assert "_skip_tuning" in vars(unet)
    new.remove()


@torch.inference_mode()
def test_a_copy_stays_tuned_on_its_own_weights() -> None:
    unet = pixel_unet()
    given = inputs(unet)
    with skip.apply(unet, RAMP):
        twin = copy.deepcopy(unet)
        tuned = unet(**given).sample
    assert torch.equal(twin(**given).sample, tuned)
    twin.load_state_dict({name: value * 0.5 for name, value in unet.state_dict().items()})
    unet.load_state_dict(twin.state_dict())
    assert torch.equal(twin(**given).sample, by_hand(unet, RAMP.per_layer(4).float(), given))


SCHEDULED: dict[str, Any] = {"scale": SkipScale(0.6, 1.1, window=(0.1, 1e9), time="increasing")}


@pytest.mark.parametrize("more", [{}, SCHEDULED], ids=["constant", "timed"])
@torch.inference_mode()
def test_a_saved_unet_stays_tuned_until_it_is_removed(more: dict[str, Any]) -> None:
    unet = text_unet()
    given = inputs(unet)
    plain = unet(**given).sample
    file = io.BytesIO()
    with skip.apply(unet, **{"scale": RAMP, "scheduler": diffusers.DDIMScheduler()} | more):
        tuned = unet(**given).sample
        torch.save(unet, file)
    file.seek(0)
    twins = [torch.load(file, weights_only=False), pickle.loads(pickle.dumps(unet))]
    with skip.apply(unet, **{"scale": RAMP, "scheduler": diffusers.EDMEulerScheduler()} | more):
        twins.append(pickle.loads(pickle.dumps(unet)))
    assert torch.equal(twins[0](**given).sample, tuned) and not torch.equal(tuned, plain)
    assert torch.equal(twins[1](**given).sample, plain)
    with pytest.raises(ValueError, match=r"skip.diffusers.remove\(unet\)"):
        skip.apply(twins[0], RAMP)
    for twin in twins:
        remove(twin)
        assert torch.equal(twin(**given).sample, plain)
        assert not [name for module in twin.modules() for name in vars(module) if "_skip_" in name]
        with skip.apply(twin, **{"scale": RAMP, "scheduler": diffusers.DDIMScheduler()} | more):
            assert torch.equal(twin(**given).sample, tuned)


@torch.inference_mode()
def test_a_tuned_unets_own_files_are_those_of_the_plain_one(tmp_path: Path) -> None:
    unet = text_unet()
    given = inputs(unet)
    plain = unet(**given).sample
    with skip.apply(unet, RAMP):
        unet.save_pretrained(tmp_path)
    assert torch.equal(type(unet).from_pretrained(tmp_path)(**given).sample, plain)


class NoFourier(TorchDispatchMode):
    """A device or an exporter that knows no Fourier transform."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "fft" in str(func):
            raise NotImplementedError(str(func))
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def test_works_where_freeu_cannot() -> None:
    unet = text_unet()
    given = inputs(unet)
    with skip.apply(unet, RAMP), NoFourier():
        assert unet(**given).sample.isfinite().all()
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    with pytest.raises(NotImplementedError, match="fft"), NoFourier():
        unet(**given)


@torch.no_grad()
def test_compiled_code_notices() -> None:
    one_block = {
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "add_attention": False,
    }
    unet = diffusers.UNet2DModel(block_out_channels=(4,), **{**TINY, **one_block}).eval()
    given = inputs(unet)
    compilations = 0

    def backend(graph: torch.fx.GraphModule, example: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return graph

    compiled = torch.compile(unet, backend=backend, fullgraph=True)
    plain = unet(**given).sample
    assert torch.equal(compiled(**given).sample, plain)  # compiled before Skip-Tuning
    for scale in (RAMP, SkipScale(0.3, 0.3)):
        with skip.apply(compiled, scale):
            tuned = unet(**given).sample
            assert torch.equal(compiled(**given).sample, tuned)
            assert not torch.equal(tuned, plain)
    assert torch.equal(compiled(**given).sample, plain)
    assert compilations == 2  # plain and tuned, whatever rho
    with skip.apply(unet, SkipScale(0.3, time="decreasing"), diffusers.DDIMScheduler()):
        for step in (100, 900):
            timed = given | {"timestep": torch.tensor(step)}
            assert torch.equal(compiled(**timed).sample, unet(**timed).sample)
    assert torch.equal(compiled(**given).sample, plain)


@torch.no_grad()
def test_compiled_code_notices_behind_a_replaced_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = pixel_unet()
    given, resets = inputs(unet), []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(1))
    unet.up_blocks[0].forward = functools.partial(unet.up_blocks[0].forward)  # as offloading does
    with skip.apply(unet, RAMP):
        tuned = unet(**given).sample
    assert torch.equal(tuned, by_hand(unet, RAMP.per_layer(4).float(), given))
    assert resets == [1]
    assert isinstance(vars(unet.up_blocks[0])["forward"], functools.partial)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: diffusers.AutoencoderKL(),
            "AutoencoderKL, only of .*UNet2DModel, .* and UniDiffuserModel$",
        ),
        (
            lambda: diffusers.DDIMPipeline(pixel_unet(), diffusers.DDIMScheduler()),
            "DDIMPipeline.*; pass its .unet",
        ),
        (lambda: torch.nn.DataParallel(pixel_unet()), "a DataParallel, .*; pass its .module$"),
        (lambda: tiny_network(), "an? EDMPrecond, .*; a network of this package is tuned by"),
        (lambda: text_unet(**K_BLOCKS), r"up_blocks\[1\] is a KUpBlock2D, .*BLOCKS$"),
    ],
)
def test_unknown_networks_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        skip.apply(make(), RAMP)


def test_a_subclass_of_a_known_block_is_unknown() -> None:
    unet = pixel_unet()
    unet.up_blocks[1].__class__ = type("MyUpBlock2D", (type(unet.up_blocks[1]),), {})
    with pytest.raises(ValueError, match=r"up_blocks\[1\] is a MyUpBlock2D"):
        skip.apply(unet, RAMP)


def test_what_does_not_fit_is_refused() -> None:
    unet, scheduler = pixel_unet(), diffusers.DDIMScheduler()
    before = [{**vars(module)} for module in unet.modules()]
    with pytest.raises(
        ValueError, match=r"scale is 0.9; give a SkipScale, such as SkipScale\(bottom=0.9\)"
    ):
        skip.apply(unet, 0.9)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 skip coefficients given; this network has 4"):
        skip.apply(unet, SkipScale(layers=(0.5, 0.6, 0.7)))
    for scale in (SkipScale(0.8, time="increasing"), SkipScale(0.8, window=(0.1, 1.0))):
        with pytest.raises(
            ValueError, match=r"pass scheduler=pipe.scheduler, or sigma_of_timestep"
        ):
            skip.apply(unet, scale)
    with pytest.raises(ValueError, match="not both"):
        skip.apply(unet, RAMP, scheduler, lambda t: t)
    assert [vars(module) for module in unet.modules()] == before


# ---- what the documents show


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "diffusers_tiny.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 long skips, rho [0.8, ") and len(lines) == 4
    assert lines[-1] == "after removal bitwise the plain images: True"


def test_the_recipe_of_the_readme_runs() -> None:
    (recipe,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(recipe.splitlines()) <= 5
    unet, scheduler = pixel_unet(), diffusers.DDIMScheduler()
    pipe = diffusers.DDIMPipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    names: dict[str, Any] = {"pipe": pipe, "prompt": 1}
    exec(recipe, names)
    assert names["image"].size == (8, 8) and "_skip_tuning" not in vars(unet)


def test_in_stable_diffusions_own_pipeline() -> None:
    """Batched guidance, scheduler and decoder as StableDiffusionPipeline has them, with random weights."""
    pytest.importorskip("transformers", reason="the pipeline's module imports it")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=None, tokenizer=None, unet=text_unet(), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    texts = {"prompt_embeds": torch.randn(1, 3, 6), "negative_prompt_embeds": torch.zeros(1, 3, 6)}

    def image() -> Any:
        random = torch.Generator().manual_seed(1)
        return pipe(
            **texts, guidance_scale=3.0, num_inference_steps=3, generator=random, output_type="np"
        ).images

    plain = image()
    with skip.apply(pipe.unet, SkipScale(1.0, 1.0)):
        assert (image() == plain).all(), "rho = 1 is bitwise the plain pipeline"
    with skip.apply(pipe.unet, RAMP):
        assert (image() != plain).any()
    with skip.apply(pipe.unet, SkipScale(0.5, window=(1.0, 1000.0)), scheduler=pipe.scheduler):
        assert (image() != plain).any()
    assert (image() == plain).all()
