"""ScaleLong: long skips scaled down exponentially with their depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from skip.methods.method import per_image


@dataclass(frozen=True)
class ScaleLong:
    r"""Constant scaling: the i-th long skip from the outside is multiplied by kappa^(i - 1), i = 1 .. k.

    The outermost skip stays as it is and the deepest has kappa^(k - 1). It was made for training; here a trained
    network gets it. (Its 1 / sqrt(2) for every skip is the same rho in every layer.)

    Reference: Huang et al., ScaleLong, 2023, https://arxiv.org/abs/2310.13545

    Args:
        kappa: the base; 1 leaves the network as it is.
    """

    title: ClassVar[str] = "ScaleLong"
    kappa: float = 1.0

    @property
    def is_identity(self) -> bool:
        """See `SkipMethod`."""
        return self.kappa == 1

    def reaches(self, parameter: str, levels: Sequence[int]) -> bool:
        """See `SkipMethod`: the outermost skip stays as it is."""
        return len(levels) > 1

    def join(
        self, u: Tensor, d: Tensor, layer: int, levels: Sequence[int], strength: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `SkipMethod`."""
        factor = self.kappa ** (len(levels) - 1 - layer)
        return u, d * per_image(factor, strength, d)
