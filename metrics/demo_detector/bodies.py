"""What a demo detector can be made of: its body by name, from images to features.

A new one is a class here and a line of `BODIES` in names.py.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import relu

from dnnlib.keywords import resolved
from metrics.demo_detector import names
from metrics.demo_detector.shape import Shape

FEATURES = 128
NARROWEST = 32  # channels of a stage


class Body(nn.Sequential):
    """Stages, each of which makes the image smaller or deeper, and a head that makes a feature vector of the last one.

    Args:
        stages: modules of [N, C, H, W] to [N, C', H', W'].
        head: modules of the last stage's output to [N, 128].
    """

    def __init__(self, stages: Sequence[nn.Module], head: Sequence[nn.Module]) -> None:
        super().__init__(*stages, *head)
        self._num_stages = len(stages)

    @property
    def stages(self) -> list[nn.Module]:
        """Those before the head, in order."""
        return list(self)[: self._num_stages]


class ConvBody(Body):
    """Convolutions, each with a maximum pool, and a linear layer. For images of 32x32 three convolutions."""

    def __init__(self, shape: Shape) -> None:
        widths = [min(NARROWEST * 2**stage, FEATURES) for stage in range(shape.halvings)]
        # Of 32x32: [N, 32, 16, 16], [N, 64, 8, 8], [N, 128, 4, 4].
        stages = [_pooled(*channels) for channels in pairwise([shape.channels, *widths])]
        area = (shape.height >> shape.halvings) * (shape.width >> shape.halvings)
        linear = nn.Linear(widths[-1] * area, FEATURES, bias=False)
        super().__init__(stages, [nn.Flatten(), linear, nn.BatchNorm1d(FEATURES), nn.ReLU()])


class ResNetBody(Body):
    """A convolution of stride 2, residual blocks, and the mean over pixels. For images of 32x32 seven convolutions.

    Reference: He et al., 2015, https://arxiv.org/abs/1512.03385
    """

    def __init__(self, shape: Shape) -> None:
        last = shape.halvings - 1
        widths = [max(NARROWEST, FEATURES >> (last - stage)) for stage in range(shape.halvings)]
        stem = nn.Sequential(_normed(shape.channels, widths[0], 3, stride=2), nn.ReLU())
        # Of 32x32: [N, 32, 16, 16] twice, [N, 64, 8, 8], [N, 128, 4, 4].
        blocks = [ResidualBlock(widths[0], widths[0], stride=1)]
        blocks += [ResidualBlock(*channels, stride=2) for channels in pairwise(widths)]
        super().__init__([stem, *blocks], [nn.AdaptiveAvgPool2d(1), nn.Flatten()])


class ResidualBlock(nn.Module):
    """relu(f(x) + s(x)): f two convolutions of 3x3, s the identity, or one of 1x1 where the shape changes.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution, and of s.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _normed(inputs, outputs, 3, stride)
        self.second = _normed(outputs, outputs, 3, stride=1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _normed(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        return relu(self.second(relu(self.first(x))) + self.shortcut(x))


def _pooled(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_normed(inputs, outputs, 3, stride=1), nn.ReLU(), nn.MaxPool2d(2))


def _normed(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


BODIES: dict[str, type[ConvBody | ResNetBody]] = resolved(__package__, names.BODIES)
