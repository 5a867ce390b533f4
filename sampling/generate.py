"""From seeds to images: the one loop that every program samples with."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sampling.denoiser import Counted, Denoiser, Finite, bind
from sampling.guidance import AtCalls, Guidance, Guided, GuidedByItself, check_scale
from sampling.names import Labels
from sampling.noise import DrawnAhead, Draws, SeedNoise, first_draws
from sampling.samplers import sample
from sampling.settings import SamplerSettings


class ImageNetwork(Protocol):
    """A network that denoises images, or latents of images, of one shape, plain or Skip-Tuned."""

    img_channels: int
    img_resolution: int
    label_dim: int
    sigma_min: float
    sigma_max: float

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level the network knows."""
        ...

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """D(x; sigma)."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] of what it denoises."""
        ...


@dataclass(frozen=True)
class Batch:
    """Generated images.

    Attributes:
        images: uint8 [N, C, H, W] on the device that made them.
        classes: one class index per image, empty for an unconditional network.
        seeds: one per image.
        nfe: network evaluations per image, counted; with guidance those of the guide too.
    """

    images: Tensor
    classes: list[int]
    seeds: list[int]
    nfe: int


def generate(
    net: ImageNetwork,
    settings: SamplerSettings,
    seeds: Sequence[int],
    device: torch.device | str,
    batch_size: int = 64,
    labels: Labels = "random",
    class_idx: int | None = None,
    noise_device: torch.device | str | None = None,
    guidance: Guidance | None = None,
    one_size: bool = False,
) -> Iterator[Batch]:
    """Yield generated images, batch by batch, in the order of the seeds.

    An image depends on its seed and the settings alone, never on its batch (up to the rounding of batched arithmetic).

    Args:
        net: the network, on `device`.
        settings: solver and noise levels.
        seeds: one per image, 0 or more.
        device: where the network is.
        batch_size: images at a time.
        labels: "random": each image's class is drawn from its seed, as EDM does; "balanced": seed modulo classes.
        class_idx: the class of every image instead.
        noise_device: of the random draws; None is the CPU, so that an image is the same on every device.
        guidance: None is none. A guide is on `device`, and asked for the same class, which an unconditional one ignores.
        one_size: fill the last batch up with images that are thrown away: a compiled network compiles anew for each
            size, and bits do not depend on how many seeds there are.
    Raises:
        ValueError: if a setting or the guide does not fit the network.
        RuntimeError: if the network returns NaN or infinity.
    """
    check_labels(net, labels, class_idx)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    make = ImageMaker(net, settings, device, guidance)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(seeds), batch_size):
            part = list(seeds[start : start + batch_size])
            asked = part + part[-1:] * (batch_size - len(part)) if one_size else part
            drawn = first_draws(asked, make.shape, net.label_dim, labels, class_idx, noise_device)
            images, nfe = make(drawn)
            yield Batch(images[: len(part)], drawn.classes[: len(part)], part, nfe)

    return batches()


