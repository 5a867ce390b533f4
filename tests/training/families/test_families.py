"""Every family of networks behaves as any other: loaded by its file, stored, sampled and Skip-Tuned alike."""

import copy
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import standins_ldm
import standins_uvit
import torch
from conftest import relative_error
from standins_edm2 import edm2_snapshot, fill_edm2
from standins_ldm import write_ldm
from standins_openai import written as openai
from standins_uvit import write_uvit
from tiny_network import tiny_network
from torch.overrides import TorchFunctionMode

from sampling.generate import check_guidance
from sampling.samplers import SOLVERS, sample
from sampling.settings import SamplerSettings
from skip.methods.freeu import FreeU, FreeU2
from skip.methods.scalelong import ScaleLong
from skip.scale import SkipScale
from skip.source import ImageSource
from skip.tuned import SkipTuned
from training.checkpoint import load_network, save_network
from training.families.edm2.unet import EDM2Precond
from training.families.latent.autoencoder import VQDecoder
from training.families.ldm.unet import LDMUNet
from training.families.table import FAMILIES
from training.families.uvit.network import UViT
from training.networks import SKIP_TARGETS
from training.precond import EDMPrecond, Precond


def edm2(folder: Path, channels: int = 3) -> Path:
    net = EDM2Precond(
        8,
        channels,
        4,
        model_channels=16,
        channel_mult=[1, 2],
        num_blocks=1,
        attn_resolutions=[4],
        channels_per_head=16,
    )
    fill_edm2(net)
    path = folder / "edm2.pkl"
    path.write_bytes(edm2_snapshot(net, dtype=torch.float32))
    return path


def edm2_of_latents(folder: Path) -> Path:
    return edm2(folder, channels=4)


def ldm(folder: Path) -> Path:
    path = folder / "model.ckpt"
    write_ldm(path)
    return path


def uvit(folder: Path) -> Path:
    path = folder / "uvit.pth"
    write_uvit(path)
    return path


def uvit_of_images(folder: Path) -> Path:
    path = folder / "imagenet64_uvit_tiny.pth"
    write_uvit(path, in_chans=3, null_class=False)
    return path


def edm(folder: Path) -> Path:
    path = folder / "edm.safetensors"
    save_network(tiny_network(), path)
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "EDMPrecond": edm,
    "ConsistencyPrecond": openai,
    "EDM2Precond": edm2,
    "EDM2LatentPrecond": edm2_of_latents,
    "LDMPrecond": ldm,
    "UViTPrecond": uvit,
    "UViTImagePrecond": uvit_of_images,
}
# Two levels of two decoder blocks each; half of six blocks.
NUM_SKIPS = dict.fromkeys(FILES, 4) | {"UViTPrecond": 3, "UViTImagePrecond": 3}


@cache
def loaded(kind: str) -> Precond:
    """The network of a file of this family, for copies."""
    with tempfile.TemporaryDirectory() as folder:
        return load_network(FILES[kind](Path(folder)))


@pytest.fixture(params=FILES)
def net(request: pytest.FixtureRequest) -> Any:
    assert type(loaded(request.param)) is FAMILIES[request.param]
    return copy.deepcopy(loaded(request.param))


