"""Non-leaking augmentation: images are transformed, and the network is told how."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AUGMENT_DIM = 9


@dataclass(frozen=True)
class Augmentation:
    r"""Random geometric transformations, each with its parameters as a label; at sampling the label is zero.

    In this order, a_i drawn anew for each image (n: standard normal, u: uniform on [-1, 1]):

        transformation           probability   parameters         label
        mirror left and right    1/2           -                  1 if mirrored
        mirror up and down       p / 2         -                  1 if mirrored
        scale both sides         p             2^(0.2 n)          n
        rotate                   p             pi u               cos - 1, sin
        scale along an angle     p             2^(0.2 n), pi u    n cos, n sin
        shift                    p             n1 / 8, n2 / 8     n1, n2    (of the image's side)

    A transformation that is not drawn has the label 0. (That of a stretch is also that of a squeeze half a turn
    further: so it is in EDM, whose networks have learned it so.) Mirroring is exact; the others are composed into one
    affine map, sampled at twice the resolution with a bicubic kernel, the image going on beyond its border as its
    reflection, and averaged over 2 x 2. (EDM's own code filters with wavelets instead; the transformations and labels
    are the same.)

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
            raise ValueError(f"the augment probability is {self.probability}; it must lie between 0 and 1")

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Transform each image in its own way.

        Args:
            images: [N, C, H, H], in any range; not changed in place.
            generator: of the draws, which are made on its device.
        Returns:
            Images of the same shape, and labels [N, 9].
        """
        N, device = images.shape[0], generator.device

        def chosen(probability: float) -> Tensor:
            return (torch.rand([N], generator=generator, device=device) < probability).float()

        def normal(*shape: int) -> Tensor:
            return torch.randn([N, *shape], generator=generator, device=device)

        def angle() -> Tensor:
            return math.pi * (2 * torch.rand([N], generator=generator, device=device) - 1)

        p = self.probability
        mirror_x, mirror_y = chosen(0.5), chosen(0.5 * p)
        scale = chosen(p) * normal()
        turn = chosen(p) * angle()
        stretch, along = chosen(p) * normal(), angle()
        shift = chosen(p)[:, None] * normal(2)

        labels = torch.stack(
            [
                mirror_x, mirror_y, scale, turn.cos() - 1, turn.sin(),
                stretch * along.cos(), stretch * along.sin(), shift[:, 0], shift[:, 1],
            ], dim=1,
        )  # fmt: skip
        # Where an output pixel comes from: the inverse of shift . stretch . turn . scale.
        source = _scaling(-scale, -scale) @ _rotation(-turn)
        source = source @ _rotation(along) @ _scaling(-stretch, stretch) @ _rotation(-along)
        source = torch.cat([source, source @ -(shift[:, :, None] / 4)], dim=2)  # side 2 in grid_sample's units
        moved = labels[:, 2:].abs().sum(1) > 0

        labels, source, moved = (x.to(images.device) for x in (labels, source, moved))
        flip = labels[:, :2, None, None, None] > 0
        images = torch.where(flip[:, 0], images.flip(3), images)
        images = torch.where(flip[:, 1], images.flip(2), images)
        if moved.any():
            images[moved] = _resample(images[moved], source[moved])
        return images, labels


def _rotation(angle: Tensor) -> Tensor:
    """[N, 2, 2] turning (x, y) counter-clockwise as it is seen, y pointing down."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, s, -s, c], dim=1).reshape(-1, 2, 2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    """[N, 2, 2] scaling by 2^(0.2 x) and 2^(0.2 y)."""
    return torch.diag_embed(2 ** (0.2 * torch.stack([x, y], dim=1)))


def _resample(images: Tensor, source: Tensor) -> Tensor:
    """Images whose pixel at position v, in [-1, 1]^2, shows position source @ (v, 1)."""
    N, C, H, W = images.shape
    grid = F.affine_grid(source, [N, C, 2 * H, 2 * W], align_corners=False)
    twice = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(twice, 2)
