"""What every family's blocks that take a long skip have in common, for whoever observes the skips."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# What is done to u and d before a block joins them: (layer, deepest first; u and d [N, C, H, W]) -> u and d, new ones.
SkipJoin = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


class SkipBlock(nn.Module):
    """A block that joins features u with a long skip d: cat([u, rho d]).

    Its forward has, by these names, the arguments x (u), skip (d, or None where no skip comes in) and skip_scale (rho,
    a scalar tensor or one per image [N], or None for 1), so that a forward hook sees them. The blocks of a network run
    deepest layer first.

    Attributes:
        channel_axis: of u and d, along which they are joined.
    """

    channel_axis = 1

    def joined_weight(self) -> Tensor:
        """The weight [out, C_u + C_d, ...], as it is used, of the first linear map that reads cat([u, rho d])."""
        raise NotImplementedError(
            f"{type(self).__name__} does not tell the weight that reads its long skip"
        )


def scaled(skip: Tensor, scale: Tensor | float | None) -> Tensor:
    """rho d, in the dtype of d.

    Args:
        skip: d [N, ...].
        scale: rho, a scalar or one per image [N]; None leaves d as it is.
    """
    if scale is None:
        return skip
    rho = torch.as_tensor(scale, dtype=skip.dtype, device=skip.device)
    return skip * rho.reshape(-1, *[1] * (skip.ndim - 1))
