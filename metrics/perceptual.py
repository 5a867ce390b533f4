"""A distance of images by what a feature network sees in them, for training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from metrics.demo_detector.network import DemoDetector
from metrics.demo_detector.shape import RESOLUTION
from metrics.detector import load_detector

BUNDLED_SHAPE = (1, RESOLUTION, RESOLUTION)  # channels, height and width: the clothes'


def check_bundled(shape: tuple[int, ...], flag: str, instead: str) -> None:
    """Refuse images of another shape than the bundled detector reads.

    Args:
        shape: of the images.
        flag: that asks for it, with its value.
        instead: the way out.
    Raises:
        ValueError: for another shape.
    """
    if shape != BUNDLED_SHAPE:
        read, these = ("x".join(map(str, one)) for one in (BUNDLED_SHAPE, shape))
        raise ValueError(f"{flag} reads {read} images; these are {these}: {instead}")


class Perceptual:
    r"""d(a, b) = mean (a - b)^2 + sum over stages of the mean over pixels of ||u(a) - u(b)||^2.

    u are a stage's features, scaled to length 1 at each pixel: LPIPS with all weights 1, and the images themselves as
    another stage. A network that was trained with it looks good to metrics that use the same features.

    Reference: Zhang et al., 2018, Eq. 1, https://arxiv.org/abs/1801.03924

    Args:
        stages: each takes the former one's output, the first one images in [-1, 1].
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        self.stages = stages

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of each pair of images: [N, C, H, W] twice to [N]."""
        total = (a - b).square().flatten(1).mean(1)
        for stage in self.stages:
            a, b = stage(a), stage(b)
            total = total + (normalize(a) - normalize(b)).square().sum(1).flatten(1).mean(1)
        return total


def demo_perceptual(detector: DemoDetector) -> Perceptual:
    """The distance by the stages of a demo detector, of the bundled one three convolutions, for images of its shape."""
    return Perceptual(detector.body.stages)


def bundled_perceptual(device: torch.device) -> Perceptual:
    """The distance by the bundled detector, for images of BUNDLED_SHAPE."""
    detector = load_detector("demo", device)
    assert isinstance(detector, DemoDetector)
    return demo_perceptual(detector)
