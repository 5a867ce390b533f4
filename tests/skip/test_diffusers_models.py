"""skip.apply on a tiny random configuration of every model that it knows, against torch.cat with skips multiplied."""

import ast
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import relative_error
from fake_cuda import fake_cuda
from torch import Tensor

import skip
from skip.diffusers import remove
from skip.diffusers.joins import BLOCKS, MODELS, model_of
from skip.methods.table import parse_methods
from skip.scale import SkipScale

diffusers: Any = None
RAMP = SkipScale(0.6, 1.1)
FRAMES = 3


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Imported with the first test: it takes seconds, and every worker collects every file."""
    global diffusers
    diffusers = pytest.importorskip(
        "diffusers", reason="needs the package diffusers: pip install diffusers"
    )


Made = tuple[Any, dict[str, Any]]  # a model, and arguments of its forward for two images or videos
SMALL = {
    "sample_size": 8,
    "norm_num_groups": 2,
    "layers_per_block": 1,
    "block_out_channels": (4, 8),
}


def two_levels(down: str, up: str) -> dict[str, Any]:
    """Block types of two resolutions, attention in one."""
    return {
        "down_block_types": (f"CrossAttn{down}", down),
        "up_block_types": (up, f"CrossAttn{up}"),
    }


def motion() -> Made:
    blocks = two_levels("DownBlockMotion", "UpBlockMotion")
    more = {"cross_attention_dim": 6, "num_attention_heads": 2, "motion_num_attention_heads": 2}
    net = diffusers.UNetMotionModel(**SMALL | blocks | more)
    return net, video() | {"encoder_hidden_states": torch.randn(2 * FRAMES, 3, 6)}


def three_d() -> Made:
    blocks = two_levels("DownBlock3D", "UpBlock3D")
    net = diffusers.UNet3DConditionModel(
        **SMALL | blocks, cross_attention_dim=6, attention_head_dim=4
    )
    return net, video() | {"encoder_hidden_states": torch.randn(2, 3, 6)}


def spatio_temporal() -> Made:
    blocks = two_levels("DownBlockSpatioTemporal", "UpBlockSpatioTemporal")
    net = diffusers.UNetSpatioTemporalConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(32, 32), num_attention_heads=2,
        cross_attention_dim=6, addition_time_embed_dim=4, projection_class_embeddings_input_dim=12,
        in_channels=4, **blocks,
    )  # fmt: skip
    given = {"sample": torch.randn(2, FRAMES, 4, 8, 8), "timestep": torch.tensor(500)}
    more = {"added_time_ids": torch.ones(2, 3), "encoder_hidden_states": torch.randn(2, 1, 6)}
    return net, given | more


def i2vgen() -> Made:
    blocks = two_levels("DownBlock3D", "UpBlock3D")
    net = diffusers.I2VGenXLUNet(**SMALL | blocks, cross_attention_dim=8, attention_head_dim=4)
    more = {"fps": torch.tensor([8, 8]), "image_latents": torch.randn(2, 4, FRAMES, 8, 8)}
    texts = {"image_embeddings": torch.randn(2, 8), "encoder_hidden_states": torch.randn(2, 3, 8)}
    return net, video() | more | texts


def video() -> dict[str, Any]:
    return {"sample": torch.randn(2, 4, FRAMES, 8, 8), "timestep": torch.tensor(500)}


def kandinsky3() -> Made:
    net = diffusers.Kandinsky3UNet(
        time_embedding_dim=8, groups=2, attention_head_dim=4, layers_per_block=2,
        block_out_channels=(8, 8, 12, 16), cross_attention_dim=6, encoder_hid_dim=5,
    )  # fmt: skip
    for module in net.modules():
        # Its norms begin as the identity in the time and all alike: let them differ.
        if type(module).__name__ == "Kandinsky3ConditionalGroupNorm":
            torch.nn.init.normal_(module.context_mlp[1].weight, std=0.1)
    more = {
        "encoder_hidden_states": torch.randn(2, 3, 5),
        "encoder_attention_mask": torch.ones(2, 3),
    }
    return net, {"sample": torch.randn(2, 4, 8, 8), "timestep": torch.tensor(500)} | more


def hunyuan() -> Made:
    net = diffusers.HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=8,
        hidden_size=16, num_layers=8, mlp_ratio=2.0, cross_attention_dim=6, text_len=3,
        cross_attention_dim_t5=8, pooled_projection_dim=4, text_len_t5=3,
        use_style_cond_and_image_meta_size=False,
    )  # fmt: skip
    angles = torch.arange(16)[:, None] * torch.linspace(1, 0.1, 8)
    given = {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, 3, 6),
        "text_embedding_mask": torch.ones(2, 3),
        "encoder_hidden_states_t5": torch.randn(2, 3, 8),
        "text_embedding_mask_t5": torch.ones(2, 3),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }
    return net, given


def cascade() -> Made:
    kinds = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")
    net = diffusers.models.StableCascadeUNet(
        in_channels=4, out_channels=4, timestep_ratio_embedding_dim=4, conditioning_dim=6,
        block_out_channels=(4, 8, 8), num_attention_heads=(1, 1, 1), dropout=(0.0, 0.0, 0.0),
        down_num_layers_per_block=(1, 1, 1), up_num_layers_per_block=(2, 1, 1),
        down_blocks_repeat_mappers=(1, 1, 1), up_blocks_repeat_mappers=(1, 1, 1), clip_seq=1,
        block_types_per_layer=(kinds,) * 3, clip_text_pooled_in_channels=5, self_attn=True,
    )  # fmt: skip
    for module in net.modules():
        # These begin without an effect.
        if type(module).__name__ == "GlobalResponseNorm":
            torch.nn.init.ones_(module.gamma)
        if type(module).__name__ == "SDCascadeResBlock":
            torch.nn.init.normal_(module.channelwise[-1].weight)
    texts = {"clip_text_pooled": torch.randn(2, 1, 5)}
    given = {"sample": torch.randn(2, 4, 8, 8), "timestep_ratio": torch.tensor([0.5, 0.5])}
    return net, given | texts


def sound() -> Made:
    net = diffusers.UNet1DModel(
        sample_size=32, block_out_channels=(32, 32, 64), extra_in_channels=64, in_channels=2,
        time_embedding_type="fourier", use_timestep_embedding=False,
    )  # fmt: skip
    return net, {"sample": torch.randn(2, 2, 32), "timestep": torch.tensor([0.5, 0.5])}


def planner() -> Made:
    net = diffusers.UNet1DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownResnetBlock1D",) * 2, up_block_types=("UpResnetBlock1D",) * 2,
        mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock",
        time_embedding_type="positional", use_timestep_embedding=True, act_fn="swish",
        norm_num_groups=2, flip_sin_to_cos=False, freq_shift=1,
    )  # fmt: skip
    return net, {"sample": torch.randn(2, 3, 8), "timestep": torch.tensor(5)}


def audio() -> Made:
    blocks = two_levels("DownBlock2D", "UpBlock2D")
    net = diffusers.AudioLDM2UNet2DConditionModel(
        **SMALL | blocks, cross_attention_dim=(6, 6), attention_head_dim=2
    )
    texts = {
        "encoder_hidden_states": torch.randn(2, 3, 6),
        "encoder_hidden_states_1": torch.randn(2, 3, 6),
    }
    return net, {"sample": torch.randn(2, 4, 8, 8), "timestep": torch.tensor(500)} | texts


def controlled() -> Made:
    blocks = two_levels("DownBlock2D", "UpBlock2D")
    net = diffusers.UNetControlNetXSModel(
        sample_size=8, block_out_channels=(4, 8), norm_num_groups=2, num_attention_heads=2,
        cross_attention_dim=6, ctrl_block_out_channels=(2, 4), ctrl_num_attention_heads=2,
        ctrl_max_norm_num_groups=2, ctrl_conditioning_embedding_out_channels=(2, 2), **blocks,
    )  # fmt: skip
    for parameter in net.parameters():
        # Its connections begin at 0.
        torch.nn.init.normal_(parameter, std=0.3)
    texts = {"encoder_hidden_states": torch.randn(2, 3, 6)}
    control = {"controlnet_cond": torch.randn(2, 3, 16, 16), "conditioning_scale": 0.7}
    given = {"sample": torch.randn(2, 4, 8, 8), "timestep": torch.tensor(500)}
    return net, given | texts | control


def dreamlite() -> Made:
    from_library = pytest.importorskip("diffusers.models.unets.unet_dreamlite")
    net = from_library.DreamLiteUNetModel(
        **SMALL | {"block_out_channels": (4, 8, 8)}, cross_attention_dim=6, attention_head_dim=4
    )
    texts = {"encoder_hidden_states": torch.randn(2, 3, 6)}
    return net, {"sample": torch.randn(2, 4, 8, 8), "timestep": torch.tensor(500)} | texts


def unidiffuser() -> Made:
    net = diffusers.UniDiffuserModel(
        text_dim=6, clip_img_dim=5, num_text_tokens=3, num_attention_heads=2, attention_head_dim=8,
        in_channels=4, out_channels=4, num_layers=4, sample_size=8, patch_size=2,
        activation_fn="gelu", norm_type="layer_norm", attention_bias=True,
    )  # fmt: skip
    times = {"timestep_img": torch.tensor(500), "timestep_text": torch.tensor(300)}
    given = {
        "latent_image_embeds": torch.randn(2, 4, 8, 8),
        "image_embeds": torch.randn(2, 1, 5),
        "prompt_embeds": torch.randn(2, 3, 6),
    }
    return net, given | times


# A maker -> the number of long skips, and whose forward joins them.
CASES: dict[Callable[[], Made], tuple[int, set[str]]] = {
    motion: (4, {"UpBlockMotion", "CrossAttnUpBlockMotion"}),
    three_d: (4, {"UpBlock3D", "CrossAttnUpBlock3D"}),
    spatio_temporal: (4, {"UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"}),
    i2vgen: (4, {"UpBlock3D", "CrossAttnUpBlock3D"}),
    kandinsky3: (3, {"Kandinsky3UNet"}),
    hunyuan: (3, {"HunyuanDiTBlock"}),
    cascade: (2, {"SDCascadeResBlock"}),
    sound: (3, {"AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"}),
    planner: (2, {"UpResnetBlock1D"}),
    audio: (4, {"UpBlock2D", "CrossAttnUpBlock2D"}),
    controlled: (6, {"ControlNetXSCrossAttnUpBlock2D"}),
    dreamlite: (
        6,
        {
            "DreamLiteCrossAttnUpBlock2D",
            "DreamLiteCrossAttnNoSelfAttnUpBlock2D",
            "DreamLiteUpBlock2D",
        },
    ),
    unidiffuser: (2, {"SkipBlock"}),
}
VIDEOS = (motion, three_d, spatio_temporal, i2vgen)


@contextmanager
def skips_multiplied(where: set[str], factors: list[Tensor]) -> Iterator[None]:
    """In a forward of these classes torch.cat multiplies its second tensor: by the first factor, the next, ..."""
    real = torch.cat

    def cat(tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
        caller = sys._getframe(1)
        of = type(caller.f_locals.get("self")).__name__
        if caller.f_code.co_name == "forward" and of in where:
            hidden, taken = tensors
            rho = factors.pop(0).to(taken.dtype)
            tensors = [hidden, taken * rho.reshape(-1, *[1] * (taken.ndim - 1))]
        return real(tensors, *args, **kwargs)

    torch.cat = cat  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.cat = real
    assert factors == []


def output(net: Any, given: dict[str, Any]) -> Tensor:
    """What the model gives, as one vector."""
    found = net(**given)
    if hasattr(found, "to_tuple"):
        found = found.to_tuple()
    parts = found if isinstance(found, tuple) else (found,)
    return torch.cat([part.flatten() for part in parts])


def made(maker: Callable[[], Made]) -> Made:
    torch.manual_seed(0)
    net, given = maker()
    return net.eval(), given


@pytest.mark.parametrize("maker", CASES)
@torch.inference_mode()
def test_skips_are_multiplied_where_they_enter(maker: Callable[[], Made]) -> None:
    num_skips, where = CASES[maker]
    net, given = made(maker)
    before = [{**vars(module)} for module in net.modules()]
    plain = output(net, given)
    with skips_multiplied(where, [torch.ones(()) for _ in range(num_skips)]):
        assert torch.equal(output(net, given), plain), "these are all the long skips"
    with skip.apply(net, SkipScale()) as applied:
        assert applied.num_skips == num_skips
        assert torch.equal(output(net, given), plain)
    for scale in (RAMP, SkipScale(layers=(0.2, *[1.0] * (num_skips - 1)))):
        with skips_multiplied(where, list(scale.per_layer(num_skips))):
            expected = output(net, given)
        with skip.apply(net, scale):
            assert torch.equal(output(net, given), expected)
        assert not torch.equal(expected, plain)
        assert [vars(module) for module in net.modules()] == before
    assert torch.equal(output(net, given), plain)


@pytest.mark.parametrize("maker", [maker for maker in CASES if maker is not unidiffuser])
@torch.inference_mode()
def test_each_image_or_video_has_the_rho_of_its_own_time(maker: Callable[[], Made]) -> None:
    num_skips, where = CASES[maker]
    net, given = made(maker)
    entry = model_of(net)
    assert entry is not None and entry.timestep is not None
    name, _ = entry.timestep
    times = torch.tensor([0.25, 0.75]).to(given[name].dtype)
    if not times.is_floating_point():
        times = torch.tensor([3, 700])
    given |= {name: times}
    scale = SkipScale(0.5, 0.9, time="increasing")
    rho = scale(num_skips, times.double() + 1)  # [2, k]
    frames = FRAMES if maker in VIDEOS else 1
    factors = [torch.tensor([float(r) for r in column for _ in range(frames)]) for column in rho.T]
    with skips_multiplied(where, factors):
        expected = output(net, given)
    with skip.apply(net, scale, sigma_of_timestep=lambda t: t.double() + 1):
        assert torch.equal(output(net, given), expected)


def test_two_times_at_once_are_not_one_noise_level() -> None:
    net, _ = made(unidiffuser)
    with pytest.raises(ValueError, match="a UniDiffuserModel is told several at once"):
        skip.apply(net, SkipScale(0.9, window=(0.1, 1)), sigma_of_timestep=lambda t: t)


@torch.inference_mode()
def test_residuals_of_a_controlnet_are_scaled_with_the_skips_they_are_added_to() -> None:
    net, given = made(hunyuan)
    residuals = [torch.randn(2, 16, 16) for _ in range(3)]
    with skips_multiplied({"HunyuanDiTBlock"}, list(RAMP.per_layer(3))):
        expected = output(net, given | {"controlnet_block_samples": [*residuals]})
    with skip.apply(net, RAMP):
        assert torch.equal(output(net, given | {"controlnet_block_samples": residuals}), expected)

    net, given = made(motion)
    residuals = [torch.randn(2 * FRAMES, c, s, s) for c, s in ((4, 8), (4, 8), (4, 4), (8, 4))]
    given |= {"down_block_additional_residuals": residuals}
    with skips_multiplied(CASES[motion][1], list(RAMP.per_layer(4))):
        expected = output(net, given)
    with skip.apply(net, RAMP):
        assert torch.equal(output(net, given), expected)


# ---- other methods on the skips


# Of those with maps: the level of each skip, 0 the lowest resolution of the model.
LEVELS: dict[Callable[[], Made], list[int]] = {
    motion: [0, 0, 1, 1],
    three_d: [0, 0, 1, 1],
    spatio_temporal: [0, 0, 1, 1],
    i2vgen: [0, 0, 1, 1],
    kandinsky3: [0, 1, 2],
    audio: [0, 0, 1, 1],
    controlled: [0, 0, 0, 1, 1, 1],
    dreamlite: [0, 0, 1, 1, 2, 2],
}
METHODS = "freeu2:b1=1.4,b2=1.3,s1=0.7,s2=0.8+scalelong:kappa=0.9"


@contextmanager
def skips_joined(where: set[str], act: Callable[[int, Tensor, Tensor], Any]) -> Iterator[None]:
    """As `skips_multiplied`, with a function of (layer, features, skip) instead of factors."""
    real, layer = torch.cat, 0

    def cat(tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal layer
        caller = sys._getframe(1)
        of = type(caller.f_locals.get("self")).__name__
        if caller.f_code.co_name == "forward" and of in where:
            torch.cat = real
            tensors = act(layer, *tensors)
            torch.cat = cat  # type: ignore[assignment]
            layer += 1
        return real(tensors, *args, **kwargs)

    torch.cat = cat  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.cat = real


@pytest.mark.parametrize("maker", LEVELS)
@torch.inference_mode()
def test_methods_act_before_the_skips_are_scaled(maker: Callable[[], Made]) -> None:
    num_skips, where = CASES[maker]
    net, given = made(maker)
    before = [{**vars(module)} for module in net.modules()]
    plain = output(net, given)
    methods, rho = parse_methods(METHODS), RAMP.per_layer(num_skips).float()

    def act(layer: int, u: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        for method in methods:
            u, d = method.join(u, d, layer, LEVELS[maker], torch.ones(()))
        return u, rho[layer] * d

    with skips_joined(where, act):
        expected = output(net, given)
    with skip.apply(net, RAMP, methods=METHODS) as applied:
        assert applied.num_skips == num_skips
        twin = pickle.loads(pickle.dumps(net))
        for copy in (net, twin):
            assert torch.equal(output(copy, given), expected)
    assert not torch.allclose(expected, plain)
    assert [vars(module) for module in net.modules()] == before
    remove(twin)
    assert torch.equal(output(twin, given), plain)
    for nothing in ("", "freeu:b1=1", ()):
        with skip.apply(net, SkipScale(), methods=nothing):
            assert torch.equal(output(net, given), plain)


@pytest.mark.parametrize("maker", [motion, three_d, i2vgen])
@torch.inference_mode()
def test_freeu_is_that_of_the_library(maker: Callable[[], Made]) -> None:
    net, given = made(maker)
    plain = output(net, given)
    net.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    theirs = output(net, given)
    net.disable_freeu()
    with skip.apply(net, SkipScale(), methods="freeu:s1=0.9,s2=0.2,b1=1.2,b2=1.4"):
        assert relative_error(output(net, given), theirs) < 1e-5
    assert relative_error(theirs, plain) > 1e-3


@torch.inference_mode()
def test_methods_act_where_the_scale_says() -> None:
    """Two videos, one inside of the window and one outside; and half as strong halfway in time."""
    net, given = made(motion)
    plain = output(net, given).reshape(2, -1)
    with skip.apply(net, RAMP, methods=METHODS):
        tuned = output(net, given).reshape(2, -1)
    times = given | {"timestep": torch.tensor([500, 500])}
    sigmas = torch.tensor([0.5, 5.0]).double()
    window = SkipScale(RAMP.bottom, RAMP.top, window=(1, 9))
    with skip.apply(net, window, sigma_of_timestep=lambda t: sigmas, methods=METHODS):
        found = output(net, times).reshape(2, -1)
        with pytest.raises(RuntimeError, match=r"call unet\(...\)"):
            net.forward(**times)
    assert relative_error(found[0], plain[0]) < 1e-5 and relative_error(found[1], tuned[1]) < 1e-5

    half = SkipScale(time="decreasing", axis="sigma", sigma_min=1, sigma_max=3)
    with skip.apply(net, half, sigma_of_timestep=lambda t: t * 0.0 + 2, methods="freeu:b1=1.4"):
        found = output(net, given)
    with skip.apply(net, SkipScale(), methods="freeu:b1=1.2"):
        assert relative_error(output(net, given), found) < 1e-5


@pytest.mark.parametrize("maker", [cascade, hunyuan, sound, unidiffuser])
def test_methods_need_maps(maker: Callable[[], Made]) -> None:
    net, _ = made(maker)
    with pytest.raises(ValueError, match=r"methods act on the maps .*; a \w+ has none, or"):
        skip.apply(net, SkipScale(), methods="scalelong:kappa=0.9")
    with pytest.raises(ValueError, match="unknown method 'free'"):
        skip.apply(net, SkipScale(), methods="free:b=1")
    with pytest.raises(ValueError, match="'freeu:b1=2' is no method; give a text such as"):
        skip.apply(net, SkipScale(), methods=["freeu:b1=2"])  # type: ignore[list-item]


def test_a_parameter_that_touches_no_skip_is_refused() -> None:
    flat = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    net = diffusers.UNet2DModel(**SMALL | flat | {"block_out_channels": (32,)}, add_attention=False)
    said = r"freeu:s2=0.5 touches no long skip of this UNet2DModel, which has \d, of level 0 "
    with pytest.raises(ValueError, match=said):
        skip.apply(net, SkipScale(), methods="freeu:b1=1.1,s2=0.5")
    assert "_skip_tuning" not in vars(net)
    with skip.apply(net, SkipScale(), methods="freeu:b1=1.1"):
        pass


@torch.inference_mode()
def test_on_a_gpu_nothing_is_waited_for() -> None:
    """Neither by rho and the methods nor by the noise level of a timestep; and no two devices meet."""
    levels = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = diffusers.UNet2DModel(**SMALL | levels, add_attention=False)
    scale = SkipScale(0.9, time="increasing", window=(0.1, 10))
    with fake_cuda() as device:
        net = net.to("cuda")
        given = {
            "sample": torch.zeros(2, 3, 8, 8, device="cuda"),
            "timestep": torch.tensor([5, 500], device="cuda"),
        }
        with skip.apply(net, scale, diffusers.DDIMScheduler(), methods=METHODS):
            net(**given)
            device.waits.clear()
            device.uploads.clear()
            assert net(**given).sample.device.type == "cuda"
        assert device.waits.total() == device.uploads.total() == 0


# ---- the tables


def test_every_model_of_the_table_is_tested() -> None:
    tested = {type(made(maker)[0]).__name__ for maker in CASES} - {"DreamLiteUNetModel"}
    assert tested | {"UNet2DModel", "UNet2DConditionModel"} == set(MODELS)


# The K-blocks of the latent upscaler: the lowest has a place for a skip, and none comes.
UNKNOWN = {"KCrossAttnUpBlock2D", "KUpBlock2D"}


def test_every_block_of_the_library_that_takes_skips_is_in_the_table() -> None:
    """By the arguments of forward in its source; joins outside of a block are Kandinsky3UNet's alone."""
    names = {join.argument for join in BLOCKS.values()} - {"x"}
    found = set()
    for path in Path(diffusers.__path__[0], "models").rglob("*.py"):
        text = path.read_text()
        if not any(f" {name}: " in text or f" {name}=None" in text for name in names):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and names & forward_arguments(node):
                found.add(node.name)
    assert found == (set(BLOCKS) | UNKNOWN) - {"Kandinsky3UpSampleBlock", "SkipBlock"}


def forward_arguments(cls: ast.ClassDef) -> set[str]:
    """Names of the arguments of a class's forward."""
    found = set()
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            found |= {argument.arg for argument in node.args.args}
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda: diffusers.UVit2DModel.__new__(diffusers.UVit2DModel),  # for all its name
        lambda: diffusers.DiTTransformer2DModel.__new__(diffusers.DiTTransformer2DModel),
        lambda: diffusers.ControlNetModel.__new__(diffusers.ControlNetModel),
    ],
)
def test_a_model_without_long_skips_is_refused(make: Callable[[], Any]) -> None:
    net = make()
    torch.nn.Module.__init__(net)
    with pytest.raises(ValueError, match=r"cannot tune the skips of a \w+Model, only of .*Model$"):
        skip.apply(net, RAMP)
