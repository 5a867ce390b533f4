"""What has to work on every kind of device: each case computes one thing there and returns it on the CPU."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import test_networks as networks
import torch
from conftest import fill
from standins_edm2 import fill_edm2
from standins_ldm import write_kl, write_ldm
from standins_openai import written as write_openai
from standins_uvit import write_uvit
from tiny_network import tiny_network
from torch import Tensor, nn

from metrics.authenticity import authentic
from metrics.cmmd import cmmd
from metrics.demo_detector.files import load_demo_detector
from metrics.frechet import frechet
from metrics.gaussian import Gaussian
from metrics.inception import InceptionV3
from metrics.kernel import immd, kid
from metrics.precision_recall import density_coverage, precision_recall
from metrics.statistics import FeatureStatistics
from metrics.vendi import vendi_score
from sampling.denoiser import bind
from sampling.generate import generate
from sampling.guidance import Guided
from sampling.samplers import SAMPLERS, sample
from sampling.settings import SamplerSettings
from sampling.sigmas import SIGMAS
from skip.scale import SkipScale
from skip.tuned import SkipTuned
from training.augment import AUGMENT_DIM
from training.checkpoint import load_network
from training.families.edm2.unet import EDM2Precond
from training.loss import EDMLoss
from training.precond import Precond
from training.run.config import TrainingConfig
from training.run.state import TrainingState
from training.training_loop import training_step

STOCHASTIC = ("euler_a", "dpmpp_sde", "dpmpp_m_sde", "sa_solver")
Case = Callable[[torch.device, Path], Tensor]
Made = TypeVar("Made", bound=nn.Module)
ASSETS = Path(__file__).resolve().parent.parent / "assets" / "demo"


def before_the_device(make: Callable[..., Made], *args: Any, **settings: Any) -> Made:
    """What `make` makes, on the CPU also where CUDA is faked, for which reading files means nothing."""
    with torch.utils._python_dispatch._disable_current_modes(), torch._C.DisableTorchFunction():
        return make(*args, **settings)


def tiny_on(device: torch.device, **settings: Any) -> Precond:
    """A `tiny_network` there."""
    return before_the_device(tiny_network, **settings).to(device)


def asked(
    net: Precond, device: torch.device, batch: int = 3
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Noisy images, noise levels and classes that `net` can be asked about."""
    generator = torch.Generator().manual_seed(1)
    shape = [batch, net.img_channels, net.img_resolution, net.img_resolution]
    x = 2 * torch.randn(shape, generator=generator)
    sigma = torch.linspace(0.5, 3, batch)
    if net.label_dim == 0:
        return x.to(device), sigma.to(device), None
    labels = torch.eye(net.label_dim)[torch.arange(batch) % net.label_dim]
    return x.to(device), sigma.to(device), labels.to(device)


# ---- networks: plain, one rho a layer, one rho a layer and image


def denoised(net: Precond, device: torch.device) -> Tensor:
    """Three answers of one network."""
    net = net.channels_last().to(device)
    x, sigma, labels = asked(net, device)
    rho = torch.linspace(0.6, 1.1, net.num_skips)
    answers = [
        net(x, sigma, labels),
        net(x, sigma, labels, skip_scale=rho),
        net(x, sigma, labels, skip_scale=rho.expand(len(x), -1).to(device)),
    ]
    return torch.stack([answer.cpu() for answer in answers])


def edm_network(name: str) -> Case:
    """One of the golden EDM networks."""
    return lambda device, folder: denoised(before_the_device(networks.build, name), device)


def edm2_network(device: torch.device, folder: Path) -> Tensor:
    def made() -> Precond:
        net = EDM2Precond(
            8,
            3,
            4,
            model_channels=16,
            channel_mult=[1, 2],
            num_blocks=1,
            attn_resolutions=[4],
            channels_per_head=16,
        )
        fill_edm2(net)
        return net.eval()

    return denoised(before_the_device(made), device)


