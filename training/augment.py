"""Non-leaking augmentation: images are transformed, and the network is told how."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AUGMENT_DIM = 9

# Low-pass filter of the orthogonal wavelet sym6: Daubechies' least asymmetric one with six vanishing moments
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip


@dataclass(frozen=True)
class Transformations:
    """What is done to each of N images, in the order of the attributes; 0 is nothing.

    Attributes:
        mirror_x, mirror_y: 1 if left and right, up and down are mirrored: [N].
        scale: both sides by 2^(0.2 scale): [N].
        turn: counter-clockwise angle: [N].
        stretch, along: by 2^(0.2 stretch) along an angle, and by the inverse across it: [N], [N].
        shift: to the right and down, in eighths of the side: [N, 2].
    """

    mirror_x: Tensor
    mirror_y: Tensor
    scale: Tensor
    turn: Tensor
    stretch: Tensor
    along: Tensor
    shift: Tensor

    def labels(self) -> Tensor:
        """What the network is told: [N, 9]."""
        return torch.stack(
            [
                self.mirror_x, self.mirror_y, self.scale, self.turn.cos() - 1, self.turn.sin(),
                self.stretch * self.along.cos(), self.stretch * self.along.sin(), self.shift[:, 0], self.shift[:, 1],
            ], dim=1,
        )  # fmt: skip

    def source(self) -> Tensor:
        """[N, 2, 3]: where in [-1, 1]^2 an output position (x, y, 1) comes from: the inverse of all but mirroring."""
        linear = _scaling(-self.scale, -self.scale) @ _rotation(-self.turn)
        linear = (
            linear
            @ _rotation(self.along)
            @ _scaling(-self.stretch, self.stretch)
            @ _rotation(-self.along)
        )
        return torch.cat([linear, linear @ -(self.shift[:, :, None] / 4)], dim=2)  # the side is 2

    def apply(self, images: Tensor) -> Tensor:
        """The transformed images, of the shape of `images` [N, C, H, H], which are not changed in place."""
        mirrored = torch.stack([self.mirror_x, self.mirror_y]).to(images.device, non_blocking=True)
        flip = mirrored[:, :, None, None, None] > 0
        images = torch.where(flip[0], images.flip(3), images)
        images = torch.where(flip[1], images.flip(2), images)
        moved = (
            (self.scale != 0) | (self.turn != 0) | (self.stretch != 0) | (self.shift != 0).any(1)
        )
        if moved.any():
            source = self.source()[moved].to(images.device, non_blocking=True)
            rows = moved.nonzero()[:, 0].to(images.device, non_blocking=True)
            images[rows] = _resample(images[rows], source)
        return images


@dataclass(frozen=True)
class Augmentation:
    r"""Random geometric transformations, each with its parameters as a label; at sampling the label is zero.

    In this order, a_i drawn anew for each image (n: standard normal, u: uniform on [-1, 1]):

        transformation           probability   parameters         label
        mirror left and right    1/2           -                  1 if mirrored
        mirror up and down       p / 2         -                  1 if mirrored
        scale both sides         p             2^(0.2 n)          n
        rotate                   p             pi u               cos - 1, sin
        scale along an angle     p             2^(0.2 n), pi u    n cos, n sin    (the angle is 0 in half the cases)
        shift                    p             n1 / 8, n2 / 8     n1, n2          (of the image's side)

    A transformation that is not drawn has the label 0. (That of a stretch is also that of a squeeze half a turn
    further: so it is in EDM, whose networks have learned it so.) Mirroring is exact; the others are composed into one
    affine map, sampled bilinearly at twice the resolution, to and from which the wavelet filter sym6 leads; the image
    goes on beyond its border as its reflection. Transformations, probabilities, labels and filter are those of EDM's
    training; the random draws are not.

    Reference: Karras et al., 2022, Appendix F.2 and Table 6, https://arxiv.org/abs/2206.00364; Karras et al., 2020,
    https://arxiv.org/abs/2006.06676

    Args:
        probability: p, between 0 and 1.
    Raises:
        ValueError: if p is not.
    """

    probability: float = 0.12

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(
                f"the augment probability is {self.probability}; it must lie between 0 and 1"
            )

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Transform each image in its own way.

        Args:
            images: [N, C, H, H], in any range; not changed in place.
            generator: of the draws, which are made on its device; on a CPU, so that nothing has to wait for another
                one.
        Returns:
            Images of the same shape, and labels [N, 9].
        """
        drawn = self.draw(images.shape[0], generator)
        return drawn.apply(images), drawn.labels().to(images.device, non_blocking=True)

    def draw(self, count: int, generator: torch.Generator) -> Transformations:
        """Transformations of `count` images, see the class."""

        def chosen(probability: float) -> Tensor:
            return (
                torch.rand([count], generator=generator, device=generator.device) < probability
            ).float()

        def normal(*shape: int) -> Tensor:
            return torch.randn([count, *shape], generator=generator, device=generator.device)

        def angle() -> Tensor:
            return math.pi * (
                2 * torch.rand([count], generator=generator, device=generator.device) - 1
            )

        p = self.probability
        return Transformations(
            mirror_x=chosen(0.5),
            mirror_y=chosen(0.5 * p),
            scale=chosen(p) * normal(),
            turn=chosen(p) * angle(),
            stretch=chosen(p) * normal(),
            along=chosen(0.5) * angle(),
            shift=chosen(p)[:, None] * normal(2),
        )


def _rotation(angle: Tensor) -> Tensor:
    """[N, 2, 2] turning (x, y) counter-clockwise as it is seen, y pointing down."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, s, -s, c], dim=1).reshape(-1, 2, 2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    """[N, 2, 2] scaling by 2^(0.2 x) and 2^(0.2 y)."""
    return torch.diag_embed(2 ** (0.2 * torch.stack([x, y], dim=1)))


def _resample(images: Tensor, source: Tensor) -> Tensor:
    """Images whose pixel at position v, in [-1, 1]^2, shows position source @ (v, 1).

    The filter's middle is half a step of the doubled grid before the middle of its taps: so the grid lies there too.
    """
    C, H, taps = images.shape[1], images.shape[2], len(SYM6)
    low = torch.tensor(SYM6, dtype=images.dtype).to(images.device, non_blocking=True)
    kernel = low.outer(low).expand(C, 1, taps, taps)
    wide = F.pad(images, [H - 1] * 4, mode="reflect")
    twice = F.conv_transpose2d(wide, kernel, stride=2, padding=taps // 2 - 1, groups=C)
    # Of the doubled grid: values that the last filter reads, and their distance.
    side, step = (2 * H + taps - 2, 1 / H)
    linear, offset = source[:, :, :2], source[:, :, 2:]
    offset = offset + (linear.sum(2, keepdim=True) - 1) * step / 2
    theta = torch.cat([linear * (side / (2 * H)), offset], dim=2) * (H / wide.shape[2])
    grid = F.affine_grid(theta, [len(images), C, side, side], align_corners=False)
    moved = F.grid_sample(twice, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.conv2d(moved, kernel, stride=2, groups=C)
