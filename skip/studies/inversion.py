"""Inversion (Table 13): from images back to noise, and how far that noise is from N(0, I)."""

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from metrics.kernel import IMQ, RBF, Kernel, Laplace, Polynomial, median_distance
from metrics.kernel_groups import GroupedKernel
from sampling.denoiser import Finite, bind
from sampling.generate import ImageNetwork
from sampling.noise import SeedNoise
from sampling.samplers import invert as invert_batch
from sampling.settings import SamplerSettings

RBF_MULTIPLES = (0.5, 1.0, 2.0)
STATISTICS = {"unbiased": True, "v": False}
GROUPS = 20  # of images, each left out once; their error is known to about 1 / sqrt(2 * 19), 16%


def invert(
    net: ImageNetwork,
    images: Tensor,
    class_labels: Tensor | None,
    settings: SamplerSettings,
    batch_size: int = 64,
) -> Tensor:
    r"""The noise that the probability-flow ODE of `net` leads back to the images.

    dx/dsigma = (x - D(x; sigma)) / sigma from x(sigma_min) = images up to sigma_max;  noise = x(sigma_max) / sigma_max

    The paper starts at time 0, where the right side is 0 / 0. Here the images are the state at the lowest node, from
    which no noise is subtracted or added; below it the ODE hardly moves: for data of standard deviation s by a factor
    of sqrt(1 + (sigma_min / s)^2), which is 1.000008 for 0.002 and 0.5.

    Reference: Skip-Tuning, section 5.4 and Eq. 4, https://arxiv.org/abs/2402.15170

    Args:
        net: a network, plain or Skip-Tuned, on the device of the images.
        images: floating point [N, C, H, W] in [-1, 1].
        class_labels: one-hot [N, L]; None for an unconditional network.
        settings: a solver without churn and its nodes, climbed from the lowest. Between N nodes lie N - 1 steps:
            `ending`, the step below the lowest node, plays no part.
        batch_size: images at a time.
    Returns:
        Noise, float64 [N, C, H, W].
    Raises:
        ValueError: if images, labels or a setting do not fit the network, or the solver cannot climb.
        RuntimeError: if the network returns NaN or infinity.
    """
    shape = (net.img_channels, net.img_resolution, net.img_resolution)
    if not images.is_floating_point():
        raise ValueError(
            f"the images are {images.dtype}; give them as floats in [-1, 1]: uint8 / 127.5 - 1"
        )
    if images.shape[1:] != shape or len(images) == 0:
        raise ValueError(
            f"the images have shape {list(images.shape)}; this network inverts {['N', *shape]}, N > 0"
        )

    labels_shape = None if class_labels is None else list(class_labels.shape)
    if labels_shape != ([len(images), net.label_dim] if net.label_dim else None):
        needed = (
            f"one-hot {[len(images), net.label_dim]}"
            if net.label_dim
            else "None, as it has no classes"
        )
        raise ValueError(f"the class labels have shape {labels_shape}; this network needs {needed}")

    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")

    nodes = settings.nodes(net)
    noise = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            denoise = Finite(bind(net, None if class_labels is None else class_labels[part]))
            noise.append(
                invert_batch(settings.bound(net, torch.randn_like), denoise, images[part], nodes)
            )
            denoise.check()

    return torch.cat(noise)


def noise_kernels(dim: int) -> dict[str, Kernel]:
    """The kernels that inverted noise is judged by; the paper names none.

    rbf_F: Gaussian, F times the median distance wide; laplace and imq: one median distance wide (laplace: of the sums
    of absolute differences); polynomial: KID's cubic. The medians are of 500 rows of N(0, I), the same ones at every
    call: a kernel depends on the dimension, not on rho or a seed.

    Args:
        dim: d, of the flattened noise, at least 1.
    Returns:
        The kernels by name.
    """
    rows = SeedNoise([0]).randn([1, 500, dim], torch.float64)[0]  # (500, d)
    median, median_l1 = (median_distance(rows[:250], rows[250:], norm) for norm in (2, 1))
    kernels: dict[str, Kernel] = {
        f"rbf_{multiple:g}": RBF(multiple * median) for multiple in RBF_MULTIPLES
    }
    return kernels | {"laplace": Laplace(median_l1), "polynomial": Polynomial(), "imq": IMQ(median)}


class Distance(NamedTuple):
    """How far noise is from Gaussian: of all of it, and without each group of it and of what it is compared with."""

    value: float
    without: tuple[float, ...]


def gaussian_distances(
    noise: Tensor,
    seed: int,
    kernels: Mapping[str, Kernel] | None = None,
    draws: int = 1,
    groups: int = GROUPS,
) -> dict[str, Distance]:
    """MMD^2 between the noise and fresh draws of N(0, I), their mean, in both forms of `metrics.kernel.mmd2`.

    The unbiased form (the paper's Eq. 6) is around 0 for true noise, and then often negative; the V-statistic never is.
    Without a group are the rows of it of the noise and of every draw. As row i of the noise and rows i of the draws are
    independent of all others, a jackknife over groups has the variance of the images and of the fresh noise in it.

    Reference: Skip-Tuning, Appendix B, https://arxiv.org/abs/2402.15170

    Args:
        noise: [N, ...], from `invert`.
        seed: of the fresh noise; the same seed gives the same draws, whatever `noise` holds, and more draws continue
            fewer.
        kernels: by name; None is `noise_kernels`.
        draws: how many times to draw, at least 1.
        groups: of consecutive rows, 2 to N.
    Returns:
        "<kernel>_unbiased" and "<kernel>_v" of every kernel.
    Raises:
        ValueError: if `draws` is below 1, there are fewer rows than groups or than 3, or a value is not finite.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; it must be at least 1")
    x = noise.flatten(1)
    kernels = noise_kernels(x.shape[1]) if kernels is None else kernels
    random = SeedNoise([seed])
    fresh = [random.randn([1, *x.shape], torch.float64)[0].to(x.device) for _ in range(draws)]

    found = {}
    for name, kernel in kernels.items():
        drawn = [GroupedKernel.of(x, y, kernel, groups) for y in fresh]
        for form, unbiased in STATISTICS.items():
            value, *without = (
                fmean(one.mmd2(unbiased, left) for one in drawn) for left in (None, *range(groups))
            )
            found[f"{name}_{form}"] = Distance(value, tuple(without))
    return found