def stored(kind: str, folder: Path) -> Precond:
    """A network of one of the families that are read from files, latent ones with their decoder."""
    if kind == "openai":
        return load_network(write_openai(folder))
    if kind == "ldm":
        write_ldm(folder / "ldm.ckpt")
        return load_network(folder / "ldm.ckpt")
    write_uvit(folder / "uvit.pth")
    write_kl(folder / "kl.ckpt")
    return load_network(folder / "uvit.pth", autoencoder=folder / "kl.ckpt")


def stored_network(kind: str) -> Case:
    """Denoises with one of them."""
    return lambda device, folder: denoised(before_the_device(stored, kind, folder), device)


def decoder(kind: str) -> Case:
    """Decodes with the decoder of one of them."""

    def case(device: torch.device, folder: Path) -> Tensor:
        net = before_the_device(stored, kind, folder).to(device)
        return net.decode(asked(net, device)[0] / 2).cpu()

    return case


# ---- sampling


def solver(name: str) -> Case:
    """One solver, on a denoiser in closed form."""

    def case(device: torch.device, folder: Path) -> Tensor:
        x = 80 * torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)).to(device)
        return sample(SAMPLERS[name], gaussian, x, SIGMAS["edm"](5, 0.002, 80)).cpu()

    return case


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; sigma) of data from N(0, 1)."""
    return x / (1 + sigma.square())


def tuned(device: torch.device, folder: Path) -> Tensor:
    """rho by layer, noise level and window, in the loop of all programs."""
    scale = SkipScale(bottom=0.7, time="decreasing", window=(0.05, 10))
    return images(SkipTuned(tiny_on(device), scale), SamplerSettings(steps=3), device)


def churn(device: torch.device, folder: Path) -> Tensor:
    settings = SamplerSettings(steps=3, S_churn=2)
    return images(tiny_on(device), settings, device)


def images(net: Precond | SkipTuned, settings: SamplerSettings, device: torch.device) -> Tensor:
    """Two batches of pixels, in units of the last digit, from the loop of all programs."""
    return torch.cat(
        [batch.images.cpu().float() for batch in generate(net, settings, range(4), device, 2)]
    )


def consistency(device: torch.device, folder: Path) -> Tensor:
    return images(tiny_on(device), SamplerSettings(sampler="consistency", sigmas="80,2"), device)


def stochastic(name: str) -> Case:
    """A solver of the SDE, in the loop of all programs."""

    def case(device: torch.device, folder: Path) -> Tensor:
        settings = SamplerSettings(sampler=name, steps=4)
        return images(tiny_network().to(device), settings, device)

    return case


def ablation(device: torch.device, folder: Path) -> Tensor:
    settings = SamplerSettings(sampler="ablation", steps=2, schedule="vp", scaling="vp")
    return images(tiny_on(device), settings, device)


def guided(device: torch.device, folder: Path) -> Tensor:
    net = tiny_on(device)
    x, sigma, labels = asked(net, device)
    return Guided(bind(net, labels), bind(net), 1.5)(x.double(), sigma[0]).cpu()


# ---- metrics


def inception(device: torch.device, folder: Path) -> Tensor:
    pixels = torch.randint(
        0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    net = before_the_device(lambda: fill(InceptionV3()).eval()).to(device)
    return torch.cat([part.cpu() for part in net(pixels.to(device))], dim=1)


def demo_detector(device: torch.device, folder: Path) -> Tensor:
    pixels = torch.randint(
        0, 256, (4, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    net = before_the_device(load_demo_detector, ASSETS / "detector.safetensors").to(device)
    return torch.cat([part.cpu() for part in net(pixels.to(device))], dim=1)


def features(device: torch.device) -> tuple[Tensor, Tensor]:
    """Real and generated."""
    generator = torch.Generator().manual_seed(0)
    real, made = torch.randn(2, 60, 5, generator=generator)
    return real.to(device), 0.9 * made.to(device) + 0.2


def statistics(device: torch.device, folder: Path) -> Tensor:
    moments = FeatureStatistics(5, device)
    for part in features(device)[0].split(17):
        moments.update(part)
    result = moments.result()
    return torch.cat([torch.from_numpy(result.mean)[None], torch.from_numpy(result.cov)])


def distance(device: torch.device, folder: Path) -> Tensor:
    """The Frechet distance, its error, and what each image adds to it."""
    both = []
    for name, rows in zip(("real", "made"), features(device), strict=True):
        gathered = FeatureStatistics(5, device)
        gathered.update(rows)
        both.append(Gaussian(gathered.result(), name, device))
    found = frechet(both[1], both[0], features(device)[1])
    assert found.influence is not None and found.error is not None
    return torch.cat([torch.tensor([found.value, found.error]), found.influence.cpu()])


def neighbours(device: torch.device, folder: Path) -> Tensor:
    real, made = features(device)
    return torch.tensor([*precision_recall(real, made), *density_coverage(real, made)])


def kernels(device: torch.device, folder: Path) -> Tensor:
    real, made = features(device)
    return torch.tensor(
        [
            *kid(made, real, subsets=3, subset_size=20),
            immd(made, real, 10.0),
            immd(made, real, None),
        ]
    )


def by_image(device: torch.device, folder: Path) -> Tensor:
    """Metrics of embeddings, their errors, and what each image adds to them."""
    real, made = features(device)
    few = made[:4]  # fewer rows than columns go another way
    parts = [authentic(real, made).double().cpu()]
    for found in (vendi_score(made), vendi_score(few), cmmd(made, real, 1.0)):
        assert found.influence is not None and found.error is not None
        parts.append(torch.tensor([found.value, found.error], dtype=torch.float64))
        parts.append(found.influence.cpu())
    return torch.cat(parts)


# ---- training


def gradients(device: torch.device, folder: Path) -> Tensor:
    """Of EDM's loss at given noise; without dropout, which each device draws for itself."""
    net = tiny_on(device, dropout=0).train().requires_grad_(True)
    x, sigma, labels = asked(net, device)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(device)
    losses = EDMLoss()(net, x.clamp(-1, 1), labels, sigma.reshape(-1, 1, 1, 1), noise)
    losses.mean().backward()
    found = [
        parameter.grad.flatten().cpu()
        for parameter in net.parameters()
        if parameter.grad is not None
    ]
    return torch.cat(found)


