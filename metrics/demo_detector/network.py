"""The demo detector: a body that makes features, and one linear layer that tells classes from them."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from metrics.demo_detector.shape import Shape
from metrics.pixels import check_images

NAME = "demo-fashion-mnist"  # of the bundled one


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


class DemoDetector(nn.Module):
    """Convolutions, each with a maximum pool, and two linear layers; the first one's output is the feature.

    The bundled one has three convolutions.

    Args:
        sha256: of the file of weights.
        shape: of the images, and how many classes they have.
        name: goes into every result; begins with "demo".
    Attributes:
        feature_dim, num_logits: 128; the number of classes.
    """

    feature_dim = 128

    def __init__(self, sha256: str = "", shape: Shape | None = None, name: str = NAME) -> None:
        super().__init__()
        self.sha256, self.shape, self.name = sha256, shape or Shape(), name
        self.num_logits = self.shape.classes
        widths = [self.shape.channels] + [
            min(32 * 2**stage, 128) for stage in range(self.shape.stages)
        ]
        stages = [_stage(inputs, outputs) for inputs, outputs in pairwise(widths)]
        height, width = (
            edge >> self.shape.stages for edge in (self.shape.height, self.shape.width)
        )
        self.body = nn.Sequential(
            *stages,  # of the bundled one [N, 32, 16, 16], [N, 64, 8, 8], [N, 128, 4, 4]
            nn.Flatten(),
            nn.Linear(widths[-1] * height * width, self.feature_dim, bias=False),
            nn.BatchNorm1d(self.feature_dim),
            nn.ReLU(),
        )
        self.fc = nn.Linear(self.feature_dim, self.shape.classes)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits.

        Args:
            images: uint8 [N, C, H, W], of its own shape.
        Returns:
            features [N, 128] and logits [N, classes].
        Raises:
            ValueError: if `images` are of another type or shape.
        """
        check_images(images, self.name, channels=(self.shape.channels,))
        own = (self.shape.height, self.shape.width)
        if images.shape[2:] != own:
            height, width = images.shape[2:]
            raise ValueError(
                f"{self.name} reads images of {own[1]}x{own[0]} pixels, not {width}x{height}"
            )
        return self.embed(images)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` with gradients, of grey levels of any type in [0, 255], unchecked."""
        features = self.body(images.float() / 127.5 - 1)
        return features, self.fc(features)
