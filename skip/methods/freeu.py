"""FreeU: stronger backbone features, and long skips with weaker low frequencies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from skip.methods.method import per_image

LEVELS = {"b1": 0, "s1": 0, "b2": 1, "s2": 1}  # where each parameter acts


@dataclass(frozen=True)
class FreeU:
    r"""FreeU at the two lowest levels of the decoder; the others stay as they are.

    u_c <- a u_c in the first half of the channels,
        version 1   a = b
        version 2   a = 1 + (b - 1) (m - min m) / (max m - min m),  m [H, W] the mean of u over its channels
    d <- d + (s - 1) L d,  L d = Re of d's Fourier components of frequencies 0 and -1 in each direction

    b1 and s1 are of level 0, the lowest resolution; b2 and s2 of level 1. The components, which others find by an FFT,
    are two products with matrices here, so every size works in every precision. A map of one value (or one pixel) has
    no structure, and version 2 leaves it. A U-ViT has level 0 alone.

    Reference: Si et al., FreeU, 2023, https://arxiv.org/abs/2309.11497

    Args:
        b1, b2: factors on the backbone.
        s1, s2: factors on the skips' low frequencies.
        version: 1 or 2, see above.
    """

    title: ClassVar[str] = "FreeU"
    b1: float = 1.0
    b2: float = 1.0
    s1: float = 1.0
    s2: float = 1.0
    version: Literal[1, 2] = 1

    @property
    def is_identity(self) -> bool:
        """See `SkipMethod`."""
        return {self.b1, self.b2, self.s1, self.s2} == {1}

    def reaches(self, parameter: str, levels: Sequence[int]) -> bool:
        """See `SkipMethod`."""
        return LEVELS[parameter] in levels

    def join(
        self, u: Tensor, d: Tensor, layer: int, levels: Sequence[int], strength: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `SkipMethod`."""
        b, s = {0: (self.b1, self.s1), 1: (self.b2, self.s2)}.get(levels[layer], (1.0, 1.0))
        if b != 1:
            u = self._amplified(u, per_image(b, strength, u))
        if s != 1:
            d = d + (per_image(s, strength, d) - 1) * low_frequencies(d)
        return u, d

    def _amplified(self, u: Tensor, b: Tensor) -> Tensor:
        half = torch.arange(u.shape[1], device=u.device).reshape(1, -1, 1, 1) < u.shape[1] // 2
        if self.version == 1:
            return u * torch.where(half, b, 1)

        mean = u.mean(1, keepdim=True)
        low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
        structure = (mean - low) / torch.where(high > low, high - low, 1)
        return u * torch.where(half, 1 + (b - 1) * structure, 1)


@dataclass(frozen=True)
class FreeU2(FreeU):
    """FreeU whose backbone factor follows the structure of the features: version 2."""

    title: ClassVar[str] = "FreeU 2"
    version: Literal[1, 2] = 2


def low_frequencies(d: Tensor) -> Tensor:
    r"""Re of the part of d whose frequencies are 0 or -1 in each direction, in the dtype of d.

    With P[y, y'] = 1/n sum_f exp(2 pi i f (y - y') / n) over these f:  Re(P d P^T) = Re P d Re P^T - Im P d Im P^T.

    Args:
        d: maps [N, C, H, W].
    """
    wide = d.to(torch.float32)
    rows_re, rows_im = _projection(d.shape[-2], d.device)
    columns_re, columns_im = _projection(d.shape[-1], d.device)
    return (rows_re @ wide @ columns_re.T - rows_im @ wide @ columns_im.T).to(d.dtype)


def _projection(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """P [n, n] of `low_frequencies`, its real and imaginary part."""
    y = torch.arange(n, dtype=torch.float32, device=device)
    angle = 2 * math.pi / n * (y[:, None] - y)
    constant = torch.full_like(angle, 1 / n)
    if n == 1:  # both frequencies are one
        return constant, torch.zeros_like(angle)
    return constant + angle.cos() / n, -angle.sin() / n