def inputs(net: Any, N: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    shape = (N, net.img_channels, net.img_resolution, net.img_resolution)
    generator = torch.Generator().manual_seed(0)
    sigma = net.round_sigma(torch.tensor([0.5, 2.0, 8.0][:N]))
    x = torch.randn(shape, generator=generator) * sigma.reshape(-1, 1, 1, 1)
    labels = torch.eye(net.label_dim)[torch.arange(N) % net.label_dim] if net.label_dim else None
    return x.float(), sigma.float(), labels


@torch.inference_mode()
def test_shapes_and_noise_levels(net: Any) -> None:
    x, sigma, labels = inputs(net)
    D = net(x, sigma, labels)
    assert D.shape == x.shape and D.dtype == torch.float32 and D.isfinite().all()
    for i in range(3):
        row = slice(i, i + 1)
        alone = net(x[row], sigma[i], None if labels is None else labels[row])
        assert relative_error(alone, D[row]) < 1e-5
    if type(net).__name__ in ("ConsistencyPrecond", "UViTImagePrecond"):  # as their authors' code
        with pytest.raises(ValueError, match='none of them is "no class": give labels'):
            net(x, sigma, None)
        with pytest.raises(ValueError, match=r"guidance 2 is asked for, .*as its guide"):
            check_guidance(net, 2.0, None, torch.tensor([2.0, 1.0]))
    else:
        assert net(x, sigma, None).shape == x.shape
    assert net.num_skips == NUM_SKIPS[type(net).__name__] and 0 <= net.sigma_min < net.sigma_max


@torch.inference_mode()
def test_rho(net: Any) -> None:
    x, sigma, labels = inputs(net)
    plain = net(x, sigma, labels)
    ones, some = torch.ones(net.num_skips), torch.linspace(0.5, 0.9, net.num_skips)
    assert torch.equal(net(x, sigma, labels, None), plain)
    assert torch.equal(net(x, sigma, labels, ones), plain)
    assert torch.equal(SkipTuned(net, SkipScale())(x, sigma, labels), plain)
    tuned = net(x, sigma, labels, some)
    assert relative_error(tuned, plain) > 1e-6
    rows = torch.stack([ones, some, some])
    mixed = net(x, sigma, labels, rows)
    assert relative_error(mixed[:1], plain[:1]) < 1e-5
    assert relative_error(mixed[1:], tuned[1:]) < 1e-5
    with pytest.raises(ValueError, match=str(net.num_skips)):
        net(x, sigma, labels, torch.ones(net.num_skips + 1))


@torch.inference_mode()
def test_methods_on_the_skips(net: Any) -> None:
    x, sigma, labels = inputs(net)
    plain = net(x, sigma, labels)

    # A method that only scales is what a coefficient of each layer is; but a U-ViT's tokens of time and class stay.
    falling = torch.tensor([0.7**i for i in range(net.num_skips)]).flip(0)
    by_method = SkipTuned(net, SkipScale(), methods=[ScaleLong(0.7)])(x, sigma, labels)
    alike = 0.1 if type(net).__name__ in ("UViTPrecond", "UViTImagePrecond") else 1e-5
    assert relative_error(by_method, net(x, sigma, labels, falling)) < alike

    levels = net.skip_levels
    assert len(levels) == net.num_skips and levels[0] == 0 and list(levels) == sorted(levels)
    for method in (FreeU(b1=1.3), FreeU(s1=0.5), FreeU2(b1=1.3), FreeU(b2=1.3), FreeU(s2=0.5)):
        if max(levels) == 0 and method in (FreeU(b2=1.3), FreeU(s2=0.5)):
            with pytest.raises(
                ValueError, match=r"freeu:.2=.* touches no long skip of this network"
            ):
                SkipTuned(net, SkipScale(), methods=[method])
            continue
        changed = SkipTuned(net, SkipScale(), methods=[method])(x, sigma, labels)
        assert changed.isfinite().all() and relative_error(changed, plain) > 1e-6

    # Where the window does not reach, and where all factors are 1, the network is as it was.
    some = SkipScale(window=(0.0, 3.0))
    rows = SkipTuned(net, some, methods=[FreeU2(b1=1.3, s1=0.5)])(x, sigma, labels)
    assert relative_error(rows[2:], plain[2:]) < 1e-5
    assert relative_error(rows[:2], plain[:2]) > 1e-6
    assert torch.equal(SkipTuned(net, SkipScale(), methods=[FreeU()])(x, sigma, labels), plain)


@pytest.mark.parametrize("target", SKIP_TARGETS)
@torch.inference_mode()
def test_a_target_that_a_network_lacks_is_refused_before_it_runs(
    net: Any, target: str, tmp_path: Path
) -> None:
    x, sigma, labels = inputs(net)
    save_network(net, tmp_path / "net")
    source = ImageSource(str(tmp_path / "net"), scale=SkipScale(0.8), skip_target=target)  # type: ignore[arg-type]
    if target == "full" or type(net).__name__ not in (
        "EDM2Precond",
        "EDM2LatentPrecond",
        "UViTPrecond",
        "UViTImagePrecond",
    ):
        source.load("cpu")
        assert net(x, sigma, labels, torch.ones(net.num_skips), target).isfinite().all()
        return
    with pytest.raises(ValueError, match=target):
        source.load("cpu")
    with pytest.raises(ValueError, match=target):
        net(x, sigma, labels, torch.ones(net.num_skips), target)


@torch.inference_mode()
def test_half_precision(net: Any) -> None:
    """Layers that do not follow the dtype of their input would fail, on a GPU only where the file asks for it."""
    x, sigma, labels = inputs(net)
    plain = net(x, sigma, labels)
    half = net.set_dtype(torch.bfloat16)(x, sigma, labels, torch.ones(net.num_skips))
    assert half.dtype == torch.float32 and relative_error(half, plain) < 0.1


def test_gradients_reach_rho(net: Any) -> None:
    x, sigma, labels = inputs(net)
    rho = torch.full([net.num_skips], 0.8, requires_grad=True)
    net(x, sigma, labels, rho).square().mean().backward()
    assert rho.grad is not None and (rho.grad != 0).all()


@torch.inference_mode()
def test_every_sampler_takes_it(net: Any) -> None:
    """Every solver with times that are rounded and with any; the others see no more of a network than these."""
    x, _, labels = inputs(net, 1)
    tuned = SkipTuned(net, SkipScale(0.8))
    every = type(net).__name__ in ("LDMPrecond", "EDMPrecond")
    for name in SOLVERS if every else ("heun", "unipc", "dpmpp"):
        settings = SamplerSettings(
            sampler=name, steps=4, order=2 if "order" in SOLVERS[name].names else None
        )

        def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return tuned(x.float(), sigma.float(), labels).double()

        noise = x / x.std()
        images = sample(
            settings.bound(tuned, torch.randn_like), denoise, noise, settings.nodes(tuned), "zero"
        )
        assert images.shape == x.shape and images.isfinite().all()


@torch.inference_mode()
def test_stored_and_loaded_again(net: Any, tmp_path: Path) -> None:
    save_network(net, tmp_path / "again.safetensors")
    again = load_network(tmp_path / "again.safetensors")
    x, sigma, labels = inputs(net)
    assert torch.equal(again(x, sigma, labels), net(x, sigma, labels))


@pytest.mark.parametrize("write", [openai, uvit])
def test_the_order_of_the_tensors_does_not_matter(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path)
    net = load_network(path)
    tensors = torch.load(path, weights_only=True)
    torch.save(dict(sorted(tensors.items(), reverse=True)), path)
    again = load_network(path)
    assert all(
        torch.equal(value, net.state_dict()[name]) for name, value in again.state_dict().items()
    )


@pytest.mark.parametrize("name", FILES)
def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=path.name):
        load_network(path)


class Called(TorchFunctionMode):
    """Keeps the names of torch's functions that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.__name__)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    "make",
    [
        lambda: EDMPrecond(16, 1, model_channels=16, channel_mult=[1], num_blocks=1),
        lambda: EDM2Precond(
            16, 1, model_channels=16, channel_mult=[1], num_blocks=1, channels_per_head=16
        ),
        lambda: UViT(**standins_uvit.TINY),
        lambda: LDMUNet(**standins_ldm.TINY),
        lambda: VQDecoder(**standins_ldm.VQ),
    ],
    ids=["edm", "edm2", "uvit", "ldm", "vq"],
)
def test_a_skeleton_is_made_without_torchs_compiler(make: Callable[[], object]) -> None:
    """On the meta device these import it, which takes a second of each start; in place, as `mul_`, they do not."""
    with Called() as drew:
        make()
    with torch.device("meta"), Called() as called:
        make()
    assert drew.names & {"rand", "randn"} and "empty" in called.names
    slow = {"rand", "randn", "mul", "add", "sub", "rsub", "normal_"}
    assert not called.names & slow
