"""Guidance: away from what a second denoiser says, towards what the first one says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sampling.denoiser import Denoiser, Network, bind


class Guided:
    r"""A denoiser that extrapolates from a guide to the main one.

    D(x; sigma) = D_guide + scale (D_main - D_guide)

    Classifier-free guidance: the guide is the same network without the class label (or with its null class), or an
    unconditional network. Autoguidance: the guide is a smaller or less trained network with the same label. Guiding a
    noise prediction instead gives the same D, because D = x - sigma * eps at equal x and sigma. U-ViT's release writes
    eps + 0.4 (eps - eps_guide), which is scale 1.4. Without its class a network is a guide only if it was trained so
    at times; EDM's own networks were not.

    Wrap each of the two in `Counted` to count network calls: every call of this one is a call of both.

    Reference: Ho and Salimans, 2022 (whose w is scale - 1), https://arxiv.org/abs/2207.12598; autoguidance: Karras et
    al., 2024, https://arxiv.org/abs/2406.02507

    Args:
        main: the denoiser of the images that are wanted.
        guide: the weaker one; called with the same x and sigma, and not at all where scale is 1.
        scale: 1 is the main denoiser alone, 0 the guide, more than 1 guidance.
    Raises:
        ValueError: if scale is not finite.
    """

    def __init__(self, main: Denoiser, guide: Denoiser, scale: float) -> None:
        check_scale(scale)
        self.main, self.guide, self.scale = main, guide, scale

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise `x` [N, C, H, W] at noise level `sigma`."""
        D = self.main(x, sigma)
        if self.scale == 1:
            return D
        D_guide = self.guide(x, sigma)
        return D_guide + self.scale * (D - D_guide)


class GuidedByItself:
    r"""The same with the network itself, without the class, as the guide: one call on a batch of twice the images.

    Two calls on half as many leave a GPU idle between them; a CPU is busy either way.

    Args:
        net: net(x, sigma, class_labels), where labels of zeros are no class.
        labels: one-hot [N, L].
        scale: as in `Guided`.
    """

    def __init__(self, net: Network, labels: Tensor, scale: float) -> None:
        check_scale(scale)
        self.denoise, self.scale = bind(net, torch.cat([labels, torch.zeros_like(labels)])), scale

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise `x` [N, C, H, W] at noise level `sigma`."""
        D, D_guide = self.denoise(torch.cat([x, x]), sigma).chunk(2)
        return D_guide + self.scale * (D - D_guide)


@dataclass(frozen=True)
class Guidance:
    """How images are guided.

    Args:
        scale: of `Guided`; 1 is none, and the guide is then not called.
        guide: the weaker network; None is the network itself, as it is (so Skip-Tuned where it is), without the class.
        interval: (low, high): guidance only where low < sigma <= high, and elsewhere the network alone; None is
            everywhere. Reference: Kynkaanniemi et al., 2024, https://arxiv.org/abs/2404.07724
    Raises:
        ValueError: if scale is not finite, or the interval is empty.
    """

    scale: float = 1.0
    guide: Any = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.interval is not None:
            check_interval(self.interval)

    def acts(self, levels: Sequence[float]) -> list[bool]:
        """At which noise levels the guide is asked."""
        if self.scale == 1 or self.interval is None:
            return [self.scale != 1] * len(levels)
        found: list[bool] = inside(
            torch.tensor(levels, dtype=torch.float64), self.interval
        ).tolist()
        return found


class AtCalls:
    """One denoiser in some of its calls, and another in the others, as is known before: no device is waited for.

    Args:
        inside, outside: the two.
        calls: for each call, whether it is `inside`'s.
    """

    def __init__(self, inside: Denoiser, outside: Denoiser, calls: Sequence[bool]) -> None:
        self.inside, self.outside, self._calls = inside, outside, iter(calls)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise `x` [N, C, H, W] at noise level `sigma`."""
        return (self.inside if next(self._calls) else self.outside)(x, sigma)


def inside(sigma: Tensor, interval: tuple[float, float]) -> Tensor:
    """Whether low < sigma <= high, as the network is told of noise levels: in float32; bool, of the shape of sigma."""
    low, high = (float(np.float32(end)) for end in interval)
    level = sigma.to(torch.float32)
    return (low < level) & (level <= high)


def check_interval(interval: tuple[float, float]) -> None:
    """Refuse an interval of noise levels without any.

    Raises:
        ValueError: naming it.
    """
    if len(interval) != 2 or not 0 <= interval[0] < interval[1]:
        shown = ",".join(f"{level:g}" for level in interval)
        raise ValueError(
            f"the noise levels of guidance are {shown}; need LOW,HIGH with 0 <= LOW < HIGH, such as 0.3,5"
        )


def check_scale(scale: float) -> None:
    """Refuse a guidance scale that is NaN or infinite.

    Raises:
        ValueError: naming it.
    """
    if not math.isfinite(scale):
        raise ValueError(
            f"the guidance scale is {scale}; it must be a finite number, 1 for no guidance"
        )