class ImageMaker:
    """Images of a network, sampled from what seeds drew.

    Args:
        net: the network, on `device`.
        settings: solver and noise levels.
        device: where the network is.
        guidance: None is none.
    Raises:
        ValueError: if a setting or the guide does not fit the network.
    """

    def __init__(
        self,
        net: ImageNetwork,
        settings: SamplerSettings,
        device: torch.device | str,
        guidance: Guidance | None = None,
    ) -> None:
        self._net, self._settings, self._device = net, settings, device
        self._nodes = settings.nodes(net)
        levels = settings.evaluated(net)  # refuses now what the solver would refuse later
        self._guidance = guidance or Guidance()
        check_guidance(net, self._guidance.scale, self._guidance.guide, self._nodes)
        self._guided_calls = self._guidance.acts(levels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the noise of one image: [C, H, W]."""
        return self._net.img_channels, self._net.img_resolution, self._net.img_resolution

    def __call__(self, drawn: Draws) -> tuple[Tensor, int]:
        """The images, uint8 [N, C, H, W] on the device, and the network evaluations of each.

        Args:
            drawn: noise and classes; its generators draw what the sampler needs later.
        Raises:
            RuntimeError: if the network returns NaN or infinity.
        """
        net, settings = self._net, self._settings
        noise = drawn.noise.to(self._device)
        one_hots = None
        if drawn.classes:
            labels = one_hot(torch.tensor(drawn.classes), net.label_dim)
            one_hots = labels.float().to(self._device)

        denoise = _Watched(net, one_hots, self._guidance, self._guided_calls, noise.device)
        with torch.inference_mode(), _churn_noise(drawn.random, noise.device) as randn_like:
            sampler = settings.bound(net, randn_like)
            x = sample(sampler, denoise, noise, self._nodes, settings.ending)
            images = to_uint8(net.decode(x))
            denoise.check()  # the one place where the device is waited for
        return images, denoise.nfe


class _Watched:
    """What is sampled with: the network, guided or not, its evaluations counted and its values looked at."""

    def __init__(
        self,
        net: ImageNetwork,
        labels: Tensor | None,
        guidance: Guidance,
        guided_calls: Sequence[bool],
        device: torch.device,
    ) -> None:
        self._finite: list[Finite] = []
        self._counted: list[tuple[int, Counted]] = []  # evaluations in a call, and what is called
        alone = self._watch(bind(net, labels))
        self._denoise = alone
        if not any(guided_calls):
            return

        guide = guidance.guide
        guided: Denoiser
        if guide is None and labels is not None and device.type != "cpu":
            guided = self._watch(GuidedByItself(net, labels, guidance.scale), evaluations=2)
        else:
            weaker = self._watch(bind(net) if guide is None else bind(guide, labels))
            guided = Guided(alone, weaker, guidance.scale)
        self._denoise = guided if all(guided_calls) else AtCalls(guided, alone, guided_calls)

    def _watch(self, denoise: Denoiser, evaluations: int = 1) -> Denoiser:
        self._finite.append(Finite(denoise))
        self._counted.append((evaluations, Counted(self._finite[-1])))
        return self._counted[-1][1]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._denoise(x, sigma)

    @property
    def nfe(self) -> int:
        """Evaluations of an image, of the network and of the guide."""
        return sum(evaluations * counted.nfe for evaluations, counted in self._counted)

    def check(self) -> None:
        """Wait for the device, and raise RuntimeError if a value was not finite."""
        for finite in self._finite:
            finite.check()


@contextlib.contextmanager
def _churn_noise(random: SeedNoise, device: torch.device) -> Iterator[Callable[[Tensor], Tensor]]:
    """What draws the noise of each step: ahead of time if the CPU draws while another device computes."""
    if device.type == "cpu" or random.device.type != "cpu":
        yield random.randn_like
        return
    with DrawnAhead(random) as ahead:
        yield ahead


def check_labels(net: ImageNetwork, labels: str, class_idx: int | None) -> None:
    """Refuse classes that the network does not have.

    Raises:
        ValueError: naming what it has.
    """
    if labels not in get_args(Labels):
        raise ValueError(f"unknown labels {labels!r}; choose from {', '.join(get_args(Labels))}")
    if net.label_dim == 0 and (labels == "balanced" or class_idx is not None):
        asked = "balanced labels are" if class_idx is None else f"class {class_idx} is"
        raise ValueError(f"{asked} asked for, but the network is unconditional: it has no classes")
    if class_idx is not None and not 0 <= class_idx < net.label_dim:
        raise ValueError(
            f"class {class_idx} is asked for, but the network has classes 0 to {net.label_dim - 1}"
        )


def check_guidance(
    net: ImageNetwork, scale: float, guide: ImageNetwork | None, nodes: Tensor
) -> None:
    """Refuse guidance that a network cannot have.

    Args:
        net: the network.
        scale: of the guidance, 1 for none.
        guide: the weaker network; None is `net` itself without the class.
        nodes: the noise levels, decreasing.
    Raises:
        ValueError: naming what does not fit.
    """
    check_scale(scale)
    if scale == 1:
        return

    if guide is None:
        if net.label_dim == 0:
            raise ValueError(
                f"guidance {scale:g} is asked for, but the network is unconditional: it has no class to leave out; "
                "name a weaker network as its guide"
            )
        if not getattr(net, "has_no_class", True):
            raise ValueError(
                f"guidance {scale:g} is asked for, but the network was trained with classes only, and none of them is "
                '"no class": name a weaker network as its guide'
            )
        return

    for what in ("img_channels", "img_resolution"):
        if getattr(guide, what) != getattr(net, what):
            raise ValueError(
                f"the guide has {what} {getattr(guide, what)}, the network {getattr(net, what)}; they must be equal"
            )

    if guide.label_dim not in (0, net.label_dim):
        raise ValueError(f"the guide has {guide.label_dim} classes, the network {net.label_dim}")

    high, low = float(nodes[0]), float(nodes[-1])
    if low < guide.sigma_min * (1 - 1e-9) or high > guide.sigma_max * (1 + 1e-9):
        raise ValueError(
            f"the noise levels run from {high:g} to {low:g}, but the guide knows those between "
            f"{guide.sigma_min:g} and {guide.sigma_max:g}"
        )


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] to 0 ... 255, by EDM's rule: x * 127.5 + 128, clipped and truncated."""
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8)
