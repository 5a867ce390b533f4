"""What a method that acts on long skips is, and several of them as one."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from torch import Tensor


class SkipMethod(Protocol):
    """A frozen dataclass of numbers, 1 (or nothing) in each of which leaves the network as it is.

    Attributes:
        title: its name in tables.
    """

    title: ClassVar[str]

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every network as it is."""

    def reaches(self, parameter: str, levels: Sequence[int]) -> bool:
        """Whether a parameter acts on any of the long skips of a network.

        Args:
            parameter: its name.
            levels: as of `join`.
        """

    def join(
        self, u: Tensor, d: Tensor, layer: int, levels: Sequence[int], strength: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What becomes of u and d before a block joins them; neither is changed in place.

        Args:
            u: features [N, C, H, W].
            d: long skip [N, C', H, W].
            layer: of the decoder, 0 the deepest.
            levels: of all long skips, deepest layer first, as `net.skip_levels` tells.
            strength: from 0, as if the method were not there, to 1: a scalar or one per image [N], on u's device.
        Returns:
            u and d.
        """


class Joins:
    """Methods, one after the other, as what a network does before it joins its long skips.

    Args:
        methods: in their order.
        levels, strength: see `SkipMethod.join`.
    """

    def __init__(
        self, methods: Sequence[SkipMethod], levels: Sequence[int], strength: Tensor
    ) -> None:
        self.methods, self.levels, self.strength = methods, levels, strength

    def __call__(self, layer: int, u: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """u and d, as all methods leave them."""
        for method in self.methods:
            u, d = method.join(u, d, layer, self.levels, self.strength)
        return u, d


def per_image(factor: float, strength: Tensor, like: Tensor) -> Tensor:
    """1 + (factor - 1) strength, in the dtype of `like` and to be multiplied with it: [1, 1, 1, 1] or [N, 1, 1, 1]."""
    return (1 + (factor - 1) * strength).to(like.dtype).reshape(-1, 1, 1, 1)
