"""The demo detector: a body that makes features, and one linear layer that tells classes from them."""

import torch
from torch import Tensor, nn

from dnnlib.text import printable
from metrics.demo_detector.bodies import BODIES, FEATURES
from metrics.demo_detector.names import ARCH
from metrics.demo_detector.shape import Shape
from metrics.pixels import check_images

NAME = "demo-fashion-mnist"  # of the bundled one


class DemoDetector(nn.Module):
    """A body, whose output is the feature, and a linear layer for the classes.

    Args:
        sha256: of the file of weights.
        shape: of the images, and how many classes they have.
        name: goes into every result; begins with "demo".
        arch: of the body: a name in `BODIES`.
    Attributes:
        feature_dim, num_logits: 128; the number of classes.
    Raises:
        ValueError: if `arch` is no such name.
    """

    feature_dim = FEATURES

    def __init__(
        self, sha256: str = "", shape: Shape | None = None, name: str = NAME, arch: str = ARCH
    ) -> None:
        super().__init__()
        if arch not in BODIES:
            shown = printable(repr(arch), 80)
            raise ValueError(f"the architecture is {shown}; need {' or '.join(BODIES)}")
        self.sha256, self.shape, self.name, self.arch = sha256, shape or Shape(), name, arch
        self.num_logits = self.shape.classes
        self.body = BODIES[arch](self.shape)
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