def training(dtype: str, augment: float = 0) -> Case:
    """Whether the parameters are finite after two steps, whose draws are the device's own."""

    def case(device: torch.device, folder: Path) -> Tensor:
        net = tiny_on(device, augment_dim=AUGMENT_DIM).train().requires_grad_(True)
        average = copy.deepcopy(net).eval().requires_grad_(False)
        state = TrainingState(net, average, torch.optim.Adam(net.parameters(), lr=1e-3))
        config = TrainingConfig(data="", network={}, batch=3, dtype=dtype, augment=augment)
        x, _, labels = asked(net, device)
        for _ in range(2):
            training_step(config, state, net, EDMLoss(), (x.clamp(-1, 1), labels))
            state.images_seen += 3
        return torch.stack(
            [parameter.isfinite().all().cpu().float() for parameter in net.parameters()]
        )

    return case


CASES: dict[str, Case] = {
    **{
        f"network {name}": edm_network(name)
        for name in ("edm_adm_aug", "edm_ncsnpp", "vp_ddpmpp", "iddpm_adm")
    },
    "network edm2": edm2_network,
    **{f"network {kind}": stored_network(kind) for kind in ("openai", "ldm", "uvit")},
    "decoder vq": decoder("ldm"),
    "decoder kl": decoder("uvit"),
    **{f"solver {name}": solver(name) for name in SAMPLERS},
    "tuned": tuned,
    "churn": churn,
    "consistency": consistency,
    **{f"solver {name}": stochastic(name) for name in STOCHASTIC},
    "ablation": ablation,
    "guidance": guided,
    "detector inception": inception,
    "detector demo": demo_detector,
    "statistics": statistics,
    "kernels": kernels,
    "training float32": training("float32"),
    "training bfloat16": training("bfloat16"),
}
# What fake tensors lack: gradients, and how many values a condition picks.
ON_A_GPU_ONLY: dict[str, Case] = {
    "distance": distance,
    "neighbours": neighbours,
    "metrics by image": by_image,
    "gradients": gradients,
    "training augmented": training("float32", augment=0.5),
}
