"""Denoising score-matching losses in pixel and feature space: the paper's Tables 8, 9 and 14.

L_f = E_sigma w(sigma) E_x,n || f(D(x + sigma n; sigma)) - f(x) ||_2^2,  n ~ N(0, I)

`losses` gives the value behind the expectations for each image, so that a mean over images has an error bar.

Reference: Skip-Tuning, section 5.1, https://arxiv.org/abs/2402.15170
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dnnlib.keywords import resolved
from metrics.detector import Detector
from sampling.denoiser import Network, bind
from sampling.generate import to_uint8
from sampling.noise import SeedNoise
from skip import names
from training.loss import edm_weight

FeatureMap = Callable[[Tensor], Tensor]
"""f: images [N, C, H, W] in [-1, 1] (D may lie outside) -> [N, ...], each row from its own image."""

SIGMA_STREAM = 2**31  # added to a seed; a generator of this seed draws the noise level


def draw_sigma(seeds: Sequence[int], P_mean: float = -1.2, P_std: float = 1.2) -> Tensor:
    """One noise level per image, as EDM draws them in training: ln sigma ~ N(P_mean, P_std^2).

    The level comes from its own generator, of seed + 2^31 modulo 2^32. What `SeedNoise(seeds)` draws is independent of
    it, and stays the same whether or not the level is drawn.

    Reference: Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364

    Args:
        seeds: one per image.
        P_mean, P_std: of ln sigma; P_std >= 0.
    Returns:
        float64 [N], on the CPU.
    Raises:
        ValueError: without seeds, or if P_std is negative.
    """
    if not P_std >= 0:
        raise ValueError(f"P_std is {P_std}; a standard deviation must be at least 0")
    z = SeedNoise([seed + SIGMA_STREAM for seed in seeds]).randn([len(seeds)], torch.float64)
    return (P_mean + P_std * z).exp()


def weight(sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """EDM's weight (sigma^2 + s^2) / (sigma s)^2, s = sigma_data, in float64."""
    return edm_weight(sigma.to(torch.float64), sigma_data)


def one(sigma: Tensor) -> Tensor:
    """The weight 1 of every noise level."""
    return torch.ones_like(sigma)


WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = resolved(__package__, names.WEIGHTINGS)


def pixels(x: Tensor) -> Tensor:
    """The image itself: the feature map of L_pixel."""
    return x


def clipped(f: FeatureMap) -> FeatureMap:
    """A feature map of what a picture can show of D: of x cut off at [-1, 1], as `detector_features` is."""
    return lambda x: f(x.clamp(-1, 1))


def detector_features(detector: Detector) -> FeatureMap:
    """The features of a detector, which reads uint8 images: x is first made one by EDM's rule, as generated images are.

    So x is cut off at [-1, 1] and rounded to 1/127.5: an error of D beyond black or white, or below half a grey level,
    may not count. The paper does not say how D reaches its feature networks.

    Args:
        detector: on the device of the images.
    """
    return lambda x: detector(to_uint8(x))[0]


def smooth_features(detector: Detector) -> FeatureMap:
    """The features of a detector with gradients: of grey levels 127.5 (x + 1), neither rounded nor cut off.

    For training; `detector_features` is what generated images undergo.

    Args:
        detector: on the device of the images.
    Raises:
        ValueError: if the detector gives no gradients.
    """
    embed = getattr(detector, "embed", None)
    if embed is None:
        raise ValueError(
            f"{detector.name} gives no gradients; take another one, such as inception-2015-12-05"
        )
    return lambda x: embed(127.5 * (x + 1))[0]


def losses(
    net: Network,
    images: Tensor,
    labels: Tensor | None,
    sigma: Tensor,
    noise: Tensor,
    features: Mapping[str, FeatureMap],
    weighting: str = "edm",
    check_finite: bool = True,
) -> dict[str, Tensor]:
    """w(sigma) || f(D(x + sigma n; sigma)) - f(x) ||_2^2 of each image x, for each feature map f.

    The norm is the paper's: squares are summed, not averaged, over all entries of a feature. The network runs once,
    whatever the number of feature maps; it computes in float32, the rest in float64. Gradients flow to the network
    where they are enabled.

    Args:
        net: the denoiser D, plain or Skip-Tuned.
        images: x [N, C, H, W] in [-1, 1].
        labels: one-hot [N, L], or None.
        sigma: noise level of each image [N], > 0; such as from `draw_sigma`.
        noise: n, of the shape of the images; such as SeedNoise(seeds).randn(images.shape).
        features: name -> f.
        weighting: "edm" for w = `weight`, or "one" for w = 1.
        check_finite: refuse what is not; without, the losses are NaN or infinite: in training all ranks must agree.
    Returns:
        name -> float64 [N], on the device of the images.
    Raises:
        ValueError: if shapes do not fit, a noise level is not positive, or the weighting is unknown.
        RuntimeError: if the network returns NaN or infinity.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {weighting!r}; choose from {', '.join(WEIGHTINGS)}")
    N = len(images)
    if noise.shape != images.shape:
        raise ValueError(
            f"noise of shape {list(noise.shape)} for images {list(images.shape)}; draw one value a pixel"
        )
    if sigma.shape != (N,):
        raise ValueError(
            f"sigma of shape {list(sigma.shape)} for {N} images; give one level per image"
        )
    if labels is not None and len(labels) != N:
        raise ValueError(f"{len(labels)} labels for {N} images; give one per image")
    sigma = sigma.to(images.device, torch.float64)
    if not (valid := (sigma > 0) & sigma.isfinite()).all():
        raise ValueError(
            f"sigma holds {sigma[~valid][0]:g}; a noise level must be positive and finite"
        )

    x = images.to(torch.float64)
    D = bind(net, labels)(x + sigma.reshape(-1, 1, 1, 1) * noise.to(x), sigma)
    # Rounding to uint8 would hide it.
    if check_finite and not (finite := D.flatten(1).isfinite().all(1)).all():
        raise RuntimeError(
            f"the network returned NaN or infinity at sigma = {sigma[~finite][0]:g}: check its weights"
        )
    w = WEIGHTINGS[weighting](sigma)
    return {name: w * _squared_distance(f(D), f(x)) for name, f in features.items()}


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_i||_2^2 of each row: [N, ...] -> float64 [N]."""
    return (a.to(torch.float64) - b.to(torch.float64)).square().flatten(1).sum(1)
